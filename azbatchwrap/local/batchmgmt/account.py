"""The Batch account of the instance. There is one, and it is there from the start: an account is a running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azbatchwrap.config import parse_storage
from azbatchwrap.local.arm import accounts, groups, ids
from azbatchwrap.local.arm.errors import bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request, member, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.names import SUBSCRIPTION
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.batchmgmt.names import ACCOUNT, GROUP, LOCATION
from azbatchwrap.local.batchmgmt.service import BatchService

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: What a fresh account in Azure may have; nothing here is held to it.
QUOTAS = {"dedicatedCoreQuota": 350, "lowPriorityCoreQuota": 100, "poolQuota": 100, "activeJobAndJobScheduleQuota": 300}


class Accounts:
    """Handlers around the one account that ``service`` serves."""

    def __init__(self, service: BatchService) -> None:
        self._service = service

    def provide(self, arm: Arm) -> None:
        """Make the account, and the storage account beside it, unless they are there."""
        place = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
        if arm.store.load("group", ids.group_key(SUBSCRIPTION, GROUP)) is None:
            body = b'{"location": "%s"}' % LOCATION.encode()
            groups.put_group(arm, Request("PUT", place, {}, {}, arm.url, body, (SUBSCRIPTION, GROUP)))
        storage = ids.parse(f"{place}/providers/{accounts.STORAGE}/{_storage_name(arm)}")
        if not _exists(arm, accounts.STORAGE, storage.name):
            arm.resources.put(storage, {"location": LOCATION, "sku": {"name": "Standard_LRS"}})
        rid = ids.parse(f"{place}/providers/{ACCOUNT}/{self._service.account}")
        if not _exists(arm, ACCOUNT, rid.name):
            arm.resources.put(
                rid, {"location": LOCATION, "properties": {"autoStorage": {"storageAccountId": storage.text}}}
            )
        arm.store.commit()

    def prepare(self, arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
        """Raises ArmError for any account but the one that is served."""
        if rid.name.lower() != self._service.account.lower():
            raise bad_request(
                f"An instance on this machine has one Batch account, {self._service.account}: {rid.name} cannot be made.",
                "SubscriptionQuotaExceeded",
            )
        if before is None and _exists(arm, ACCOUNT, rid.name):
            raise conflict(f"The account {rid.name} is in another resource group.", "AccountAlreadyExists")
        properties = document["properties"]
        storage = member(properties, "autoStorage") or member((before or {}).get("properties", {}), "autoStorage")
        if storage:
            properties["autoStorage"] = {"lastKeySync": timestamp(), "authenticationMode": "StorageKeys", **storage}
        properties.setdefault("poolAllocationMode", "BatchService")
        properties.setdefault("publicNetworkAccess", "Enabled")
        properties.setdefault("allowedAuthenticationModes", ["SharedKey", "AAD", "TaskAuthenticationToken"])
        document.setdefault("identity", {"type": "None"})
        return document

    def show(self, _arm: Arm, document: Document) -> Document:
        """With the address, which is the service's on TLS."""
        endpoint = self._service.tls_endpoint
        properties = {
            **document["properties"],
            **QUOTAS,
            "accountEndpoint": endpoint,
            "nodeManagementEndpoint": endpoint,
            "encryption": {"keySource": "Microsoft.Batch"},
            "dedicatedCoreQuotaPerVMFamily": [],
            "dedicatedCoreQuotaPerVMFamilyEnforced": False,
        }
        return document | {"properties": properties}

    def put(self, arm: Arm, request: Request) -> Answer:
        """Idempotent; 200 for a new account as well, as this provider answers."""
        document, _ = arm.resources.put(ids.parse(request.path), request.json())
        return Answer(200, arm.resources.show(document))

    def delete(self, arm: Arm, request: Request) -> Answer:
        account = arm.resources.find(ids.parse(request.path))
        if account is None:
            return Answer(204)
        raise conflict("The account of an instance cannot be deleted; `azbatchwrap local reset` empties it.")

    def keys(self, arm: Arm, request: Request) -> Answer:
        account = require(arm, request)
        primary, secondary = (key.reveal() for key in self._service.keys)
        return Answer(200, {"accountName": account["name"], "primary": primary, "secondary": secondary})

    async def renew_key(self, arm: Arm, request: Request) -> Answer:
        """A new key in force; the other one stays, so that clients can go over to it before."""
        require(arm, request)
        which = str(request.json().get("keyName", "")).lower()
        if which == "primary":
            await self._service.renew_key("primary")
        elif which == "secondary":
            await self._service.renew_key("secondary")
        else:
            raise bad_request("keyName is Primary or Secondary.", "InvalidRequestBody")
        return self.keys(arm, request)

    def endpoints(self, arm: Arm, request: Request) -> Answer:
        """What nodes must reach."""
        require(arm, request)
        named = (("Azure Batch", self._service.tls_endpoint), ("Azure Storage", accounts.storage_host(arm)))
        found = [{"category": category, "endpoints": [_endpoint(place)]} for category, place in named]
        return page(request, found)

    def name_availability(self, _arm: Arm, request: Request) -> Answer:
        name = str(request.json().get("name", ""))
        message = f"An instance on this machine has one Batch account, {self._service.account}."
        reason = "AlreadyExists" if name.lower() == self._service.account.lower() else "Invalid"
        return Answer(200, {"nameAvailable": False, "reason": reason, "message": message})

    def routes(self) -> list[Route]:
        place = "/batchAccounts/{}"
        return [
            ("PUT", place, self.put),
            ("DELETE", place, self.delete),
            ("POST", f"{place}/listKeys", self.keys),
            ("POST", f"{place}/regenerateKeys", self.renew_key),
            ("POST", f"{place}/syncAutoStorageKeys", _sync_keys),
            ("GET", f"{place}/outboundNetworkDependenciesEndpoints", self.endpoints),
        ]


def require(arm: Arm, request: Request) -> Document:
    """The account in the request's address. Raises ArmError."""
    subscription, group, name = request.names[:3]
    return arm.resources.require(
        ids.parse(f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{ACCOUNT}/{name}")
    )


def _sync_keys(arm: Arm, request: Request) -> Answer:
    """Storage keys stay, so that nothing can have changed but the time at which they were last looked at."""
    account = require(arm, request)
    account["properties"]["autoStorage"]["lastKeySync"] = timestamp()
    arm.resources.save(account)
    return Answer(204)


def _endpoint(place: str) -> dict[str, Any]:
    host, _, port = place.rpartition(":")
    return {"domainName": host, "endpointDetails": [{"port": int(port)}]}


def _storage_name(arm: Arm) -> str:
    return str(parse_storage(arm.settings.storage).name)


def _exists(arm: Arm, kind: str, name: str) -> bool:
    found = arm.resources.below("/subscriptions", kind)
    return any(str(each["name"]).lower() == name.lower() for each in found)
