"""Measurements of a pool that formulas look back at: what a formula may ask, and the ring that keeps them."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

#: The service takes one sample of every metric in each such period.
SAMPLE_PERIOD: Final = timedelta(seconds=30)
#: A sample can be read by formulas about so long after it was taken.
VISIBLE_AFTER: Final = timedelta(seconds=60)
#: How far formulas can look back. The service names no bound; a day covers every documented use.
KEEP: Final = timedelta(hours=24)

#: Read-only variables of the service, in the order of its documentation.
METRICS: Final = (
    "$CPUPercent",
    "$WallClockSeconds",
    "$MemoryBytes",
    "$DiskBytes",
    "$DiskReadBytes",
    "$DiskWriteBytes",
    "$DiskReadOps",
    "$DiskWriteOps",
    "$NetworkInBytes",
    "$NetworkOutBytes",
    "$SampleNodeCount",
    "$ActiveTasks",
    "$RunningTasks",
    "$PendingTasks",
    "$SucceededTasks",
    "$FailedTasks",
    "$TaskSlotsPerNode",
    "$CurrentDedicatedNodes",
    "$CurrentLowPriorityNodes",
    "$UsableNodeCount",
    "$PreemptedNodeCount",
)
_COLUMNS: Final = {name: number for number, name in enumerate(METRICS)}


class Sample(NamedTuple):
    """One measurement; ``taken`` is an aware time."""

    taken: datetime
    value: float


class SampleSource(Protocol):
    """Where a formula finds its samples."""

    def samples(self, metric: str, now: datetime) -> Sequence[Sample]:
        """What can be read of ``metric`` at ``now``, oldest first."""


class SampleHistory:
    """The last samples of one pool, at most ``keep`` / 30 s of them (about 1 MB for a day).

    Times come from the caller's clock. ``visible_after`` is the service's delay between taking a sample and
    showing it.
    """

    def __init__(self, *, keep: timedelta = KEEP, visible_after: timedelta = VISIBLE_AFTER) -> None:
        self._visible_after = visible_after
        self._rows: deque[tuple[datetime, array[float]]] = deque(maxlen=max(1, keep // SAMPLE_PERIOD))

    def record(self, values: Mapping[str, float], at: datetime) -> None:
        """Keep a sample of every metric, taken ``at`` an aware time; a metric without a value counts as 0.

        Samples later than ``at`` are forgotten: the clock was set back.
        """
        while self._rows and self._rows[-1][0] >= at:
            self._rows.pop()
        self._rows.append((at, array("d", (values.get(name, 0.0) for name in METRICS))))

    def samples(self, metric: str, now: datetime) -> list[Sample]:
        """What a formula may see of ``metric`` at ``now``, oldest first."""
        column = _COLUMNS[metric]
        latest = now - self._visible_after
        return [Sample(taken, row[column]) for taken, row in self._rows if taken <= latest]

    def __len__(self) -> int:
        return len(self._rows)
