"""Pools as the management plane shows and takes them: the data plane's own pools, in the other spelling."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, member, members, page
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.batchmgmt.account import require
from azbatchwrap.local.batchmgmt.names import ACCOUNT
from azbatchwrap.local.batchmgmt.service import BatchService

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: The management plane's spelling -> the data plane's, wherever the member is.
_SPELLINGS = {
    "nodeAgentSkuId": "nodeAgentSKUId",
    "inboundNatPools": "inboundNATPools",
    "dynamicVnetAssignmentScope": "dynamicVNetAssignmentScope",
    "userName": "username",
}
_BACK = {data: management for management, data in _SPELLINGS.items() if data != "username"}
#: Where the user of the data plane has the other spelling; registries call it alike in both.
_NAME_USERS = frozenset({"userIdentity", "cifsMountConfiguration"})
#: Words that the management plane writes with capitals, by the member whose value they are.
_WORDS = {
    (member, word.lower()): word
    for member, words in (
        ("scope", ("Pool", "Task")),
        ("elevationLevel", ("NonAdmin", "Admin")),
        ("caching", ("None", "ReadOnly", "ReadWrite")),
        ("storageAccountType", ("Standard_LRS", "Premium_LRS", "StandardSSD_LRS")),
        ("securityType", ("confidentialVM",)),
        ("placement", ("CacheDisk",)),
        ("targets", ("OsDisk", "TemporaryDisk")),
        ("type", ("DockerCompatible", "CriCompatible")),
        ("workingDirectory", ("TaskWorkingDirectory", "ContainerImageDefault")),
        ("protocol", ("TCP", "UDP")),
        ("access", ("Allow", "Deny")),
        ("provision", ("BatchManaged", "UserManaged", "NoPublicIPAddresses")),
        ("loginMode", ("Batch", "Interactive")),
        ("jobDefaultOrder", ("None", "CreationTime")),
        ("targetNodeCommunicationMode", ("Default", "Classic", "Simplified")),
    )
    for word in words
}
#: Members that are called and shaped alike in both planes, and can change.
_ALIKE = (
    "displayName",
    "vmSize",
    "networkConfiguration",
    "taskSlotsPerNode",
    "taskSchedulingPolicy",
    "userAccounts",
    "metadata",
    "startTask",
    "mountConfiguration",
    "upgradePolicy",
    "resourceTags",
    "targetNodeCommunicationMode",
)
_HIDDEN = frozenset({"password", "accountKey", "sasKey", "sshPrivateKey", "protectedSettings"})
#: What the settings of an extension say is their own.
_FREE = frozenset({"settings", "protectedSettings"})
_SHARED = (*_ALIKE, "applicationLicenses")
#: What can change besides the scale: the data plane says when.
_CHANGES = (*_ALIKE, "virtualMachineConfiguration", "enableInterNodeCommunication", "applicationPackageReferences")


class Pools:
    """Handlers. Nothing is kept here: what a client sees is the data plane's state."""

    def __init__(self, service: BatchService) -> None:
        self._service = service

    async def get(self, arm: Arm, request: Request) -> Answer:
        account = require(arm, request)["id"]
        pool = await self._service.data("GET", f"/pools/{request.names[3]}")
        return _answer(account, pool)

    async def list_all(self, arm: Arm, request: Request) -> Answer:
        account = require(arm, request)["id"]
        found = await self._service.data("GET", "/pools")
        return page(request, [_shown(account, pool) for pool in found["value"]])

    async def put(self, arm: Arm, request: Request) -> Answer:
        """Make a pool; one that is there is changed to what the body says."""
        account, name, body = require(arm, request)["id"], request.names[3], request.json()
        properties = member(body, "properties")
        if await self._exists(name):
            await self._change(name, properties)
        else:
            await self._service.data("POST", "/pools", _to_data(name, properties))
        if body.get("identity") is not None:
            await self._identify(name, member(body, "identity"))
        return _answer(account, await self._service.data("GET", f"/pools/{name}"))

    async def patch(self, arm: Arm, request: Request) -> Answer:
        account, name, body = require(arm, request)["id"], request.names[3], request.json()
        await self._change(name, member(body, "properties"))
        if body.get("identity") is not None:
            await self._identify(name, member(body, "identity"))
        return _answer(account, await self._service.data("GET", f"/pools/{name}"))

    async def delete(self, arm: Arm, request: Request) -> Answer:
        require(arm, request)
        if not await self._exists(request.names[3]):
            return Answer(204)
        await self._service.data("DELETE", f"/pools/{request.names[3]}")
        return Answer(200)

    async def disable_autoscale(self, arm: Arm, request: Request) -> Answer:
        account = require(arm, request)["id"]
        await self._service.data("POST", f"/pools/{request.names[3]}/disableautoscale")
        return _answer(account, await self._service.data("GET", f"/pools/{request.names[3]}"))

    async def stop_resize(self, arm: Arm, request: Request) -> Answer:
        account = require(arm, request)["id"]
        await self._service.data("POST", f"/pools/{request.names[3]}/stopresize")
        return _answer(account, await self._service.data("GET", f"/pools/{request.names[3]}"))

    async def _exists(self, name: str) -> bool:
        try:
            await self._service.data("GET", f"/pools/{name}")
        except ArmError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _change(self, name: str, properties: dict[str, Any]) -> None:
        there, wanted = await self._service.data("GET", f"/pools/{name}"), _to_data(name, properties)
        changes = {key: wanted[key] for key in _CHANGES if key in wanted and not _is_met(wanted[key], there.get(key))}
        if changes:
            await self._service.data("PATCH", f"/pools/{name}", changes)
        scale = member(properties, "scaleSettings")
        if formula := member(scale, "autoScale"):
            settings = _autoscale(formula)
            if not _is_met({"enableAutoScale": True, **settings}, there):
                await self._service.data("POST", f"/pools/{name}/enableautoscale", settings)
        elif fixed := member(scale, "fixedScale"):
            await self._resize(name, fixed)

    async def _resize(self, name: str, wanted: dict[str, Any]) -> None:
        """Only when there is something to do: a resize of an autoscaled pool turns that off first."""
        pool = await self._service.data("GET", f"/pools/{name}")
        if pool["enableAutoScale"]:
            await self._service.data("POST", f"/pools/{name}/disableautoscale")
        targets = {key: wanted.get(key) or 0 for key in ("targetDedicatedNodes", "targetLowPriorityNodes")}
        if any(pool[key] != value for key, value in targets.items()):
            further = {key: wanted[key] for key in ("resizeTimeout", "nodeDeallocationOption") if wanted.get(key)}
            await self._service.data("POST", f"/pools/{name}/resize", targets | further)

    async def _identify(self, name: str, identity: dict[str, Any]) -> None:
        """Give the pool its user-assigned identities; its tasks get tokens for them."""
        kind = str(identity.get("type", "None"))
        if kind not in {"None", "UserAssigned"}:
            raise bad_request(f"A pool's identity is UserAssigned or None, not {kind}.", "InvalidRequestBody")
        resources = [_assigned(each) for each in member(identity, "userAssignedIdentities")]
        shown = {"type": kind, "userAssignedIdentities": resources} if resources else None
        await self._service.local("PUT", f"/pools/{name}", {"identity": shown} if shown else {})

    def routes(self) -> list[Route]:
        pools = "/batchAccounts/{}/pools"
        pool = f"{pools}/{{}}"
        return [
            ("GET", pools, self.list_all),
            ("GET", pool, self.get),
            ("PUT", pool, self.put),
            ("PATCH", pool, self.patch),
            ("DELETE", pool, self.delete),
            ("POST", f"{pool}/disableAutoScale", self.disable_autoscale),
            ("POST", f"{pool}/stopResize", self.stop_resize),
        ]


