"""How pools come to the number of nodes asked for, and how nodes start, reboot and leave."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.images import is_windows
from azbatchwrap.local.batch.model import Node, Pool
from azbatchwrap.local.batch.node import NodePlace
from azbatchwrap.local.batch.side_tasks import start_node

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)

#: What the service itself shows as the resize timeout of a pool that is being deleted.
DELETION_TIMEOUT = "PT7M9.497S"


def begin_resize(service: Service, pool: Pool, deallocation: str = "requeue") -> asyncio.Task[None]:
    """Start to bring the pool to its targets."""
    pool.allocation, pool.allocation_since = "resizing", wire.now()
    pool.resize_errors = []
    pool.deallocation = deallocation
    service.save_pool(pool)
    return continue_resize(service, pool)


def continue_resize(service: Service, pool: Pool) -> asyncio.Task[None]:
    if pool.resizing is not None and not pool.resizing.done():
        pool.resizing.cancel()
    pool.resizing = service.spawn(_resize(service, pool), f"resize of {pool.id}")
    return pool.resizing


async def _resize(service: Service, pool: Pool) -> None:
    for dedicated in (True, False):
        surplus = pool.current(dedicated=dedicated) - pool.target(dedicated=dedicated)
        if surplus > 0:
            await remove_nodes(service, pool, _least_busy(pool, surplus, dedicated=dedicated), pool.deallocation)
    missing = {
        dedicated: pool.target(dedicated=dedicated) - pool.current(dedicated=dedicated) for dedicated in (True, False)
    }
    if max(missing.values()) > 0 and (delay := service.chaos.allocation_delay) > 0:
        await asyncio.sleep(delay)
    try:
        for dedicated, count in missing.items():
            for made in range(_allowed(service, pool, count)):
                add_node(service, pool, dedicated=dedicated)
                if made % 20 == 19:
                    await asyncio.sleep(0)
    except OSError as error:
        log.exception("no folder for a node of pool %s", pool.id)
        pool.resize_errors.append({"code": "AllocationFailed", "message": f"No folder for a node: {error}"})
    settle(service, pool)


def _allowed(service: Service, pool: Pool, wanted: int) -> int:
    """How many of these nodes the account's quota allows; what it does not is an error of the resize."""
    allowed = service.chaos.allowed_nodes(wanted, sum(len(each.nodes) for each in service.pools.values()))
    if allowed < wanted:
        message = f"The specified account has reached core quota: {allowed} of {wanted} nodes can be had"
        pool.resize_errors.append({"code": "AccountCoreQuotaReached", "message": message})
    return allowed


def settle(service: Service, pool: Pool) -> None:
    """The pool has the nodes it will get."""
    pool.allocation, pool.allocation_since = "steady", wire.now()
    service.save_pool(pool)
    service.scheduler.wake(pool)


async def stop_resize(service: Service, pool: Pool) -> None:
    """Leave the pool as it is, with the error that says so."""
    if pool.resizing is not None:
        pool.resizing.cancel()
    for dedicated, word in ((True, "dedicated"), (False, "low priority")):
        if pool.current(dedicated=dedicated) != pool.target(dedicated=dedicated):
            message = f"Desired number of {word} nodes could not be allocated due to a stop resize operation"
            pool.resize_errors.append({"code": "ResizeStopped", "message": message})
    settle(service, pool)


def _least_busy(pool: Pool, count: int, *, dedicated: bool) -> list[Node]:
    candidates = [node for node in pool.nodes.values() if node.is_dedicated == dedicated]
    candidates.sort(key=lambda node: (node.state in {"idle", "running"}, node.used, -node.address))
    return candidates[:count]


def add_node(service: Service, pool: Pool, *, dedicated: bool) -> Node:
    """A new node: its folders, and the start task under way."""
    node_id = f"tvmps_{secrets.token_hex(32)}_{'d' if dedicated else 'p'}"
    now = wire.now()
    place = NodePlace(service.settings.data_dir / "nodes" / pool.id / node_id, service.python_bin)
    node = Node(
        id=node_id,
        pool=pool,
        place=place,
        is_dedicated=dedicated,
        address=pool.addresses,
        allocated=now,
        state="starting",
        since=now,
        booted=now,
    )
    node.folders.create()
    pool.addresses += 1
    pool.nodes[node_id] = node
    boot(service, node)
    return node


