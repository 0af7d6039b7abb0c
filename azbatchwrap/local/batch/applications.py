"""Applications as Batch nodes and clients see them; they are made through the management side."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response, entity
from azbatchwrap.local.batch.lists import answer
from azbatchwrap.local.batch.service import Service


def _view(application: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": application["id"]}
    if application.get("displayName"):
        shown["displayName"] = application["displayName"]
    shown["versions"] = sorted(application["versions"])
    return shown


def list_all(service: Service, request: Request) -> Response:
    return answer(
        request,
        "listapplicationsummariesresponses",
        service.applications.values(),
        lambda application: application["id"].lower(),
        view=_view,
    )


def find(service: Service, request: Request) -> Response:
    application = service.applications.get(request.path[0].lower())
    if application is None:
        raise BatchError("ApplicationNotFound")
    return entity(request, "getapplicationsummaryresponse", _view(application))
