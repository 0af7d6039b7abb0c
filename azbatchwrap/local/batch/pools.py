"""Operations on pools."""

from __future__ import annotations

import re
from typing import Any

from azbatchwrap.local.arm.names import SUBSCRIPTION
from azbatchwrap.local.batch import images, odata, statistics, wire
from azbatchwrap.local.batch.allocation import (
    begin_resize,
    delete_pool,
    remove_nodes,
    settle,
    stop_resize,
)
from azbatchwrap.local.batch.autoscaling import check_formula
from azbatchwrap.local.batch.errors import BatchError, bad_property
from azbatchwrap.local.batch.exchange import Request, Response, created, done, entity, tagged
from azbatchwrap.local.batch.lists import answer, expands_stats, selected
from azbatchwrap.local.batch.model import Life, Pool
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import pools as shapes

#: Fields of the body in the order of the service's answers, around the fields that the service adds.
_BEFORE_NODES = ("vmSize", "resizeTimeout")
_AFTER_NODES = (
    "enableInterNodeCommunication",
    "startTask",
    "certificateReferences",
    "applicationPackageReferences",
    "metadata",
    "userAccounts",
)
_LAST = (
    "cloudServiceConfiguration",
    "virtualMachineConfiguration",
    "networkConfiguration",
    "mountConfiguration",
    "applicationLicenses",
    "identity",
    "resourceTags",
    "upgradePolicy",
    "targetNodeCommunicationMode",
)
#: Changes of these need a pool without nodes.
_NEED_EMPTY_POOL = frozenset(
    {
        "vmSize",
        "enableInterNodeCommunication",
        "virtualMachineConfiguration",
        "taskSlotsPerNode",
        "taskSchedulingPolicy",
        "networkConfiguration",
        "userAccounts",
        "mountConfiguration",
    }
)
#: The address of a subnet in the account's own subscription.
_SUBNET = re.compile(
    rf"/subscriptions/{SUBSCRIPTION}/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+\Z",
    re.IGNORECASE,
)


def view(pool: Pool, request: Request) -> dict[str, Any]:
    """A pool as the service shows it to the client's api-version."""
    spec = pool.spec
    shown: dict[str, Any] = {"id": pool.id}
    if "displayName" in spec:
        shown["displayName"] = spec["displayName"]
    shown["url"] = f"{request.base}/pools/{pool.id}"
    shown |= pool.life.view()
    shown["allocationState"] = pool.allocation
    shown["allocationStateTransitionTime"] = wire.format_ticks(pool.allocation_since)
    shown |= {name: spec[name] for name in _BEFORE_NODES if name in spec}
    shown |= {
        "currentDedicatedNodes": pool.current(dedicated=True),
        "targetDedicatedNodes": spec["targetDedicatedNodes"],
        "currentLowPriorityNodes": pool.current(dedicated=False),
        "targetLowPriorityNodes": spec["targetLowPriorityNodes"],
    }
    if pool.resize_errors:
        shown["resizeErrors"] = pool.resize_errors
    shown["enableAutoScale"] = spec["enableAutoScale"]
    if spec["enableAutoScale"]:
        shown |= {name: spec[name] for name in ("autoScaleFormula", "autoScaleEvaluationInterval")}
        if pool.autoscale_run is not None:
            shown["autoScaleRun"] = pool.autoscale_run
    shown |= {name: spec[name] for name in _AFTER_NODES if name in spec}
    policy = spec["taskSchedulingPolicy"]
    if request.version < "2020-09":
        shown["maxTasksPerNode"] = spec["taskSlotsPerNode"]
    else:
        shown["taskSlotsPerNode"] = spec["taskSlotsPerNode"]
    shown["taskSchedulingPolicy"] = {**policy, "jobDefaultOrder": policy.get("jobDefaultOrder", "none")} if (
        request.version >= "2025"
    ) else {"nodeFillType": policy["nodeFillType"]}  # fmt: skip
    shown |= {name: spec[name] for name in _LAST if name in spec}
    return shown


