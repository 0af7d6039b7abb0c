"""The pool of a run: one of the project's that does, else a new one; and what becomes of its nodes afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azbatchwrap.errors import Conflict, PoolError

from .health import Health
from .jobs import ENDED
from .node_setup import container_of
from .service import Json

if TYPE_CHECKING:
    from .manager import AzureBatch
    from .pools import Pools

_log = logging.getLogger(__name__)

_FIELDS = (
    "id", "state", "vmSize", "taskSlotsPerNode", "targetDedicatedNodes", "targetLowPriorityNodes", "enableAutoScale",
    "currentDedicatedNodes", "virtualMachineConfiguration", "startTask", "metadata",
)  # fmt: skip

#: How a pool came about that was not there before.
MADE = "made"


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """The pool of a run. ``how`` says in words where it came from; ``ours`` that its nodes are there for this run."""

    pool_id: str
    how: str
    ours: bool


def choose_pool(batch: AzureBatch, *, always_new: bool = False) -> PoolChoice:
    """Let the project's pool of the configured size, image and slots be the current one, or make one.

    Of several, the one with the most nodes; one whose nodes are all broken is passed over. A pool that was emptied is
    filled again, and one with fewer nodes than configured gets more; none loses nodes here.
    Raises PoolError, ServiceError.
    """
    for pool in () if always_new else _alike(batch):
        pool_id, spot = str(pool["id"]), pool.get("targetLowPriorityNodes", 0)
        target, wanted = pool.get("targetDedicatedNodes", 0) + spot, batch.settings.pool.node_count
        if target and not _works(batch, pool_id):
            continue
        batch.use_existing_pool(pool_id)
        if target >= wanted or pool.get("enableAutoScale"):
            return PoolChoice(pool_id, "used again", ours=False)
        batch.resize_pool(pool_id, wanted - spot)
        return PoolChoice(pool_id, f"used again, with {wanted} nodes instead of {target}", ours=target == 0)
    return PoolChoice(batch.create_pool(), MADE, ours=True)


def find_pool(batch: AzureBatch) -> str | None:
    """The pool that `choose_pool` would use again, if there is one; nothing changes."""
    for pool in _alike(batch):
        nodes = pool.get("targetDedicatedNodes", 0) + pool.get("targetLowPriorityNodes", 0)
        if not nodes or _works(batch, str(pool["id"])):
            return str(pool["id"])
    return None


def empty_pool(batch: AzureBatch, pool_id: str) -> bool:
    """Take a pool's nodes away, so that nothing is paid for; not while another job needs them. Whether it was done."""
    for job in batch.jobs.list(everything=True):
        place = job.get("executionInfo") or job.get("poolInfo") or {}
        if place.get("poolId") == pool_id and job.get("state") not in ENDED:
            return False
    batch.pools.resize(pool_id, 0, 0)
    return True


def give_back(pools: Pools, choice: PoolChoice) -> str:
    """Undo `choose_pool` for a run that is off, so that nothing is paid for it; what was done, in words."""
    if not choice.ours:
        return f"pool {choice.pool_id}: left as it was"
    if choice.how == MADE:
        pools.delete(choice.pool_id)
        return f"pool {choice.pool_id}: deleted again"
    try:
        pools.resize(choice.pool_id, 0, 0)
    except Conflict:
        return f"pool {choice.pool_id} is still growing, and its nodes cost until it is emptied or deleted"
    return f"pool {choice.pool_id}: emptied again"


def _alike(batch: AzureBatch) -> Iterator[Json]:
    settings = batch.settings.pool
    image, _ = batch.pools.image()
    wanted = (settings.vm_size.lower(), settings.slots_per_node, image.publisher, image.offer, image.sku)
    java = any(name.lower().endswith(".jar") for name in batch.storage.chosen_files() if name.startswith("app/"))
    pools = batch.service.list("/pools", filter="state eq 'active'", select=_FIELDS)
    for pool in sorted(pools, key=lambda pool: -pool.get("currentDedicatedNodes", 0)):
        reference = (pool.get("virtualMachineConfiguration") or {}).get("imageReference") or {}
        named = tuple(str(reference.get(key, "")).lower() for key in ("publisher", "offer", "sku"))
        alike = (pool["vmSize"].lower(), pool.get("taskSlotsPerNode", 1), *named) == wanted
        # Java comes with the start task, and a pool without one has none.
        if alike and batch.pools.is_ours(pool) and (not java or "startTask" in pool) and container_of(pool) is None:
            yield pool


def _works(batch: AzureBatch, pool_id: str) -> bool:
    try:
        Health(batch.service, pool_id, patience=0).check()
    except PoolError as error:
        _log.info("pool %s is not used again: %s", pool_id, error)
        return False
    return True
