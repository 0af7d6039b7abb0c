"""Workspaces. A deleted one keeps its name until it is recovered or purged."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import datastores, names
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.names import TENANT_ID
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: What a workspace rests on: property -> whether it must be given.
_DEPENDENCIES = {"storageAccount": True, "keyVault": True, "applicationInsights": False, "containerRegistry": False}


def prepare(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    names.check(rid)
    properties = document["properties"]
    _check_dependencies(arm, properties)
    # The SDK's template sends the word, and for whoever wants none of it as well.
    recovers = str(properties.pop("allowRecoverSoftDeletedWorkspace", False)).lower() == "true"
    deleted = arm.store.load("deleted-workspace", rid.key) if before is None else None
    if deleted is not None and not recovers:
        raise conflict("Soft-deleted workspace exists. Please purge or recover it. https://aka.ms/wsoftdelete")
    before = before or deleted
    kept = (before or {}).get("properties", {})
    for name in ("storageAccount", "keyVault"):
        if kept.get(name, properties[name]).lower() != properties[name].lower():
            raise bad_request(f"{name} of a workspace cannot be changed.", "BadRequest")
    if deleted is not None:
        _recover(arm, rid, deleted)
    properties["workspaceId"] = kept.get("workspaceId") or str(uuid.uuid4())
    properties["friendlyName"] = properties.get("friendlyName") or rid.name
    properties["publicNetworkAccess"] = properties.get("publicNetworkAccess") or "Enabled"
    properties["creationTime"] = kept.get("creationTime") or timestamp()
    properties["tenantId"] = TENANT_ID
    document["kind"] = document.get("kind") or "Default"
    document["identity"] = _identity(document.get("identity"), (before or {}).get("identity"))
    if before is None:
        datastores.make_defaults(arm, rid, properties)
    return document


def _recover(arm: Arm, rid: ResourceId, deleted: Document) -> None:
    """Bring back what lay in a deleted workspace."""
    arm.store.drop("deleted-workspace", rid.key)
    for child in deleted["_children"]:
        arm.resources.save(child)


def _check_dependencies(arm: Arm, properties: dict[str, Any]) -> None:
    for name, is_required in _DEPENDENCIES.items():
        target = properties.get(name)
        if not target:
            if is_required:
                raise bad_request(f"Missing dependent resources in workspace json: {name}.", "ValidationError")
            properties.pop(name, None)
        elif arm.resources.find(ids.parse(str(target))) is None:
            raise bad_request(f"The dependent resource {target} ({name}) was not found.", "ValidationError")


def _identity(given: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any]:
    kind = (given or {}).get("type") or "SystemAssigned"
    identity: dict[str, Any] = {"type": kind, "tenantId": TENANT_ID}
    if "system" in kind.lower():
        identity["principalId"] = (before or {}).get("principalId") or str(uuid.uuid4())
    if (given or {}).get("userAssignedIdentities"):
        identity["userAssignedIdentities"] = (given or {})["userAssignedIdentities"]
    return identity


def show(arm: Arm, document: Document) -> Document:
    place = f"{document['id']}".lstrip("/")
    properties = document["properties"] | {
        "discoveryUrl": f"{arm.url}/discovery",
        "mlFlowTrackingUri": f"azureml://127.0.0.1:{arm.settings.port}/mlflow/v1.0/{place}",
        "softDeletedAt": "",
        "storageHnsEnabled": False,
    }
    return document | {"properties": properties}


def removed(arm: Arm, rid: ResourceId, document: Document) -> None:
    """Kept for a recovery, unless its deletion asked to purge it."""
    if not document.get("_purge"):
        arm.store.save("deleted-workspace", rid.key, document)


def purge(arm: Arm, rid: ResourceId) -> bool:
    was_kept = arm.store.load("deleted-workspace", rid.key) is not None
    arm.store.drop("deleted-workspace", rid.key)
    return was_kept


def _list_keys(arm: Arm, request: Request) -> Answer:
    rid = ids.parse(request.path.rpartition("/")[0])
    properties = arm.resources.require(rid)["properties"]
    return Answer(200, {"userStorageResourceId": properties["storageAccount"], "appInsightsInstrumentationKey": ""})


def _deleted(arm: Arm, request: Request) -> Answer:
    """Deleted workspaces that can be recovered."""
    found = [
        {name: value for name, value in document.items() if not name.startswith("_")}
        for _, document in arm.store.below("deleted-workspace", f"/subscriptions/{request.names[0].lower()}/")
    ]
    return Answer(200, {"value": found})


def _discovery(arm: Arm, _request: Request) -> Answer:
    """The addresses of the workspace's services."""
    services = (
        "api",
        "catalog",
        "experimentation",
        "gallery",
        "history",
        "hyperdrive",
        "labeling",
        "modelmanagement",
        "pipelines",
        "studio",
    )
    return Answer(200, dict.fromkeys(services, arm.url))


ROUTES: list[Route] = [("POST", "/workspaces/{}/listKeys", _list_keys)]
SUBSCRIPTION_ROUTES: list[Route] = [("GET", "/deletedWorkspaces", _deleted)]
DISCOVERY: list[Route] = [("GET", "/discovery", _discovery)]
