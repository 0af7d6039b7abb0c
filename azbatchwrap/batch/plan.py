"""What a run would upload, make and use again, told before anything is paid for. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.errors import NotFound

from .checks import UNKNOWN
from .manager import AzureBatch
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
    """The pool of a run. ``nodes`` is its target; ``formula`` is what scales it, empty for a fixed size."""

    pool_id: str
    is_new: bool
    vm_size: str
    nodes: int
    slots: int
    image: str
    formula: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it is one. ``tasks`` counts them by what they call; ``done`` are those that ran already."""

    source: str
    tasks: Mapping[str, int]
    files: tuple[PlannedFile, ...]
    pool: PlannedPool
    is_local: bool
    done: int = 0

    @property
    def count(self) -> int:
        """All tasks."""
        return sum(self.tasks.values())

    def node_hours(self, task_seconds: float) -> float:
        """Node time that the tasks take when each runs so long and every slot is used."""
        return (self.count - self.done) * task_seconds / self.pool.slots / 3600

    def lines(self, *, task_seconds: float | None = None, price: float | None = None) -> list[str]:
        """The plan in words. ``price`` is of one node for an hour, in whatever currency."""
        new = [file for file in self.files if not file.stored]
        pool = self.pool
        found = [f"{self.source}: {self.count} tasks" + (f", {self.done} of them done already" if self.done else "")]
        found += [f"  {count} x {what}" for what, count in sorted(self.tasks.items())]
        found.append(f"files: {len(self.files)}, {len(new)} to upload ({sum(file.size for file in new)} bytes)")
        found += [f"  + {file.name} ({file.size} bytes)" for file in new[:MOST_NAMED]]
        found += [f"  + {len(new) - MOST_NAMED} more"] if len(new) > MOST_NAMED else []
        made = "would be made" if pool.is_new else "is used again"
        scaled = "scaled by a formula" if pool.formula else "fixed"
        found.append(
            f"pool: {pool.pool_id} {made}: {pool.nodes} nodes ({scaled}) of {pool.vm_size}, {pool.slots} slots each"
        )
        found.append(f"image: {pool.image}")
        found.append(f"quota: {'none on this machine' if self.is_local else UNKNOWN}")
        found.append(f"cost: {self._cost(task_seconds, price)}")
        return found

    def _cost(self, task_seconds: float | None, price: float | None) -> str:
        if task_seconds is None:
            return "unknown until a task's duration is given"
        hours = self.node_hours(task_seconds)
        if self.is_local:
            return f"{hours:.2f} node-hours, for nothing on this machine"
        return f"{hours:.2f} node-hours" + (f", {hours * price:.2f}" if price is not None else "; no price was given")


def planned_files(batch: AzureBatch, files: Mapping[str, Path | bytes]) -> tuple[PlannedFile, ...]:
    """What storage says of these files."""
    found = batch.storage.stored(files)
    return tuple(PlannedFile(name, size, stored) for name, (size, stored) in sorted(found.items()))


def planned_pool(
    batch: AzureBatch,
    pool_id: str,
    *,
    nodes: int,
    vm_size: str | None = None,
    slots: int | None = None,
    formula: str = "",
) -> PlannedPool:
    """The pool as it is, or as it would be made."""
    settings = batch.settings.pool
    image, replaced = batch.pools.image()
    try:
        there: Json | None = batch.pools.get(pool_id)
    except NotFound:
        there = None
    if there is None:
        slots, size = slots or settings.slots_per_node, vm_size or settings.vm_size
        return PlannedPool(pool_id, True, size, nodes, slots, f"{image}{f' ({replaced})' if replaced else ''}", formula)
    reference = (there.get("virtualMachineConfiguration") or {}).get("imageReference") or {}
    named = " ".join(str(reference.get(key, "")) for key in ("publisher", "offer", "sku"))
    target = int(there.get("targetDedicatedNodes", 0)) + int(there.get("targetLowPriorityNodes", 0))
    slots = int(there.get("taskSlotsPerNode", 1))
    return PlannedPool(
        pool_id, False, str(there["vmSize"]), target, slots, named, str(there.get("autoScaleFormula", ""))
    )


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes."""
    return dict(Counter(names))
