"""Pools as policy: what a session wants of a pool, found again by its hash, and given back when nobody uses it.

A pool made here scales by a formula, so that it is emptied also when no driver is alive to do it: it keeps its nodes
while tasks are pending, and for a while after the last one or after a session has asked for them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from azbatchwrap import names
from azbatchwrap.batch.formula import Scale, read_formula
from azbatchwrap.batch.node_setup import NodeSetup
from azbatchwrap.batch.plan import PoolWish
from azbatchwrap.batch.pools import PoolPlan
from azbatchwrap.batch.service import Json, at
from azbatchwrap.config import PoolSettings
from azbatchwrap.errors import ConfigurationError, Conflict
from azbatchwrap.manifest import parse_duration

if TYPE_CHECKING:
    from azbatchwrap.batch.manager import AzureBatch

#: Says in a pool's metadata which policy made it.
POLICY = "azbatchwrap_policy"
#: Azure's GPU size with the lowest price and an NVIDIA T4, available in most regions.
GPU_SIZE = "standard_nc4as_t4_v3"
#: With this status the management plane refuses to make a pool that is there.
PRECONDITION_FAILED = 412


@dataclass(frozen=True, slots=True)
class PoolPolicy(NodeSetup):
    """What a pool should be. ``nodes`` are dedicated, ``spot_nodes`` may be taken away at any time.

    ``most`` makes the number of nodes follow the work, from ``nodes`` to ``most``. ``keep`` is how long an idle pool
    keeps its nodes, in seconds or as ``"10m"``. ``vm_size`` and ``slots`` default to the configured ones. The other
    arguments, which the ready-made policies take too, are those of `NodeSetup`.
    """

    nodes: int = 1
    spot_nodes: int = 0
    most: int | None = None
    keep: float | str = "10m"
    vm_size: str | None = None
    slots: int | None = None

    @classmethod
    def small(cls, *, nodes: int = 1, **further: Any) -> PoolPolicy:
        """One node (or a few) of the configured size."""
        return cls(nodes=nodes, **further)

    @classmethod
    def spot(cls, nodes: int, *, floor: int = 0, **further: Any) -> PoolPolicy:
        """Spot nodes, with ``floor`` dedicated ones beside them, and more of those while spot nodes are taken away."""
        return cls(nodes=floor, spot_nodes=nodes, **further)

    @classmethod
    def gpu(cls, nodes: int = 1, *, vm_size: str = GPU_SIZE, **further: Any) -> PoolPolicy:
        """Nodes with a graphics card, of an image that has its drivers."""
        return cls(nodes=nodes, vm_size=vm_size, gpu_drivers=True, **further)

    @classmethod
    def autoscale(cls, lo: int, hi: int, **further: Any) -> PoolPolicy:
        """From ``lo`` to ``hi`` nodes, as many as the pending tasks fill."""
        return cls(nodes=lo, most=hi, **further)

    def check(self) -> None:
        """Raises ConfigurationError for numbers that make no pool."""
        if self.nodes < 0 or self.spot_nodes < 0 or (self.most or self.nodes + self.spot_nodes) < 1:
            raise ConfigurationError(f"a pool of {self.nodes} nodes and {self.spot_nodes} spot nodes runs nothing")
        if self.most is not None and self.most < self.nodes:
            raise ConfigurationError(f"autoscale from {self.nodes} to {self.most} nodes: the second must not be less")
        if parse_duration(self.keep) < 300:
            raise ConfigurationError(
                f"keep={self.keep!r}: formulas run every 5 minutes, so less than that cannot be kept"
            )
        self.check_setup()

    def scale(self, wanted: datetime) -> Scale:
        """What its pool's formula is made of; ``wanted`` is when a session last asked for the nodes."""
        most = self.nodes if self.most is None else self.most
        return Scale(self.nodes, most, self.spot_nodes, parse_duration(self.keep), wanted)

    def hash(self, settings: PoolSettings, project: str) -> str:
        """Of all that makes two pools different; not of how long they are kept."""
        wanted = {
            "nodes": [self.nodes, self.spot_nodes, self.most],
            "setup": self.hashed(),
            "vm_size": (self.vm_size or settings.vm_size).lower(),
            "slots": self.slots or settings.slots_per_node,
            "image": [settings.publisher, settings.offer, settings.sku],
            "project": project,
        }
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]


def pool_id_of(policy: PoolPolicy, settings: PoolSettings, project: str) -> str:
    """The id of the pool that this policy makes."""
    return f"{names.container_slug(project)[:40].strip('-')}-{policy.hash(settings, project)}"


def wish_of(policy: PoolPolicy | str, settings: PoolSettings, project: str) -> PoolWish:
    """The pool that this policy would make or find; or the one with this id, which is there. Raises ConfigurationError."""
    if isinstance(policy, str):
        return PoolWish(policy)
    policy.check()
    return PoolWish(
        pool_id_of(policy, settings, project),
        nodes=policy.nodes if policy.most is None else policy.most,
        spot_nodes=policy.spot_nodes,
        least=policy.nodes,
        vm_size=policy.vm_size,
        slots=policy.slots,
        formula=policy.scale(datetime.now(timezone.utc)).formula(),
        capabilities=policy.capabilities,
    )


def ensure_pool(batch: AzureBatch, policy: PoolPolicy) -> str:
    """Find the policy's pool, or make it; in both cases it gets its nodes. Its id. Raises ConfigurationError, PoolError."""
    policy.check()
    settings, project = batch.settings.pool, batch.storage.project
    pool_id = pool_id_of(policy, settings, project)
    now = datetime.now(timezone.utc)
    pool = batch.service.find(at("pools", pool_id))
    if pool is None or pool.get("state") == "deleting":
        _make(batch, policy, pool_id, now)
    else:
        _wake(batch, policy, pool, now)
    return batch.use_existing_pool(pool_id)


def _make(batch: AzureBatch, policy: PoolPolicy, pool_id: str, now: datetime) -> None:
    settings, project = batch.settings.pool, batch.storage.project
    plan = PoolPlan(
        pool_id,
        policy.vm_size or settings.vm_size,
        policy.nodes,
        policy.spot_nodes,
        policy.slots or settings.slots_per_node,
        metadata={POLICY: policy.hash(settings, project)},
        formula=policy.scale(now).formula(),
        **policy.setup(),
    )
    try:
        batch.patience.wait_out(lambda: batch.pools.create(plan))
    except Conflict as error:
        # Another session was faster.
        if error.code != "PoolExists" and error.status != PRECONDITION_FAILED:
            raise


def _wake(batch: AzureBatch, policy: PoolPolicy, pool: Json, now: datetime) -> None:
    wish, there = policy.scale(now), read_formula(pool.get("autoScaleFormula", ""))
    if there is not None and replace(there, wanted=now) == wish:
        age = (now - there.wanted).total_seconds()
        # It has its nodes for a good while yet, and each change of a formula bars the next for half a minute.
        if age < wish.span / 2:
            return
    batch.pools.set_formula(pool["id"], wish.formula())