def _shown(service: Service, pool: Pool, request: Request) -> dict[str, Any]:
    shown = view(pool, request)
    if expands_stats(request):
        shown["stats"] = statistics.of_pool(service, pool, shown["url"])
    return shown


def clean(spec: dict[str, Any]) -> dict[str, Any]:
    """A checked pool body with the rules that span several fields applied."""
    slots = spec.pop("maxTasksPerNode", None)
    if slots is not None:
        spec["taskSlotsPerNode"] = slots
    for name in ("metadata", "applicationPackageReferences"):
        if spec.get(name) == []:
            del spec[name]
    machine = spec.get("virtualMachineConfiguration")
    if machine is None and "cloudServiceConfiguration" not in spec:
        raise BatchError("MissingRequiredProperty", [("PropertyName", "virtualMachineConfiguration")])
    if machine is not None:
        images.check(machine)
    _check_autoscale(spec)
    _check_subnet(spec)
    return spec


def _check_subnet(spec: dict[str, Any]) -> None:
    """Networks are kept and shown, no more; one that is not the account's own is refused, as the service does."""
    subnet = spec.get("networkConfiguration", {}).get("subnetId")
    if subnet is not None and _SUBNET.match(subnet) is None:
        reason = "The specified subnetId cannot be reached from this account: its subscription has no such subnet."
        raise bad_property("subnetId", subnet, reason)


def _check_autoscale(spec: dict[str, Any]) -> None:
    if not spec["enableAutoScale"]:
        for name in ("autoScaleFormula", "autoScaleEvaluationInterval"):
            if name in spec:
                raise BatchError("InvalidAutoScalingSettings", [("Reason", f"{name} needs enableAutoScale.")])
        return
    if "autoScaleFormula" not in spec:
        raise BatchError("InvalidAutoScalingSettings", [("Reason", "enableAutoScale needs autoScaleFormula.")])
    if spec["targetDedicatedNodes"] or spec["targetLowPriorityNodes"]:
        raise BatchError("InvalidAutoScalingSettings", [("Reason", "An autoscaled pool takes no target counts.")])
    check_formula(spec["autoScaleFormula"])
    spec.setdefault("autoScaleEvaluationInterval", "PT15M")


def check_packages(service: Service, references: list[dict[str, str]] | None) -> None:
    """Raises InvalidApplicationPackageReferences for packages that the account does not hold."""
    missing = [
        (reference["applicationId"], "The specified application package does not exist.")
        for reference in references or ()
        if not _has_package(service, reference)
    ]
    if missing:
        raise BatchError("InvalidApplicationPackageReferences", missing)


def _has_package(service: Service, reference: dict[str, str]) -> bool:
    application = service.applications.get(reference["applicationId"].lower())
    if application is None:
        return False
    version = reference.get("version")
    return version in application["versions"] if version else application.get("defaultVersion") is not None


def make(service: Service, pool_id: str, spec: dict[str, Any], owner: str | None = None) -> Pool:
    """Add a pool and begin to allocate its nodes."""
    now = wire.now()
    pool = Pool(pool_id, spec, Life(now, now, "active", now), "resizing", now, owner=owner)
    service.pools[pool_id.lower()] = pool
    service.scheduler.sort(pool)
    begin_resize(service, pool)
    service.autoscaler.watch(pool)
    return pool


async def create(service: Service, request: Request) -> Response:
    spec = request.read(shapes.POOL)
    pool_id = spec.pop("id")
    if pool_id.lower() in service.pools:
        raise BatchError("PoolExists")
    spec = clean(spec)
    check_packages(service, spec.get("applicationPackageReferences"))
    pool = make(service, pool_id, spec)
    await service.settle(pool.resizing)
    return created(pool.life.modified, f"{request.base}/pools/{pool.id}")


