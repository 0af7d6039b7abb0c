"""What tasks took, added up per job, schedule, pool and account, and how ``$expand=stats`` shows it."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.model import Job, Node, Pool, Run, Schedule
from azbatchwrap.local.batch.node import Usage
from azbatchwrap.local.batch.sizes import processors
from azbatchwrap.local.batch.store import Store

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

#: Of the account: jobs and pools that are gone.
JOBS, POOLS = "jobs", "pools"
_KIND = "statistics"
_TICKS_PER_MICROSECOND = wire.TICKS_PER_SECOND // 1_000_000
_GIB = 1 << 30


@dataclass(slots=True)
class Totals:
    """Sums. Times in microseconds, sizes in bytes."""

    wall: int = 0
    user: int = 0
    kernel: int = 0
    read: int = 0
    written: int = 0
    #: The largest resident size of one process: the only one that is no sum.
    memory: int = 0
    #: From the creation of tasks to their start.
    waited: int = 0
    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    #: Time of nodes that left the pool, times their processors; dedicated nodes alone, and all.
    dedicated_cores: int = 0
    cores: int = 0

    def add(self, other: Totals) -> None:
        memory = max(self.memory, other.memory)
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.memory = memory

    def take(self, usage: Usage) -> None:
        """One process more."""
        self.add(Totals(*astuple(usage)))


class Statistics:
    """The totals of everything that there is, and of what was deleted. Written with the commit that they belong to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._totals: dict[str, Totals] = {}
        self._changed: set[str] = set()
        #: When the account was made, in ticks.
        self.since = 0
        store.before_commit.append(self._save)

    def load(self) -> None:
        self._totals = {key: Totals(**body) for key, body in self._store.load(_KIND)}
        made = dict(self._store.load("account")).get("account")
        if made is None:
            made = {"created": wire.now()}
            self._store.save("account", "account", made)
        self.since = made["created"]

    def of(self, key: str) -> Totals:
        """See `job_key` and its like, `JOBS` and `POOLS`. Not for changing."""
        return self._totals.get(key) or Totals()

    def attempted(self, run: Run, usage: Usage | None) -> None:
        """A process of a task ended; None: it never began."""
        if usage is None:
            return
        run.usage = usage if run.usage is None else run.usage.plus(usage)
        self._change(job_key(run.job)).take(usage)
        self._change(pool_key(run.node.pool)).take(usage)

    def retried(self, job: Job) -> None:
        self._change(job_key(job)).retries += 1

    def ended(self, job: Job, *, failed: bool, waited: int = 0) -> None:
        """A task is completed; ``waited`` in ticks."""
        totals = self._change(job_key(job))
        totals.succeeded += not failed
        totals.failed += failed
        totals.waited += max(0, waited) // _TICKS_PER_MICROSECOND

    def node_left(self, node: Node) -> None:
        self._change(pool_key(node.pool)).add(_node_time(node, wire.now()))

    def job_left(self, job: Job) -> None:
        """What a deleted job took stays with its schedule and the account."""
        gone = self._drop(job_key(job))
        self._change(JOBS).add(gone)
        if job.schedule is not None:
            self._change(_schedule_key(job.schedule)).add(gone)

    def pool_left(self, pool: Pool) -> None:
        self._change(POOLS).add(self._drop(pool_key(pool)))

    def schedule_left(self, schedule: Schedule) -> None:
        self._drop(schedule_key(schedule))

    def _change(self, key: str) -> Totals:
        self._changed.add(key)
        return self._totals.setdefault(key, Totals())

    def _drop(self, key: str) -> Totals:
        self._changed.discard(key)
        self._store.drop(_KIND, key)
        return self._totals.pop(key, None) or Totals()

    def _save(self) -> None:
        for key in self._changed:
            self._store.save(_KIND, key, asdict(self._totals[key]))
        self._changed.clear()


def job_key(job: Job) -> str:
    return f"job {job.number}"


def pool_key(pool: Pool) -> str:
    return f"pool {pool.id.lower()}"


def schedule_key(schedule: Schedule) -> str:
    return _schedule_key(schedule.id)


def _schedule_key(schedule_id: str) -> str:
    return f"schedule {schedule_id.lower()}"


def of_job(service: Service, job: Job, url: str) -> dict[str, Any]:
    """``stats`` of a job; ``url`` is the job's own."""
    return _tasks_view(_job_totals(service, job), _span(f"{url}?$expand=stats", job.life.created))


def of_schedule(service: Service, schedule: Schedule, url: str) -> dict[str, Any]:
    """``stats`` of a schedule: all its jobs, deleted ones too."""
    totals = Totals()
    totals.add(service.statistics.of(schedule_key(schedule)))
    for job in service.jobs.values():
        if job.schedule == schedule.id:
            totals.add(_job_totals(service, job))
    return _tasks_view(totals, _span(f"{url}?$expand=stats", schedule.life.created))


