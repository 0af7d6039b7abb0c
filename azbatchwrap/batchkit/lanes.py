"""What a run shows of itself while it goes on: all items, and a lane per endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from azbatchwrap.endpoints.pool import EndpointPool
from azbatchwrap.progress import NullProgress, Progress

from .batch import Batch
from .types import Counts

#: Seconds between updates.
INTERVAL = 0.5
ITEMS = "items"


def totals(batches: Iterable[Batch]) -> Counts:
    """The counts of several batches together."""
    together = Counts()
    for batch in batches:
        for name in Counts.__dataclass_fields__:
            setattr(together, name, getattr(together, name) + getattr(batch.counts, name))
    return together


async def show(progress: Progress, pool: EndpointPool, batches: Callable[[], Iterable[Batch]]) -> None:
    """Report to ``progress`` until cancelled."""
    if isinstance(progress, NullProgress):
        return
    lanes = _Lanes(progress, pool)
    progress.start(ITEMS, "items", None, "items")
    before, done = asyncio.get_running_loop().time(), 0
    try:
        while True:
            now, counts = asyncio.get_running_loop().time(), totals(batches())
            rate = (counts.done - done) / (now - before) if now > before else 0.0
            before, done = now, counts.done
            progress.update(ITEMS, counts.done, counts.total or None, _text(counts, rate))
            lanes.update()
            await asyncio.sleep(INTERVAL)
    finally:
        counts = totals(batches())
        lanes.finish()
        progress.update(ITEMS, counts.done, counts.total or None)
        progress.finish(ITEMS, _text(counts, None))


def _text(counts: Counts, rate: float | None) -> str:
    parts = ["items"] if rate is None else [f"items, {rate:,.0f}/s"]
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.in_retry} to be tried again"] if counts.in_retry else []
    return ", ".join(parts)


class _Lanes:
    def __init__(self, progress: Progress, pool: EndpointPool) -> None:
        self._progress = progress
        self._pool = pool
        self._shown: set[str] = set()

    def update(self) -> None:
        members = self._pool.members
        for member in members:
            text = f"{member.name}: {member.health.state.value}, {member.in_flight} in flight"
            key = f"endpoint {member.name}"
            if key not in self._shown:
                self._shown.add(key)
                self._progress.start(key, text, None, "served")
            self._progress.update(key, member.served, None, text)
        for key in self._shown - {f"endpoint {member.name}" for member in members}:
            self._progress.finish(key)
            self._shown.discard(key)

    def finish(self) -> None:
        self.update()
        for key in sorted(self._shown):
            self._progress.finish(key, key.removeprefix("endpoint "))
        self._shown.clear()