def _is_met(wanted: Any, there: Any) -> bool:
    """Whether what is there has all that is wanted; secrets are not shown, so they cannot be told apart."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return all(_is_met(value, there.get(name)) for name, value in wanted.items() if name not in _HIDDEN)
    if isinstance(wanted, list) and isinstance(there, list):
        return len(wanted) == len(there) and all(map(_is_met, wanted, there))
    if isinstance(wanted, str) and isinstance(there, str):
        return wanted.lower() == there.lower()
    return bool(wanted == there)


# From here to the data plane


def _to_data(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"id": name}
    body |= {key: _to_data_words(properties[key]) for key in _SHARED if properties.get(key) is not None}
    if machine := member(member(properties, "deploymentConfiguration"), "virtualMachineConfiguration"):
        body["virtualMachineConfiguration"] = _machine(machine)
    if properties.get("applicationPackages") is not None:
        body["applicationPackageReferences"] = [_reference(each) for each in members(properties, "applicationPackages")]
    if properties.get("interNodeCommunication"):
        body["enableInterNodeCommunication"] = str(properties["interNodeCommunication"]).lower() == "enabled"
    scale = member(properties, "scaleSettings")
    if formula := member(scale, "autoScale"):
        body |= {"enableAutoScale": True, **_autoscale(formula)}
    else:
        fixed = member(scale, "fixedScale")
        body |= {key: value for key, value in fixed.items() if key != "nodeDeallocationOption"}
    return body


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    spelled: dict[str, Any] = _to_data_words(machine)
    image = member(spelled, "imageReference")
    if "id" in image:
        image["virtualMachineImageId"] = image.pop("id")
    return {**spelled, "imageReference": image}


def _autoscale(given: dict[str, Any]) -> dict[str, Any]:
    interval = given.get("evaluationInterval")
    return {"autoScaleFormula": given.get("formula"), **({"autoScaleEvaluationInterval": interval} if interval else {})}


def _reference(given: dict[str, Any]) -> dict[str, Any]:
    application = ids.parse(str(given.get("id", ""))).name
    return {"applicationId": application, **({"version": given["version"]} if given.get("version") else {})}


def _to_data_words(value: Any) -> Any:
    """The members' names; the data plane takes words whatever their case."""
    if isinstance(value, list):
        return [_to_data_words(each) for each in value]
    if isinstance(value, dict):
        return {
            _SPELLINGS.get(name, name): inner if name in _FREE else _to_data_words(inner)
            for name, inner in value.items()
        }
    return value