def of_all_jobs(service: Service, url: str) -> dict[str, Any]:
    """The lifetime statistics of the account's jobs, the only ones that tell how long tasks waited."""
    totals = Totals()
    totals.add(service.statistics.of(JOBS))
    for job in service.jobs.values():
        totals.add(_job_totals(service, job))
    shown = _tasks_view(totals, _span(url, service.statistics.since))
    return {**shown, "waitTime": _duration(totals.waited)}


def of_pool(service: Service, pool: Pool, url: str) -> dict[str, Any]:
    """``stats`` of a pool."""
    return _pool_view(_pool_totals(service, pool), _span(f"{url}?$expand=stats", pool.life.created))


def of_all_pools(service: Service, url: str) -> dict[str, Any]:
    """The lifetime statistics of the account's pools."""
    totals = Totals()
    totals.add(service.statistics.of(POOLS))
    for pool in service.pools.values():
        totals.add(_pool_totals(service, pool))
    return _pool_view(totals, _span(url, service.statistics.since))


def of_task(usage: Usage | None, created: int, started: int | None, url: str) -> dict[str, Any]:
    """``stats`` of a task; times in ticks, ``usage`` of all its processes that ended."""
    totals = Totals()
    if usage is not None:
        totals.take(usage)
    shown = {**_span(f"{url}?$expand=stats", created), **_consumption(totals)}
    waited = (started - created) // _TICKS_PER_MICROSECOND if started is not None else 0
    return {**shown, "waitTime": _duration(max(0, waited))}


def _job_totals(service: Service, job: Job) -> Totals:
    """With the wall-clock time, up to now, of what runs; the rest of it is known when it ends."""
    totals = Totals()
    totals.add(service.statistics.of(job_key(job)))
    now = wire.now()
    for run in job.runs.values():
        if run.handle is not None:
            totals.wall += (now - wire.from_nanoseconds(run.handle.started)) // _TICKS_PER_MICROSECOND
    return totals


def _pool_totals(service: Service, pool: Pool) -> Totals:
    totals = Totals()
    totals.add(service.statistics.of(pool_key(pool)))
    now = wire.now()
    for node in pool.nodes.values():
        totals.add(_node_time(node, now))
    return totals


def _node_time(node: Node, now: int) -> Totals:
    cores = (now - node.allocated) // _TICKS_PER_MICROSECOND * processors(node.pool.spec["vmSize"])
    return Totals(cores=cores, dedicated_cores=cores if node.is_dedicated else 0)


def _span(url: str, start: int) -> dict[str, Any]:
    return {"url": url, "startTime": wire.format_ticks(start), "lastUpdateTime": wire.format_ticks(wire.now())}


def _tasks_view(totals: Totals, span: dict[str, Any]) -> dict[str, Any]:
    return {
        **span,
        **_consumption(totals),
        "numSucceededTasks": str(totals.succeeded),
        "numFailedTasks": str(totals.failed),
        "numTaskRetries": str(totals.retries),
        "waitTime": "PT0S",
    }


def _consumption(totals: Totals) -> dict[str, Any]:
    """Whole numbers of 64 bits travel as strings. Linux counts the bytes of a process, not its disk operations."""
    return {
        "userCPUTime": _duration(totals.user),
        "kernelCPUTime": _duration(totals.kernel),
        "wallClockTime": _duration(totals.wall),
        "readIOps": "0",
        "writeIOps": "0",
        "readIOGiB": totals.read / _GIB,
        "writeIOGiB": totals.written / _GIB,
    }


def _pool_view(totals: Totals, span: dict[str, Any]) -> dict[str, Any]:
    times = {name: span[name] for name in ("startTime", "lastUpdateTime")}
    busy = (totals.user + totals.kernel) / totals.cores * 100 if totals.cores else 0.0
    return {
        **span,
        "usageStats": {**times, "dedicatedCoreTime": _duration(totals.dedicated_cores)},
        "resourceStats": {
            **times,
            "avgCPUPercentage": min(100.0, busy),
            "avgMemoryGiB": 0.0,
            "peakMemoryGiB": totals.memory / _GIB,
            "avgDiskGiB": 0.0,
            "peakDiskGiB": 0.0,
            "diskReadIOps": "0",
            "diskWriteIOps": "0",
            "diskReadGiB": totals.read / _GIB,
            "diskWriteGiB": totals.written / _GIB,
            "networkReadGiB": 0.0,
            "networkWriteGiB": 0.0,
        },
    }


def _duration(microseconds: int) -> str:
    return wire.format_duration(microseconds * _TICKS_PER_MICROSECOND)
