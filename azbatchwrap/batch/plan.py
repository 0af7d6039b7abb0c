"""What a run would upload, make and use again, told before anything is paid for. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.errors import AzBatchWrapError, NotFound

from .capacity import UNKNOWN, Demand, Share, capacity_of
from .manager import AzureBatch
from .prices import Price
from .service import Json

#: Files that are named one by one.
MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that nodes need: ``size`` in bytes; one that is ``stored`` is not sent again."""

    name: str
    size: int
    stored: bool


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """The pool of a run, with at most ``nodes`` dedicated ones and ``spot_nodes``; ``formula`` scales it, if there is one.

    ``least`` are the dedicated nodes that it has while it is used at all.
    """

    pool_id: str
    is_new: bool
    vm_size: str
    nodes: int
    slots: int
    image: str
    spot_nodes: int = 0
    formula: str = ""
    least: int | None = None

    def __str__(self) -> str:
        nodes = many(self.nodes, "node") if self.least in {None, self.nodes} else f"{self.least} to {self.nodes} nodes"
        spot = f" and {many(self.spot_nodes, 'spot node')}" if self.spot_nodes else ""
        scaled = "scaled by a formula" if self.formula else "fixed"
        made = "would be made" if self.is_new else "is used again"
        return f"{self.pool_id} {made}: {nodes}{spot} ({scaled}) of {self.vm_size}, {many(self.slots, 'slot')} each"


@dataclass(frozen=True, slots=True)
class Room:
    """Whether the account has room for the pool. ``unknown`` says why that cannot be told; then all else is empty."""

    unknown: str = ""
    size: str = ""
    shares: tuple[Share, ...] = ()

    def lines(self) -> list[str]:
        """In words."""
        if self.unknown:
            return [f"quota: {self.unknown}"]
        lines = [f"VM size: {self.size}", *(f"quota: {share}" for share in self.shares)]
        if not any("cores" in share.what for share in self.shares):
            lines.append(
                "quota: cores are unknown (the account's subscription counts them, or nobody knows the VM size)"
            )
        return lines


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it is one. ``tasks`` counts them by what they call; ``done`` are those that ran already."""

    source: str
    tasks: Mapping[str, int]
    files: tuple[PlannedFile, ...]
    pool: PlannedPool
    room: Room
    is_local: bool
    done: int = 0

    @property
    def count(self) -> int:
        """All tasks."""
        return sum(self.tasks.values())

    def node_hours(self, task_seconds: float) -> float:
        """Node time that the tasks take when each runs so long and every slot is used."""
        return (self.count - self.done) * task_seconds / self.pool.slots / 3600

    def cost(self, task_seconds: float, price: Price) -> float:
        """Of that node time, on the pool's mixture of nodes."""
        return price.of(self.node_hours(task_seconds), self.pool.nodes, self.pool.spot_nodes)

    def lines(self, *, task_seconds: float | None = None, price: Price | None = None) -> list[str]:
        """The plan in words."""
        new = [file for file in self.files if not file.stored]
        found = [f"{self.source}: {self.count} tasks" + (f", {self.done} of them done already" if self.done else "")]
        found += [f"  {count} x {what}" for what, count in sorted(self.tasks.items())]
        found.append(f"files: {len(self.files)}, {len(new)} to upload ({sum(file.size for file in new)} bytes)")
        found += [f"  + {file.name} ({file.size} bytes)" for file in new[:MOST_NAMED]]
        found += [f"  + {len(new) - MOST_NAMED} more"] if len(new) > MOST_NAMED else []
        found += [f"pool: {self.pool}", f"image: {self.pool.image}", *self.room.lines()]
        found.append(f"cost: {self._cost(task_seconds, price)}")
        return found

    def _cost(self, task_seconds: float | None, price: Price | None) -> str:
        if task_seconds is None:
            return "unknown until a task's duration is given"
        total, nodes = self.node_hours(task_seconds), self.pool.nodes + self.pool.spot_nodes
        hours = f"{total:.2f} node-hours" + (f" (at least {total / nodes:.2f} hours)" if nodes else "")
        if price is not None:
            return f"{hours}, {self.cost(task_seconds, price):.2f} {price.currency}".rstrip()
        return f"{hours}, for nothing on this machine" if self.is_local else f"{hours}; no price was given"


def many(count: int, noun: str) -> str:
    """So many of them, in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def planned_files(batch: AzureBatch, files: Mapping[str, Path | bytes]) -> tuple[PlannedFile, ...]:
    """What storage says of these files."""
    found = batch.storage.stored(files)
    return tuple(PlannedFile(name, size, stored) for name, (size, stored) in sorted(found.items()))


@dataclass(frozen=True, slots=True)
class PoolWish:
    """The pool that a run asks for. What is ``None`` is as configured; without ``nodes``, the pool must be there."""

    pool_id: str
    nodes: int | None = None
    spot_nodes: int = 0
    least: int | None = None
    vm_size: str | None = None
    slots: int | None = None
    formula: str = ""
    capabilities: frozenset[str] = frozenset()


def planned_pool(batch: AzureBatch, wish: PoolWish) -> PlannedPool:
    """The pool as it is, or as it would be made. Raises NotFound for one that must be there and is not."""
    try:
        return _as_it_is(batch.pools.get(wish.pool_id), wish)
    except NotFound:
        if wish.nodes is None:
            raise
    settings = batch.settings.pool
    image, replaced = batch.pools.image(wish.capabilities)
    return PlannedPool(
        wish.pool_id,
        is_new=True,
        vm_size=wish.vm_size or settings.vm_size,
        nodes=wish.nodes,
        slots=wish.slots or settings.slots_per_node,
        image=f"{image}{f' ({replaced})' if replaced else ''}",
        spot_nodes=wish.spot_nodes,
        formula=wish.formula,
        least=wish.least,
    )


def _as_it_is(pool: Json, wish: PoolWish) -> PlannedPool:
    reference = (pool.get("virtualMachineConfiguration") or {}).get("imageReference") or {}
    own = reference.get("virtualMachineImageId")
    return PlannedPool(
        pool["id"],
        is_new=False,
        vm_size=str(pool["vmSize"]),
        nodes=max(wish.nodes or 0, int(pool.get("targetDedicatedNodes", 0))),
        slots=int(pool.get("taskSlotsPerNode", 1)),
        image=own or " ".join(str(reference.get(key, "")) for key in ("publisher", "offer", "sku")),
        spot_nodes=max(wish.spot_nodes, int(pool.get("targetLowPriorityNodes", 0))),
        formula=str(pool.get("autoScaleFormula", "")),
        least=wish.least,
    )


def room_for(batch: AzureBatch, pool: PlannedPool) -> Room:
    """What the management plane says of the pool; where there is none, or it does not answer, why not."""
    if batch.settings.management is None:
        return Room("none on this machine" if batch.settings.is_local else UNKNOWN)
    try:
        capacity = capacity_of(batch.settings, batch.service)
    except AzBatchWrapError as error:
        return Room(f"unknown ({error})")
    size = capacity.size(pool.vm_size)
    named = str(size) if size is not None else f"{pool.vm_size} is not offered in the account's location"
    return Room("", named, capacity.shares(Demand(pool.pool_id, pool.vm_size, pool.nodes, pool.spot_nodes)))


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes."""
    return dict(Counter(names))