def boot(service: Service, node: Node) -> None:
    """Make the folders and run the start task. Without one the node is idle at once."""
    node.folders.create()
    node.booted = wire.now()
    service.save_node(node)
    if is_windows(node.pool.spec.get("virtualMachineConfiguration")):
        node.enter("unusable")
        node.errors = [{"code": "UnsupportedOS", "message": "This machine runs Linux nodes only."}]
        service.save_node(node)
        return
    if node.pool.spec.get("startTask") is None:
        node.start_task = node.start_info = None
        node.enter("idle")
        service.save_node(node)
        service.scheduler.wake(node.pool)
        return
    node.enter("waitingforstarttask")
    node.starting = service.spawn(start_node(service, node), f"start task on {node.id}")


async def vacate(service: Service, node: Node, option: str) -> None:
    """Bring a node's tasks to an end: requeue, terminate, or wait for their completion."""
    intent = "terminate" if option == "terminate" else "requeue"
    if node.starting is not None and not node.starting.done():
        if node.start_handle is not None:
            await node.start_handle.kill(0.0, "the node went away")
        node.starting.cancel()
    while node.runs:
        works = {run.work for run in node.runs.values() if run.work is not None}
        if option not in {"taskcompletion", "retaineddata"}:
            for run in list(node.runs.values()):
                service.scheduler.stop(run, intent)
        await asyncio.wait(works)
        await asyncio.sleep(0)


async def remove_nodes(service: Service, pool: Pool, nodes: list[Node], option: str) -> None:
    """Take nodes out of the pool, with all they hold."""
    for node in nodes:
        node.enter("leavingpool")
    for node in nodes:
        await vacate(service, node, option)
        for preparation in node.preparations.values():
            if preparation.handle is not None:
                await preparation.handle.kill(0.0, "the node went away")
            service.store.drop("preparation", f"{preparation.job}/{node.key}")
        if pool.nodes.pop(node.id, None) is not None:
            service.statistics.node_left(node)
        service.store.drop("node", node.key)
    for node in nodes:
        await asyncio.to_thread(node.folders.remove)


def delete_pool(service: Service, pool: Pool) -> asyncio.Task[None]:
    """Begin to delete the pool: its nodes leave, its tasks go back to the queue."""
    pool.life.state = "deleting"
    pool.life.since = pool.life.touch()
    pool.allocation, pool.allocation_since = "resizing", pool.life.since
    pool.spec = {
        **pool.spec,
        "targetDedicatedNodes": 0,
        "targetLowPriorityNodes": 0,
        "resizeTimeout": DELETION_TIMEOUT,
        "enableAutoScale": False,
    }
    pool.workload = []
    service.save_pool(pool)
    return continue_deletion(service, pool)


def continue_deletion(service: Service, pool: Pool) -> asyncio.Task[None]:
    if pool.resizing is not None and not pool.resizing.done():
        pool.resizing.cancel()
    pool.resizing = service.spawn(_delete(service, pool), f"deletion of {pool.id}")
    return pool.resizing


async def _delete(service: Service, pool: Pool) -> None:
    service.autoscaler.forget(pool)
    await remove_nodes(service, pool, list(pool.nodes.values()), "requeue")
    service.pools.pop(pool.id.lower(), None)
    service.statistics.pool_left(pool)
    service.store.drop("pool", pool.id)


def node_view_image(pool: Pool) -> dict[str, Any]:
    """The ``virtualMachineInfo`` of the pool's nodes."""
    image = pool.spec.get("virtualMachineConfiguration", {}).get("imageReference", {})
    return {"imageReference": {**image, "exactVersion": image.get("version", "latest")}} if image else {}
