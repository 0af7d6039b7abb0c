"""Applications and their packages: uploaded to the instance's storage, activated, and made known to the data plane."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.blobs import Blobs
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request, member
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.batchmgmt.account import require
from azbatchwrap.local.batchmgmt.names import PACKAGE
from azbatchwrap.local.batchmgmt.service import BatchService

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: How long the address of a package may be written to, as on Azure; nodes get one that outlives the instance (hours).
UPLOAD_HOURS = 4
NODE_HOURS = 20 * 365 * 24
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")


class Applications:
    """Handlers. Documents lie with the management plane; the data plane is told after every change."""

    def __init__(self, service: BatchService, storage: str) -> None:
        self._service = service
        self._blobs = Blobs(storage)

    # Applications

    async def put(self, arm: Arm, request: Request) -> Answer:
        """Make or replace; all members may be left out, and the body too."""
        require(arm, request)
        rid = ids.parse(request.path)
        if not _ID.match(rid.name):
            raise bad_request(f"{rid.name} is not a valid id of an application.", "InvalidResourceName")
        return await self._change(arm, rid, _properties(request), arm.resources.find(rid))

    async def patch(self, arm: Arm, request: Request) -> Answer:
        rid = ids.parse(request.path)
        before = arm.resources.require(rid)
        return await self._change(arm, rid, {**before["properties"], **_properties(request)}, before)

    async def _change(self, arm: Arm, rid: ResourceId, properties: Document, before: Document | None) -> Answer:
        properties = {
            "displayName": properties.get("displayName"),
            "allowUpdates": properties.get("allowUpdates", True),
            "defaultVersion": properties.get("defaultVersion"),
        }
        active = self._active(arm, rid) if before is not None else {}
        if properties["defaultVersion"] and str(properties["defaultVersion"]) not in active:
            raise ArmError(
                404,
                "ApplicationPackageNotFound",
                f"The package {properties['defaultVersion']} does not exist or is not active.",
            )
        await self._tell(rid, properties, active)
        document, _ = arm.resources.put(rid, {"properties": properties})
        return Answer(200, arm.resources.show(document))

    async def delete(self, arm: Arm, request: Request) -> Answer:
        rid = ids.parse(request.path)
        if arm.resources.find(rid) is None:
            return Answer(204)
        if arm.resources.below(rid.key):
            raise conflict(f"The application {rid.name} has packages: delete those first.")
        await self._service.local("DELETE", f"/applications/{rid.name}")
        arm.resources.delete(rid)
        return Answer(200)

    # Packages

    async def put_package(self, arm: Arm, request: Request) -> Answer:
        """A place to upload to. A package that is there is pending again until it is activated."""
        rid = ids.parse(request.path)
        application = _application(arm, rid)
        if not _VERSION.match(rid.name):
            raise bad_request(f"{rid.name} is not a valid version of a package.", "InvalidResourceName")
        before = arm.resources.find(rid)
        if before is not None:
            _check_updates(application, rid)
        blob = f"{_parent(rid).name}-{rid.name}-{uuid.uuid4()}"
        await asyncio.to_thread(self._blobs.ensure, _container(rid))
        if before is not None:
            active = {name: url for name, url in self._active(arm, _parent(rid)).items() if name != rid.name}
            await self._tell(_parent(rid), application["properties"], active)
        document, _ = arm.resources.put(rid, {"properties": {"state": "Pending"}})
        document["_blob"] = blob
        arm.resources.save(document)
        return Answer(200, arm.resources.show(document))

    async def activate(self, arm: Arm, request: Request) -> Answer:
        rid = ids.parse(request.path.rpartition("/")[0])
        application, package = _application(arm, rid), arm.resources.require(rid)
        form = str(request.json().get("format", ""))
        if form.lower() != "zip":
            raise bad_request(f"A package has the format zip, not '{form}'.", "InvalidPackageFormat")
        if not await asyncio.to_thread(self._blobs.exists, _container(rid), package["_blob"]):
            raise conflict("The package was not uploaded yet.", "ApplicationPackageBlobNotFound")
        active = self._active(arm, _parent(rid)) | {rid.name: self._read_url(rid, package)}
        await self._tell(_parent(rid), application["properties"], active)
        package = arm.resources.require(rid)
        package["properties"] |= {"state": "Active", "format": form, "lastActivationTime": timestamp()}
        arm.resources.save(package)
        return Answer(200, arm.resources.show(package))

    async def delete_package(self, arm: Arm, request: Request) -> Answer:
        rid = ids.parse(request.path)
        package = arm.resources.find(rid)
        if package is None:
            return Answer(204)
        application = _application(arm, rid)
        _check_updates(application, rid)
        if application["properties"].get("defaultVersion") == rid.name:
            raise conflict(f"{rid.name} is the default version of {_parent(rid).name}.")
        active = {name: url for name, url in self._active(arm, _parent(rid)).items() if name != rid.name}
        await self._tell(_parent(rid), application["properties"], active)
        await asyncio.to_thread(self._blobs.remove_blob, _container(rid), package["_blob"])
        arm.resources.delete(rid)
        return Answer(200)

    def show_package(self, _arm: Arm, document: Document) -> Document:
        """With a fresh address to upload to."""
        rid = ids.parse(str(document["id"]))
        if "_blob" not in document:
            return document
        url = self._blobs.signed(_container(rid), document["_blob"], writes=True, hours=UPLOAD_HOURS)
        expiry = timestamp(time.time() + UPLOAD_HOURS * 3600)
        shown = {**document["properties"], "storageUrl": url, "storageUrlExpiry": expiry}
        return document | {"properties": {name: value for name, value in shown.items() if name != "provisioningState"}}

    # The data plane

    def _active(self, arm: Arm, application: ResourceId) -> dict[str, str]:
        """Version -> address for nodes, of the application's active packages."""
        packages = arm.resources.below(application.key, PACKAGE)
        active = [each for each in packages if each["properties"].get("state") == "Active"]
        return {each["name"]: self._read_url(ids.parse(each["id"]), each) for each in active}

    def _read_url(self, rid: ResourceId, package: Document) -> str:
        return self._blobs.signed(_container(rid), package["_blob"], hours=NODE_HOURS)

    async def _tell(self, rid: ResourceId, properties: Document, active: dict[str, str]) -> None:
        body: dict[str, Any] = {"versions": [{"version": name, "url": url} for name, url in sorted(active.items())]}
        body |= {name: properties[name] for name in ("displayName", "defaultVersion") if properties.get(name)}
        await self._service.local("PUT", f"/applications/{rid.name}", body)

    def routes(self) -> list[Route]:
        application = "/batchAccounts/{}/applications/{}"
        package = f"{application}/versions/{{}}"
        return [
            ("PUT", application, self.put),
            ("PATCH", application, self.patch),
            ("DELETE", application, self.delete),
            ("PUT", package, self.put_package),
            ("DELETE", package, self.delete_package),
            ("POST", f"{package}/activate", self.activate),
        ]


def show_application(_arm: Arm, document: Document) -> Document:
    """Without what was left out."""
    kept = {name: value for name, value in document["properties"].items() if value is not None}
    kept.pop("provisioningState", None)
    return document | {"properties": kept}


def _properties(request: Request) -> Document:
    return member(request.json(), "properties") if request.body.strip() else {}


def _parent(rid: ResourceId) -> ResourceId:
    assert rid.parent is not None
    return rid.parent


def _application(arm: Arm, package: ResourceId) -> Document:
    return arm.resources.require(_parent(package))


def _check_updates(application: Document, package: ResourceId) -> None:
    if application["properties"].get("allowUpdates") is False:
        raise conflict(f"The application {_parent(package).name} allows no updates of its packages.")


def _container(package: ResourceId) -> str:
    """As Azure names it, as far as names of containers allow: ``app-…``."""
    return f"app-{hashlib.sha256(_parent(package).key.encode()).hexdigest()[:40]}"
