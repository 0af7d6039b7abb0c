"""Waiting for a job's tasks: asks only for what changed, watches the pool, and ends what can never run."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from azbatchwrap.errors import Conflict, NotFound, ServiceError, Throttled, Unreachable, WaitTimeout
from azbatchwrap.progress import NullProgress, Progress

from .health import Health
from .service import Json, Service, at, parse_time, wire_time

_log = logging.getLogger(__name__)

#: Lists may show a task a little later than its time of completion says, so each look goes back this far.
OVERLAP = timedelta(seconds=2)
#: Seconds that the service may be away, beyond the retries of each request, before a wait is given up.
OUTAGE_PATIENCE = 300.0
#: Tasks are looked for again without a time once this many looks in a row brought nothing.
QUIET_LOOKS = 20
_FIELDS = ("id", "state", "stateTransitionTime", "executionInfo", "dependsOn")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at the tasks (growing while nothing happens) and at the pool."""

    shortest: float
    longest: float
    pool: float

    def next(self, interval: float, *, changed: bool) -> float:
        """The pause after this one."""
        return max(self.shortest, interval / 2) if changed else min(self.longest, interval * 1.5)


#: On this machine a look costs a millisecond; across a network it costs the account's request quota.
LOCAL_PACE = Pace(0.02, 0.5, 1.0)
NETWORK_PACE = Pace(1.0, 10.0, 15.0)


@dataclass(slots=True)
class Waiter:
    """Waits for one job. ``clock`` and ``sleep`` are seconds and parameters so that tests need no time."""

    service: Service
    job_id: str
    health: Health
    pace: Pace
    progress: Progress = field(default_factory=NullProgress)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _pending: set[str] = field(default_factory=set)
    _over: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _children: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _seen_until: datetime | None = None
    _away_since: float | None = None

    def run(self, timeout: float | None = None) -> None:
        """Return when every task has ended, or the job has.

        Raises WaitTimeout after ``timeout`` seconds, a `PoolError` when no node can run what is left, NotFound when
        the job is gone.
        """
        deadline = None if timeout is None else self.clock() + timeout
        self.progress.start("tasks", f"job {self.job_id}", unit="tasks")
        self._take_in(self._list())
        interval, next_pool, quiet = self.pace.shortest, self.clock(), 0
        while self._pending or not self._through_outages(self._nothing_is_left):
            if self.clock() >= next_pool:
                if self._through_outages(self._nothing_to_wait_for):
                    break
                next_pool = self.clock() + self.pace.pool
            if deadline is not None and self.clock() >= deadline:
                raise WaitTimeout(f"job {self.job_id}: {len(self._pending)} tasks are not done after {timeout:g} s")
            self._pause(interval, deadline)
            thorough = quiet >= QUIET_LOOKS
            changed = self._through_outages(partial(self._look, thorough=thorough))
            quiet = 0 if changed or thorough else quiet + 1
            interval = self.pace.next(interval, changed=changed)
        self.progress.finish("tasks", f"job {self.job_id}: {len(self._failed)} failed" if self._failed else None)

    def _through_outages(self, step: Callable[[], bool]) -> bool:
        """``step()``, or False while the service is away: work that runs for days outlives a restart of the service."""
        try:
            answer = step()
        except ServiceError as error:
            away = isinstance(error, Unreachable | Throttled) or (error.status or 0) >= 500
            if self._away_since is None:
                self._away_since = self.clock()
                if away:
                    self.progress.message(f"the service is away, the wait goes on: {error}")
            if not away or self.clock() - self._away_since >= OUTAGE_PATIENCE:
                raise
            return False
        self._away_since = None
        return answer

    def _nothing_to_wait_for(self) -> bool:
        if self._job_is_over():
            return True
        for line in self.health.check():
            self.progress.message(line)
        return False

    def _pause(self, interval: float, deadline: float | None) -> None:
        self.sleep(interval if deadline is None else max(0.0, min(interval, deadline - self.clock())))

    def _list(self, filter_text: str = "") -> Iterable[Json]:
        return self.service.list(at("jobs", self.job_id, "tasks"), filter=filter_text, select=_FIELDS)

    def _look(self, *, thorough: bool) -> bool:
        """Take in what ended since the last look; whether there was anything. Costs what changed, not what there is."""
        since = None if thorough else self._seen_until
        filter_text = "state eq 'completed'"
        if since is not None:
            filter_text += f" and stateTransitionTime ge datetime'{wire_time(since - OVERLAP)}'"
        before = len(self._pending)
        self._take_in(self._list(filter_text))
        return len(self._pending) != before

    def _nothing_is_left(self) -> bool:
        """Whether no task was added while we waited for those we knew."""
        self._take_in(self._list("state ne 'completed'"))
        return not self._pending

    def _take_in(self, tasks: Iterable[Json]) -> None:
        blocked = set()
        for task in tasks:
            task_id, over = task["id"], task["state"] == "completed"
            if over and task_id not in self._over:
                self._end(task_id, task)
                blocked |= self._children.pop(task_id, set()) if task_id in self._failed else set()
            elif not over and task_id not in self._over:
                self._pending.add(task_id)
                parents = set((task.get("dependsOn") or {}).get("taskIds") or ())
                if parents & self._failed:
                    blocked.add(task_id)
                for parent in parents - self._over:
                    self._children[parent].add(task_id)
        for task_id in blocked & self._pending:
            self._end_dependent(task_id)
        self.progress.update("tasks", len(self._over), len(self._over) + len(self._pending))

    def _end(self, task_id: str, task: Json) -> None:
        self._over.add(task_id)
        self._pending.discard(task_id)
        if (task.get("executionInfo") or {}).get("result") == "failure":
            self._failed.add(task_id)
        if "stateTransitionTime" in task:
            moment = parse_time(task["stateTransitionTime"])
            self._seen_until = max(self._seen_until or moment, moment)

    def _end_dependent(self, task_id: str) -> None:
        """Azure keeps a task whose parent failed active for ever; ended, it counts, and its own dependents follow."""
        try:
            self.service.request("POST", at("jobs", self.job_id, "tasks", task_id, "terminate"))
        except (Conflict, NotFound) as error:
            _log.info("job %s: dependent task %s was not ended: %s", self.job_id, task_id, error.code)

    def _job_is_over(self) -> bool:
        """Whether no task of the job will run any more: it reached its limit, or was terminated."""
        job = self.service.get(at("jobs", self.job_id), select=("id", "state", "executionInfo"))
        if job["state"] != "completed":
            return False
        reason = (job.get("executionInfo") or {}).get("terminateReason", "no reason given")
        self.progress.message(f"job {self.job_id} ended ({reason}); {len(self._pending)} of its tasks had not")
        return True
