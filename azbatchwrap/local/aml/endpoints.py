"""Batch endpoints and their deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import assets, names
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document

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


def prepare_deployment(arm: Arm, rid: ResourceId, document: Document, _before: Document | None) -> Document:
    """A pipeline component, or a model with its scoring script: what it names must exist."""
    names.check(rid)
    properties = document["properties"]
    workspace = names.workspace_of(rid)
    configuration = properties.get("deploymentConfiguration")
    if configuration:
        component = (configuration.get("componentId") or {}).get("assetId")
        settings = configuration.get("settings") or {}
        configuration["settings"] = settings
        _check_compute(arm, workspace, settings.get("default_compute"))
        references = [component]
    else:
        code = properties.get("codeConfiguration") or {}
        references = [
            (properties.get("model") or {}).get("assetId"),
            code.get("codeId"),
            properties.get("environmentId"),
        ]
        _check_compute(arm, workspace, properties.get("compute"))
    for reference in references:
        if not reference:
            raise bad_request(
                "The deployment names no pipeline component, or no model, code and environment.", "BadArgument"
            )
        try:
            assets.find_version(arm, workspace, str(reference))
        except ArmError as error:
            raise bad_request(f"The deployment {rid.name}: {error.message}", "BadArgument") from None
    return document


def _check_compute(arm: Arm, workspace: ResourceId, compute: Any) -> None:
    """``compute`` is a name, an ARM id or nothing. Raises ArmError when there is no such compute."""
    if not compute or str(compute).lower() == "serverless":
        return
    text = str(compute).removeprefix("azureml:")
    rid = ids.parse(text) if text.startswith("/") else workspace.child("computes", text)
    if arm.resources.find(rid) is None:
        raise bad_request(f"The compute {compute} does not exist.", "BadArgument")
