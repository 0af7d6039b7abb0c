"""Assets with versions: codes, components, environments, models, data. A version does not change once it is made."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.accounts import note_container
from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document, ResourceType
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: kind -> what a version must have.
KINDS = {
    "codes": "codeUri",
    "components": "componentSpec",
    "environments": "",
    "models": "modelUri",
    "data": "dataUri",
}
#: The long form of an asset's address: ``//locations/L/workspaces/W/data/NAME/versions/1``, or ``…/labels/latest``.
_LONG = re.compile(r"//.*/([a-z]+)/([^/]+)/(versions|labels)/([^/]+)\Z", re.IGNORECASE)
#: What may be changed of a version.
_CHANGEABLE = {"tags", "description", "isArchived", "properties", "isAnonymous", "provisioningState", "stage"}


def types() -> list[ResourceType]:
    found = []
    for kind in KINDS:
        found.append(ResourceType(f"{names.WORKSPACE}/{kind}", is_slow=False, is_tracked=False, show=_show_container))
        found.append(
            ResourceType(
                f"{names.WORKSPACE}/{kind}/versions",
                is_slow=False,
                is_tracked=False,
                makes_parent=True,
                prepare=_prepare,
            )
        )
    return found


def _show_container(arm: Arm, document: Document) -> Document:
    """An asset's container tells which version is the latest, and which a client should choose next."""
    versions = [str(each["name"]) for each in arm.resources.below(str(document["id"]), f"{document['type']}/versions")]
    highest = max((int(name) for name in versions if name.isdecimal()), default=0)
    facts = {"latestVersion": versions[-1] if versions else None, "nextVersion": str(highest + 1)}
    return document | {"properties": document["properties"] | facts}


def _prepare(_arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    properties = document["properties"]
    kind = rid.types[1]
    required = KINDS[kind]
    if required and not properties.get(required):
        raise bad_request(f"A version of {kind} needs {required}.", "BadArgument")
    if kind == "environments" and not (properties.get("image") or properties.get("build")):
        raise bad_request("An environment needs an image or a build context.", "BadArgument")
    if before is not None and _content(before) != _content(document):
        raise bad_request(
            f"The version {rid.name} of {rid.names[1]} ({kind}) exists already with another content. A version cannot "
            f"be changed: make a new one.",
            "AssetVersionImmutable",
        )
    for name, default in (("tags", {}), ("properties", {}), ("isAnonymous", False), ("isArchived", False)):
        if properties.get(name) is None:
            properties[name] = default
    if kind == "models":
        properties.setdefault("flavors", {})
        properties.setdefault("modelType", "custom_model")
    return document


def _content(document: Document) -> dict[str, Any]:
    defaulted = {"flavors": {}, "modelType": "custom_model"}
    properties = {name: value for name, value in document["properties"].items() if value is not None}
    return {
        name: value
        for name, value in properties.items()
        if name not in _CHANGEABLE and value != defaulted.get(name, ...)
    }


def _list_versions(arm: Arm, request: Request) -> Answer:
    """The versions of one asset; newest first where `$orderBy` says so."""
    container = ids.parse(request.path.rpartition("/")[0])
    arm.resources.require(container)
    found = [arm.resources.show(each) for each in arm.resources.below(container.key, f"{container.kind}/versions")]
    if request.query.get("listviewtype", "ActiveOnly").lower() == "activeonly":
        found = [each for each in found if not each["properties"].get("isArchived")]
    if "desc" in request.query.get("$orderby", "").lower():
        found.reverse()
    return page(request, found)


def _list_codes(arm: Arm, request: Request) -> Answer:
    """With ``hash``: the versions of that content, whatever they are called (clients invent a name for each upload)."""
    wanted = request.query.get("hash")
    if not wanted:
        return _list_versions(arm, request)
    workspace = names.workspace_of(ids.parse(request.path.rpartition("/")[0]))
    arm.resources.require(workspace)
    versions = arm.resources.below(workspace.key, f"{names.WORKSPACE}/codes/versions")
    found = [each for each in versions if each["properties"]["properties"].get("hash_sha256") == wanted]
    return page(request, [arm.resources.show(each) for each in found[:1]])


async def _start_upload(arm: Arm, request: Request) -> Answer:
    """An address to which the client uploads a version's files: a container of their own."""
    rid = ids.parse(request.path.rpartition("/")[0])
    workspace = arm.resources.require(names.workspace_of(rid))
    text = f"{workspace['properties']['workspaceId']}/{'/'.join(rid.names[1:])}".lower()
    container = f"azureml-{rid.types[1]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def prepare() -> tuple[str, str]:
        arm.blobs.ensure(container)
        return arm.blobs.address(container), arm.blobs.signed(container, writes=True)

    address, signed = await asyncio.to_thread(prepare)
    note_container(arm, ids.parse(workspace["properties"]["storageAccount"]).name, container)
    kind = request.json().get("pendingUploadType") or "TemporaryBlobReference"
    return Answer(
        200,
        {
            "pendingUploadId": str(uuid.uuid4()),
            "pendingUploadType": kind,
            "blobReferenceForConsumption": {
                "blobUri": address,
                "storageAccountArmId": workspace["properties"]["storageAccount"],
                "credential": {"credentialType": "SAS", "sasUri": signed},
            },
        },
    )


def find_version(arm: Arm, workspace: ResourceId, reference: str) -> Document:
    """The version that an ARM id, ``azureml:…id``, ``azureml:NAME:VERSION`` or ``azureml:NAME@latest`` names, or
    ``azureml://…/data/NAME/versions/VERSION`` or ``…/labels/latest``. Raises ArmError.
    """
    text = reference.removeprefix("azureml:")
    if text.startswith("/") and not text.startswith("//"):
        document = arm.resources.find(ids.parse(text))
    else:
        kinds, name, version = _named(text)
        candidates = (_version(arm, workspace.child(kind, name), version) for kind in kinds)
        document = next((each for each in candidates if each is not None), None)
    if document is None:
        raise ArmError(404, "AssetNotFound", f"The asset {reference} does not exist.")
    return document


def _named(text: str) -> tuple[Sequence[str], str, str]:
    """The kinds that are possible, the name and the version; an empty version is the latest."""
    match = _LONG.match(text)
    if match:
        kind, name, which, version = match.groups()
        return [kind.lower()], name, version if which.lower() == "versions" else ""
    name, _, version = text.partition(":")
    return list(KINDS), name.partition("@")[0], version


def _version(arm: Arm, container: ResourceId, version: str) -> Document | None:
    if version:
        return arm.resources.find(container.child("versions", version))
    found = arm.resources.below(container.key, f"{container.kind}/versions")
    return found[-1] if found else None


ROUTES: list[Route] = [
    *[("GET", f"/workspaces/{{}}/{kind}/{{}}/versions", _list_versions) for kind in KINDS if kind != "codes"],
    ("GET", "/workspaces/{}/codes/{}/versions", _list_codes),
    *[("POST", f"/workspaces/{{}}/{kind}/{{}}/versions/{{}}/startPendingUpload", _start_upload) for kind in KINDS],
]