# And back


def _answer(account: str, pool: dict[str, Any]) -> Answer:
    return Answer(200, _shown(account, pool), {"etag": f'W/"{pool["eTag"]}"'})


def _shown(account: str, pool: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {key: _to_management(pool[key], key) for key in _SHARED if key in pool}
    properties |= {
        "lastModified": pool["lastModified"],
        "creationTime": pool["creationTime"],
        "provisioningState": "Deleting" if pool["state"] == "deleting" else "Succeeded",
        "provisioningStateTransitionTime": pool["stateTransitionTime"],
        "allocationState": pool["allocationState"].capitalize(),
        "allocationStateTransitionTime": pool["allocationStateTransitionTime"],
        "currentDedicatedNodes": pool["currentDedicatedNodes"],
        "currentLowPriorityNodes": pool["currentLowPriorityNodes"],
        "interNodeCommunication": "Enabled" if pool["enableInterNodeCommunication"] else "Disabled",
        "scaleSettings": _scale(pool),
    }
    if (machine := pool.get("virtualMachineConfiguration")) is not None:
        spelled = _to_management(machine)
        image = spelled["imageReference"]
        if "virtualMachineImageId" in image:
            image["id"] = image.pop("virtualMachineImageId")
        properties["deploymentConfiguration"] = {"virtualMachineConfiguration": spelled}
    if (packages := pool.get("applicationPackageReferences")) is not None:
        properties["applicationPackages"] = [
            {
                "id": f"{account}/applications/{each['applicationId']}",
                **({"version": each["version"]} if "version" in each else {}),
            }
            for each in packages
        ]
    if (run := pool.get("autoScaleRun")) is not None:
        properties["autoScaleRun"] = {"evaluationTime": run["timestamp"], "results": run.get("results", "")}
    return {
        "id": f"{account}/pools/{pool['id']}",
        "name": pool["id"],
        "type": f"{ACCOUNT}/pools",
        "etag": f'W/"{pool["eTag"]}"',
        **_identity(pool),
        "properties": properties,
    }


def _assigned(resource_id: str) -> dict[str, str]:
    """An identity as the data plane holds it. Its ids follow from its name: it is the same in every pool."""
    return {
        "resourceId": resource_id,
        "clientId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"client {resource_id.lower()}")),
        "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"principal {resource_id.lower()}")),
    }


def _identity(pool: dict[str, Any]) -> dict[str, Any]:
    if "identity" not in pool:
        return {}
    named: dict[str, Any] = {
        each["resourceId"]: {name: each[name] for name in ("clientId", "principalId") if name in each}
        for each in pool["identity"].get("userAssignedIdentities", ())
    }
    return {"identity": {"type": pool["identity"]["type"], "userAssignedIdentities": named}}


def _scale(pool: dict[str, Any]) -> dict[str, Any]:
    if pool["enableAutoScale"]:
        settings = {"formula": pool["autoScaleFormula"], "evaluationInterval": pool["autoScaleEvaluationInterval"]}
        return {"autoScale": settings}
    keys = ("targetDedicatedNodes", "targetLowPriorityNodes", "resizeTimeout")
    return {"fixedScale": {key: pool[key] for key in keys}}


def _to_management(value: Any, member: str = "") -> Any:
    """Names and words as the management plane has them."""
    if member in _FREE:
        return value
    if isinstance(value, list):
        return [_to_management(each, member) for each in value]
    if isinstance(value, dict):
        return {_name(name, member): _to_management(inner, name) for name, inner in value.items()}
    return _WORDS.get((member, value.lower()), value) if isinstance(value, str) else value


def _name(name: str, holder: str) -> str:
    if name == "username" and holder in _NAME_USERS:
        return "userName"
    return _BACK.get(name, name)