def find(service: Service, request: Request) -> Response:
    """GET and HEAD."""
    pool = service.pool(request.path[0])
    request.check_conditions(pool.life.modified)
    return entity(
        request, "pools", selected(request, _shown(service, pool, request), odata.properties.POOL), pool.life.modified
    )


def exists(service: Service, request: Request) -> Response:
    pool = service.pool(request.path[0])
    request.check_conditions(pool.life.modified)
    return Response(200, b"", tagged(pool.life.modified))


def list_all(service: Service, request: Request) -> Response:
    return answer(
        request,
        "pools",
        service.pools.values(),
        lambda pool: pool.id.lower(),
        view=lambda pool: _shown(service, pool, request),
        fields=odata.POOLS,
        properties=odata.properties.POOL,
    )


def _changeable(service: Service, request: Request) -> Pool:
    """The pool of the request, checked against its conditions; not one that is being deleted."""
    pool = service.pool(request.path[0])
    if pool.life.state == "deleting":
        raise BatchError("PoolBeingDeleted")
    request.check_conditions(pool.life.modified)
    return pool


async def delete(service: Service, request: Request) -> Response:
    pool = _changeable(service, request)
    await service.settle(delete_pool(service, pool))
    return Response(202)


def update(service: Service, request: Request) -> Response:
    """PATCH: the given fields change, lists are replaced whole."""
    pool = _changeable(service, request)
    changes = request.read(shapes.POOL_UPDATE)
    blocked = sorted(_NEED_EMPTY_POOL & changes.keys()) if pool.nodes else []
    if blocked:
        raise BatchError(
            "PropertyCannotBeUpdated",
            [("PropertyName", ", ".join(blocked)), ("Reason", "It can change only while the pool has no nodes.")],
        )
    check_packages(service, changes.get("applicationPackageReferences"))
    if "virtualMachineConfiguration" in changes:
        images.check(changes["virtualMachineConfiguration"])
    _check_subnet(changes)
    pool.spec = {**pool.spec, **changes}
    for name in ("metadata", "applicationPackageReferences"):
        if pool.spec.get(name) == []:
            del pool.spec[name]
    return _changed(service, request, pool, 200)


def replace_properties(service: Service, request: Request) -> Response:
    """Start task, packages and metadata are replaced; what is left out goes."""
    pool = _changeable(service, request)
    changes = request.read(shapes.POOL_PROPERTIES)
    check_packages(service, changes.get("applicationPackageReferences"))
    spec = dict(pool.spec)
    for name in ("startTask", "certificateReferences", "applicationPackageReferences", "metadata"):
        spec.pop(name, None)
        if changes.get(name):
            spec[name] = changes[name]
    spec["targetNodeCommunicationMode"] = changes.get("targetNodeCommunicationMode", "default")
    pool.spec = spec
    return _changed(service, request, pool, 204)


def _changed(service: Service, request: Request, pool: Pool, status: int) -> Response:
    modified = pool.life.touch()
    service.save_pool(pool)
    service.scheduler.wake(pool)
    return done(request, status, modified)


async def resize(service: Service, request: Request) -> Response:
    pool = _changeable(service, request)
    body = request.read(shapes.RESIZE)
    if pool.spec["enableAutoScale"]:
        raise BatchError("OperationNotValidOnPool", [("Reason", "The pool is autoscaled.")])
    _refuse_while_resizing(pool)
    names = ("targetDedicatedNodes", "targetLowPriorityNodes")
    if not any(name in body for name in names):
        raise BatchError("MissingRequiredProperty", [("PropertyName", "targetDedicatedNodes")])
    pool.spec = {**pool.spec, **{name: body[name] for name in (*names, "resizeTimeout") if name in body}}
    modified = pool.life.touch()
    await service.settle(begin_resize(service, pool, body.get("nodeDeallocationOption", "requeue")))
    return done(request, 202, modified)


