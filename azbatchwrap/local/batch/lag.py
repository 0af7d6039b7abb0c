"""Task counts as the real service shows them on a slow day: as they were a while ago."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from azbatchwrap.local.batch.model import Job

#: Changes within so many seconds are kept as one.
GRAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    counts: list[int]
    slots: list[int]


@dataclass(slots=True)
class CountsLag:
    """What the counters of each job were. Nothing is kept while there is no lag."""

    seconds: float = 0.0
    _history: dict[int, deque[_Seen]] = field(default_factory=dict)

    def set(self, seconds: float, jobs: Iterable[Job]) -> None:
        """Change the lag; what the jobs' counters are now counts as known to everyone."""
        self.seconds = seconds
        self._history.clear()
        if seconds:
            for job in jobs:
                self._history[job.number] = deque([_Seen(0.0, list(job.counts), list(job.slots))])

    def note(self, job: Job) -> None:
        """The job's counters have changed."""
        now = time.monotonic()
        history = self._history.setdefault(job.number, deque())
        if history and now - history[-1].at < GRAIN_SECONDS:
            now = history.pop().at
        history.append(_Seen(now, list(job.counts), list(job.slots)))
        while len(history) > 1 and history[1].at <= now - self.seconds:
            history.popleft()

    def seen(self, job: Job) -> tuple[list[int], list[int]]:
        """The counts and slots that an answer shows: nothing for a job whose first task is younger than the lag."""
        if not self.seconds:
            return job.counts, job.slots
        known = time.monotonic() - self.seconds
        shown = [0] * len(job.counts), [0] * len(job.slots)
        for each in self._history.get(job.number, ()):
            if each.at > known:
                break
            shown = each.counts, each.slots
        return shown

    def forget(self, job: Job) -> None:
        self._history.pop(job.number, None)
