"""The one thread that learns what became of a session's tasks, at a cost in proportion to what changed."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from typing import Any

from azbatchwrap.batch.health import Health
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.results import TASK_FIELDS, ErrorInfo, Results, TaskResult
from azbatchwrap.batch.service import Json, Service, at, parse_time, wire_time
from azbatchwrap.batch.wait import OUTAGE_PATIENCE, OVERLAP, QUIET_LOOKS, Pace
from azbatchwrap.errors import AzBatchWrapError, Conflict, ServiceError, TaskFailed, Throttled, Unreachable
from azbatchwrap.progress import Progress

from .future import Future
from .jobs import SessionJob, SessionJobs
from .outcome import reject, resolve, settle

_log = logging.getLogger(__name__)

#: Results read at once.
READERS = 8
#: Lists may take this part of the time: thousands of tasks that end within the overlap make them long.
LOOKING_SHARE = 0.1
_FIELDS = (*TASK_FIELDS, "stateTransitionTime")


class Watcher:
    """Watches the tasks given to `watch` and settles their futures. ``ended`` is called after each round of endings."""

    def __init__(
        self, jobs: SessionJobs, pace: Pace, progress: Progress, ended: Callable[[], None], *, by_pickle: bool
    ) -> None:
        self._jobs = jobs
        self._service: Service = jobs.manager.service
        self._pace = pace
        self._progress = progress
        self._ended = ended
        self._by_pickle = by_pickle
        self._pending: defaultdict[str, dict[str, Future]] = defaultdict(dict)
        self._seen_until: dict[str, datetime] = {}
        self._health: dict[str, Health] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._away_since: float | None = None
        #: Seconds that the present round has spent on lists.
        self._listing = 0.0
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="azbatchwrap-results")

    @property
    def pending(self) -> int:
        """Tasks that have been sent and have not ended."""
        return sum(map(len, self._pending.values()))

    def watch(self, futures: Iterable[Future]) -> None:
        """Settle these futures when their tasks end. Their jobs are known by then."""
        with self._changed:
            for future in futures:
                watched = self._pending[future.job_id].setdefault(future.task_id, future)
                if watched is not future:
                    # Two futures of one task, as after `attach`: the second hears from the first.
                    watched.add_done_callback(partial(_follow, future))
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="azbatchwrap-watcher", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def run_again(self, failed: Future, reruns: int) -> Future:
        """A future for one more run of a task that has failed, and ``reruns`` after that one."""
        again = failed.twin()
        again.allow_reruns(reruns)
        self._readers.submit(self._run_again, again)
        return again

    def _run_again(self, future: Future) -> None:
        """Have a failed task run once more, and go on watching it."""
        try:
            self._service.request("POST", at("jobs", future.job_id, "tasks", future.task_id, "reactivate"))
        except Conflict as error:
            # Somebody else has it run again; or its job is over, and the next look finds the failure once more.
            _log.info("task %s was not reactivated: %s", future.task_id, error.code)
        except AzBatchWrapError as error:
            reject(future, error)
            return
        self.watch([future])

    def stop(self) -> None:
        """End the thread; futures that are open stay open."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._readers.shutdown(wait=True)

    def _run(self) -> None:
        interval, quiet, next_check = self._pace.shortest, 0, time.monotonic() + self._pace.pool
        while self._wait(interval):
            self._listing = 0.0
            try:
                changed = self._look_everywhere(thorough=quiet >= QUIET_LOOKS)
                if time.monotonic() >= next_check:
                    self._check()
                    next_check = time.monotonic() + self._pace.pool
                self._away_since = None
            except AzBatchWrapError as error:
                changed = False
                if not self._is_an_outage(error):
                    self._give_up(error)
            except Exception as error:  # noqa: BLE001 (without this thread nobody would ever hear of any task)
                _log.exception("the watcher of a session failed")
                self._give_up(TaskFailed(f"the results could not be read: {type(error).__name__}: {error}"))
                changed = False
            quiet = 0 if changed else (quiet + 1) % (QUIET_LOOKS + 1)
            interval = self._pace.next(interval, changed=changed)
            interval = max(interval, self._listing / LOOKING_SHARE)

    def _wait(self, interval: float) -> bool:
        """Pause; with nothing to watch, until there is. False when it is time to stop."""
        with self._changed:
            while not self._stopping and not any(self._pending.values()):
                self._changed.wait()
            if not self._stopping:
                self._changed.wait(interval)
            return not self._stopping

    def _look_everywhere(self, *, thorough: bool) -> bool:
        with self._changed:
            jobs = [job_id for job_id, futures in self._pending.items() if futures]
        return sum(self._look(job_id, thorough=thorough) for job_id in jobs) > 0

    def _look(self, job_id: str, *, thorough: bool) -> bool:
        """Settle what ended since the last look; whether there was anything."""
        since = None if thorough else self._seen_until.get(job_id)
        text = "state eq 'completed'"
        if since is not None:
            text += f" and stateTransitionTime ge datetime'{wire_time(since - OVERLAP)}'"
        began = time.monotonic()
        found = list(self._service.list(at("jobs", job_id, "tasks"), filter=text, select=_FIELDS))
        self._listing += time.monotonic() - began
        for task in found:
            moment = parse_time(task["stateTransitionTime"])
            self._seen_until[job_id] = max(self._seen_until.get(job_id, moment), moment)
        reading = self._read(job_id, found)
        wait(reading)
        if reading:
            self._ended()
        return bool(reading)

    def _read(self, job_id: str, tasks: Iterable[Json]) -> list[concurrent.futures.Future[None]]:
        """Begin to settle those of the tasks that are watched. Nothing here keeps a result after its future is gone."""
        watched = ((self._take(job_id, task["id"]), task) for task in tasks)
        mine = [(future, task) for future, task in watched if future is not None]
        if not mine:
            return []
        results = self._results(job_id)
        return [self._readers.submit(self._settle, results, *mine.pop()) for _ in range(len(mine))]

    def _take(self, job_id: str, task_id: str) -> Future | None:
        with self._changed:
            return self._pending[job_id].pop(task_id, None)

    def _results(self, job_id: str) -> Results:
        job: SessionJob | None = self._jobs.opened.get(job_id)
        if job is not None:
            return job.results
        return Results(self._service, self._jobs.manager.storage, self._jobs.manager.jobs.facts(job_id))

    def _settle(self, results: Results, future: Future, task: Json) -> None:
        try:
            if future.cancelled():
                return
            result = results.read(task)
            if result.state == "failed" and future.take_rerun():
                self._run_again(future)
                return
            stderr = results.stderr_end(task["id"]) if result.state == "failed" and result.started else ""
            settle(future, result, stderr, by_pickle=self._by_pickle)
        except Exception as error:  # noqa: BLE001 (also a result that cannot be read is one)
            reject(future, error if isinstance(error, AzBatchWrapError) else _unreadable(future, error))

    # -- what keeps tasks from ending --

    def _check(self) -> None:
        """Raises a `PoolError` when no node can run what is left; settles the tasks of jobs that have ended."""
        with self._changed:
            waiting = [job_id for job_id, futures in self._pending.items() if futures]
        for job_id in waiting:
            facts = self._jobs.manager.jobs.facts(job_id)
            if facts.state == "completed":
                self._end_all(facts)
                continue
            health = self._health.setdefault(job_id, self._jobs.manager.health_of(facts.pool_id, job_id))
            for line in health.check():
                self._progress.message(line)

    def _end_all(self, facts: JobFacts) -> None:
        """The job is over: what has not ended never will."""
        with self._changed:
            waiting = set(self._pending[facts.job_id])
        results = Results(self._service, self._jobs.manager.storage, facts)
        for task in self._service.list(at("jobs", facts.job_id, "tasks"), select=_FIELDS):
            if task["id"] in waiting and (future := self._take(facts.job_id, task["id"])) is not None:
                self._settle(results, future, task)
        for task_id in waiting:
            if (future := self._take(facts.job_id, task_id)) is not None:
                error = ErrorInfo("ResultLost", f"job {facts.job_id} has ended, and has no such task")
                lost = TaskResult(task_id, "lost", facts.job_id, error=error)
                settle(future, lost, "", by_pickle=self._by_pickle)
        self._ended()

    def _is_an_outage(self, error: AzBatchWrapError) -> bool:
        """Whether the service may come back: work that runs for hours outlives its restart."""
        away = isinstance(error, Unreachable | Throttled)
        if not away and not (isinstance(error, ServiceError) and (error.status or 0) >= 500):
            return False
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._progress.message(f"the service is away, the session goes on: {error}")
        return time.monotonic() - self._away_since < OUTAGE_PATIENCE

    def _give_up(self, error: AzBatchWrapError) -> None:
        with self._changed:
            lost = [future for futures in self._pending.values() for future in futures.values()]
            self._pending.clear()
        for future in lost:
            reject(future, error)
        self._ended()


def _follow(follower: Future, future: concurrent.futures.Future[Any]) -> None:
    assert isinstance(future, Future)
    follower.record = future.record
    if future.cancelled():
        follower.cancel()
    elif (error := future.exception()) is not None:
        reject(follower, error)
    else:
        resolve(follower, future.result())


def _unreadable(future: Future, error: Exception) -> TaskFailed:
    failure = TaskFailed(f"the result of task {future.task_id} cannot be read: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