def _refuse_while_resizing(pool: Pool) -> None:
    if pool.allocation != "steady":
        raise BatchError("PoolBeingResized")


async def stop(service: Service, request: Request) -> Response:
    """Stop a resize; with nothing to stop, nothing changes."""
    pool = _changeable(service, request)
    if pool.allocation != "steady":
        await stop_resize(service, pool)
    return done(request, 202, pool.life.modified)


async def remove(service: Service, request: Request) -> Response:
    """Take the named nodes out of the pool and lower its targets."""
    pool = _changeable(service, request)
    body = request.read(shapes.REMOVE_NODES)
    _refuse_while_resizing(pool)
    if pool.spec["enableAutoScale"]:
        raise BatchError("OperationNotValidOnPool", [("Reason", "The pool is autoscaled.")])
    nodes = [service.node(pool.id, node_id) for node_id in dict.fromkeys(body["nodeList"])]
    dedicated = sum(1 for node in nodes if node.is_dedicated)
    pool.spec = {
        **pool.spec,
        "targetDedicatedNodes": max(0, pool.spec["targetDedicatedNodes"] - dedicated),
        "targetLowPriorityNodes": max(0, pool.spec["targetLowPriorityNodes"] - (len(nodes) - dedicated)),
    }
    modified = pool.life.touch()
    pool.allocation, pool.allocation_since = "resizing", modified
    pool.deallocation = body.get("nodeDeallocationOption", "requeue")
    service.save_pool(pool)

    async def leave() -> None:
        await remove_nodes(service, pool, nodes, pool.deallocation)
        settle(service, pool)

    pool.resizing = service.spawn(leave(), f"removal from {pool.id}")
    await service.settle(pool.resizing)
    return done(request, 202, modified)


def counts(service: Service, request: Request) -> Response:
    """Nodes of every pool by state."""
    return answer(
        request,
        "poolnodecounts",
        service.pools.values(),
        lambda pool: pool.id.lower(),
        view=lambda pool: _counts(pool, request.version),
        fields=odata.NODE_COUNTS,
    )


_COUNTED = {
    "creating": "creating",
    "idle": "idle",
    "leavingpool": "leavingPool",
    "offline": "offline",
    "preempted": "preempted",
    "rebooting": "rebooting",
    "reimaging": "reimaging",
    "running": "running",
    "starting": "starting",
    "starttaskfailed": "startTaskFailed",
    "unusable": "unusable",
    "unknown": "unknown",
    "upgradingos": "upgradingOS",
    "waitingforstarttask": "waitingForStartTask",
    "deallocated": "deallocated",
    "deallocating": "deallocating",
}
#: State words that older clients do not know -> the first api-version that has them.
_NEW_STATES = {"upgradingOS": "2024-02", "deallocated": "2024-07", "deallocating": "2024-07"}


def _counts(pool: Pool, version: str) -> dict[str, Any]:
    words = [word for word in _COUNTED.values() if version >= _NEW_STATES.get(word, "")]
    shown: dict[str, Any] = {"poolId": pool.id}
    for name, dedicated in (("dedicated", True), ("lowPriority", False)):
        numbers = dict.fromkeys(words, 0)
        for node in pool.nodes.values():
            if node.is_dedicated == dedicated:
                word = _COUNTED[node.state]
                numbers[word] = numbers.get(word, 0) + 1
        shown[name] = {**numbers, "total": sum(numbers.values())}
    return shown


def lifetime_statistics(service: Service, request: Request) -> Response:
    """Of all pools that ever were; api-versions up to 2022."""
    return entity(request, "poolstats", statistics.of_all_pools(service, request.url))


def usage_metrics(_service: Service, request: Request) -> Response:
    """The service's own answer to accounts without completed aggregation intervals."""
    return answer(request, "poolusagemetrics", (), str, view=lambda _: {}, fields=odata.USAGE_METRICS)
