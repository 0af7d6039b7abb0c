"""Operations on a pool's autoscale formula."""

from __future__ import annotations

from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.service import Service


def enable(service: Service, request: Request) -> Response:
    raise BatchError("OperationNotValidOnPool")


def disable(service: Service, request: Request) -> Response:
    raise BatchError("OperationNotValidOnPool")


def evaluate(service: Service, request: Request) -> Response:
    raise BatchError("OperationNotValidOnPool")
