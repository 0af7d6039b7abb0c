"""Datastores: where in which storage account something lies. Every account is the instance's Azurite (see accounts.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.accounts import note_container, storage_key, want_container
from azbatchwrap.local.arm.errors import bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route
from azbatchwrap.names import CONTAINER_PATTERN

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: Where jobs leave what has no other place.
DEFAULT = "workspaceblobstore"
#: Secrets stay with the service: `listSecrets` alone shows them.
_SECRETS = {"AccountKey": "key", "Sas": "sasToken", "ServicePrincipal": "clientSecret"}


def prepare(arm: Arm, rid: ResourceId, document: Document, _before: Document | None) -> Document:
    names.check(rid)
    properties = document["properties"]
    if properties.get("datastoreType") == "AzureBlob":
        container = str(properties.get("containerName") or "")
        if not properties.get("accountName") or not CONTAINER_PATTERN.match(container):
            raise bad_request(
                f"The datastore {rid.name} needs an accountName and a valid containerName.", "BadArgument"
            )
        note_container(arm, str(properties["accountName"]), container)
        properties.setdefault("endpoint", "core.windows.net")
        properties.setdefault("protocol", "https")
    elif not properties.get("datastoreType"):
        raise bad_request("The datastoreType is missing.", "BadArgument")
    credentials = properties.setdefault("credentials", {"credentialsType": "None"})
    kind = credentials.get("credentialsType")
    if kind in _SECRETS and not (credentials.get("secrets") or {}).get(_SECRETS[kind]):
        raise bad_request(f"The credentials of the datastore {rid.name} lack the {_SECRETS[kind]}.", "BadArgument")
    properties["isDefault"] = rid.name == DEFAULT
    properties.setdefault("tags", {})
    return document


def show(_arm: Arm, document: Document) -> Document:
    properties = dict(document["properties"])
    properties["credentials"] = {name: value for name, value in properties["credentials"].items() if name != "secrets"}
    return document | {"properties": properties}


def make_defaults(arm: Arm, workspace: ResourceId, properties: dict[str, Any]) -> None:
    """The datastores that every workspace has from its first moment."""
    account = ids.parse(str(properties["storageAccount"])).name
    secrets = {"secretsType": "AccountKey", "key": storage_key(arm)}
    containers = {DEFAULT: f"azureml-blobstore-{properties['workspaceId']}", "workspaceartifactstore": "azureml"}
    for name, container in containers.items():
        want_container(arm, account, container)
        rid = workspace.child("datastores", name)
        document: Document = {
            "id": rid.text,
            "name": name,
            "type": f"{names.WORKSPACE}/datastores",
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": account,
                "containerName": container,
                "credentials": {"credentialsType": "AccountKey", "secrets": secrets},
            },
            "systemData": {},
        }
        arm.resources.save(prepare(arm, rid, document, None))


def _list(arm: Arm, request: Request) -> Answer:
    workspace = ids.parse(request.path.rpartition("/")[0])
    arm.resources.require(workspace)
    found = [arm.resources.show(each) for each in arm.resources.below(workspace.key, f"{names.WORKSPACE}/datastores")]
    wanted = request.query.get("isdefault", "").lower()
    if wanted:
        found = [each for each in found if each["properties"]["isDefault"] == (wanted == "true")]
    return page(request, found)


def _list_secrets(arm: Arm, request: Request) -> Answer:
    credentials = arm.resources.require(ids.parse(request.path.rpartition("/")[0]))["properties"]["credentials"]
    secrets = credentials.get("secrets")
    if not secrets:
        raise bad_request("The datastore has no secrets.", "BadArgument")
    return Answer(200, {"secretsType": credentials["credentialsType"], **secrets})


ROUTES: list[Route] = [
    ("GET", "/workspaces/{}/datastores", _list),
    ("POST", "/workspaces/{}/datastores/{}/listSecrets", _list_secrets),
]
