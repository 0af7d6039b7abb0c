"""Batch endpoints and their deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azbatchwrap.local.aml import names
from azbatchwrap.local.arm.errors import bad_request, conflict
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


def prepare(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    names.check(rid)
    properties = document["properties"]
    if before is None and _is_taken(arm, rid, str(document["location"])):
        raise conflict(
            f"The endpoint name {rid.name} is already taken in the region {document['location']}: names of batch "
            f"endpoints are unique in their region.",
            "EndpointNameAlreadyTaken",
        )
    chosen = (properties.get("defaults") or {}).get("deploymentName")
    if chosen and arm.resources.find(rid.child("deployments", chosen)) is None:
        raise bad_request(f"The deployment {chosen} does not exist on the endpoint {rid.name}.", "DeploymentNotFound")
    properties["defaults"] = {"deploymentName": chosen}
    properties["authMode"] = properties.get("authMode") or "AADToken"
    properties.setdefault("properties", {})
    return document


def _is_taken(arm: Arm, rid: ResourceId, location: str) -> bool:
    found = arm.resources.below("/subscriptions", f"{names.WORKSPACE}/batchEndpoints")
    return any(each["name"].lower() == rid.name.lower() and each["location"] == location for each in found)


def show(arm: Arm, document: Document) -> Document:
    address = f"{arm.url}/endpoints{document['id']}"
    properties = document["properties"] | {"scoringUri": f"{address}/jobs", "swaggerUri": f"{address}/swagger.json"}
    return document | {"properties": properties}


def prepare_deployment(_arm: Arm, rid: ResourceId, document: Document, _before: Document | None) -> Document:
    names.check(rid)
    return document


SCORING: list[Route] = []
