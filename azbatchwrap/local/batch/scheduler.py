"""Which ready task goes to which node: priorities, slots, spread or pack, and the cap on processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from azbatchwrap.local.batch.model import Job, Node, Pool, Run, TaskRow
from azbatchwrap.local.batch.shapes.checks import UNLIMITED

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

#: What a node is called in a task's ``affinityId``.
AFFINITY_PREFIX = "TVM:"
#: Tasks that may wait in the process host for their turn.
AHEAD = 4
UNLIMITED_MARK = f'"maxWallClockTime":"{UNLIMITED}"'.encode()
#: Seconds between SIGTERM and SIGKILL for a task that is ended.
GRACE_SECONDS = 0.0
#: Why a task is stopped that makes room for a more important one; it goes back to the queue.
PREEMPT = "preempt"


class Scheduler:
    """Woken whenever something changed that may let a task start; a pass over a pool costs nothing if it cannot."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._woken: dict[str, Pool] = {}
        #: Pools whose tasks wait only for a process to end.
        self._hungry: dict[str, Pool] = {}
        self.processes = 0

    def wake(self, pool: Pool | None) -> None:
        """Look at the pool in the next turn of the loop."""
        if pool is None or self._service.is_stopping:
            return
        if not self._woken:
            asyncio.get_running_loop().call_soon(self._pass)
        self._woken[pool.id] = pool

    def wake_job(self, job: Job) -> None:
        self.wake(self._service.pools.get(job.pool_id.lower()))

    def forget(self, job: Job) -> None:
        """The job's ready tasks changed in the table: read them afresh."""
        job.queue.clear()

    def sort(self, pool: Pool) -> None:
        """Bring the pool's active jobs in the order in which they are served. Call when jobs come, go or change."""
        active = [job for job in self._service.jobs_of(pool) if job.life.state == "active"]
        active.sort(key=lambda job: (-job.priority, job.number))
        pool.workload = active
        self.wake(pool)

    def freed(self, run: Run) -> None:
        """A run left its node."""
        node = run.node
        node.runs.pop(run.row.seq, None)
        run.job.runs.pop(run.row.seq, None)
        run.job.placed.discard(run.row.seq)
        node.used -= run.slots
        if not run.others:
            self.processes -= 1
        for other in run.others:
            other.used -= run.slots
            other.runs.pop(run.row.seq, None)
            self.settle_state(other)
        self.settle_state(node)
        hungry, self._hungry = self._hungry, {}
        for pool in hungry.values():
            self.wake(pool)
        self.wake(node.pool)

    def stop(self, run: Run, intent: str) -> None:
        """End a run's process; the intent says what becomes of the task. The first intent stays."""
        if run.intent is not None:
            return
        run.intent = intent
        if run.handle is not None:
            self._service.spawn(run.handle.kill(GRACE_SECONDS, "the task was ended by request"), "kill")
        elif run.work is not None:
            run.work.cancel()

    def settle_state(self, node: Node) -> None:
        """Idle and running follow from what runs."""
        if node.state in {"idle", "running"}:
            node.enter("running" if node.runs else "idle")

    def _pass(self) -> None:
        woken, self._woken = self._woken, {}
        for pool in woken.values():
            self._serve(pool)

    def _serve(self, pool: Pool) -> None:
        free = [node for node in pool.nodes.values() if node.takes_tasks and node.used < pool.slots]
        is_short = False
        for job in pool.workload:
            if not free:
                break
            if job.life.state == "active" and job.waiting > 0:
                is_short = self._serve_job(pool, job, free, is_short=is_short)
        if any(job.spec["allowTaskPreemption"] for job in pool.workload):
            self._preempt(pool)

    def _serve_job(self, pool: Pool, job: Job, free: list[Node], *, is_short: bool) -> bool:
        """Place what can be placed of the job. Returns whether the pool is short of processes.

        It is when the task of a more important job waits for one (``is_short``), and when this job's next one does.
        """
        while free and _may_grow(job):
            row = self._next(pool, job)
            if row is None:
                break
            if (is_short or self.processes >= self._allowed(row)) and instances(row) == 1:
                self._hungry[pool.id] = pool
                return True
            nodes = self._choose(pool, job, row, free)
            if not nodes:
                break
            job.queue.popleft()
            self._put(job, row, nodes)
            free[:] = [node for node in free if node.used < pool.slots]
        return is_short

    def _next(self, pool: Pool, job: Job) -> TaskRow | None:
        """The job's next task to place."""
        if not job.queue:
            job.queue.extend(self._service.tasks.ready(job.number, pool.slots, job.placed))
        return job.queue[0] if job.queue else None

    def _preempt(self, pool: Pool) -> None:
        """Send tasks of a job that allows it back to the queue when a more important job's next task has no place.

        One task is made room for at a time: the end of what was stopped brings us here again.
        """
        if any(run.intent == PREEMPT for node in pool.nodes.values() for run in node.runs.values()):
            return
        for job in pool.workload:
            if job.life.state == "active" and (victims := self._in_the_way(pool, job)):
                for run in victims:
                    self.stop(run, PREEMPT)
                return

    def _in_the_way(self, pool: Pool, job: Job) -> list[Run]:
        """What must stop so that the job's next task runs: for slots of a node, or for a process of this machine."""
        lesser = [_lesser(node, job) for node in pool.nodes.values() if node.takes_tasks]
        if not any(lesser):
            return []
        if job.placed and self.processes > self._service.settings.max_processes:
            return _next_process([run for runs in lesser for run in runs])
        row = self._next(pool, job) if job.waiting and _may_grow(job) else None
        if row is None or instances(row) > 1:
            return []
        if self.processes >= self._allowed(row):
            return _next_process([run for runs in lesser for run in runs])
        choices = [_makes_room(runs, _slots(pool, job, row)) for runs in lesser]
        return min((chosen for chosen in choices if chosen), key=len, default=[])

    def _allowed(self, row: TaskRow) -> int:
        """How many runs may be placed. Plain tasks go ahead of the cap, while nothing else waits for a process: the
        process host starts them in their turn, the moment another ends. Time does not count for them meanwhile, for
        they have no limit of it.
        """
        most = self._service.settings.max_processes
        is_plain = UNLIMITED_MARK in row.body and b'"resourceFiles"' not in row.body
        return most + AHEAD if is_plain and not self._hungry else most

    def _choose(self, pool: Pool, job: Job, row: TaskRow, free: list[Node]) -> list[Node]:
        slots, manager = _slots(pool, job, row), job.manager(row.id)
        fitting = [
            node
            for node in free
            if pool.slots - node.used >= slots
            and (node.is_dedicated or manager is None or manager["allowLowPriorityNode"])
            and ((preparation := node.preparations.get(job.number)) is None or preparation.is_ready is not False)
        ]
        if not fitting:
            return []
        wanted = instances(row)
        if wanted > 1:
            return _least_used(fitting)[:wanted] if len(fitting) >= wanted else []
        if b'"affinityInfo"' in row.body:
            for node in fitting:
                if f'"{AFFINITY_PREFIX}{node.id}"'.encode() in row.body:
                    return [node]
        if pool.packs:
            return [max(fitting, key=lambda node: node.used)]
        return [min(fitting, key=lambda node: node.used)]

    def _put(self, job: Job, row: TaskRow, nodes: list[Node]) -> None:
        node, *others = nodes
        run = Run(row=row, job=job, node=node, slots=_slots(node.pool, job, row), others=others)
        job.placed.add(row.seq)
        job.runs[row.seq] = run
        for each in nodes:
            each.used += run.slots
            each.runs[row.seq] = run
            self.settle_state(each)
        if not others:
            self.processes += 1
        self._service.start_run(run)


def _slots(pool: Pool, job: Job, row: TaskRow) -> int:
    """How many slots of a node the task takes. A job manager has its node to itself, unless it wants otherwise."""
    manager = job.manager(row.id)
    return pool.slots if manager is not None and manager["runExclusive"] else row.slots


def _may_grow(job: Job) -> bool:
    """Whether the job's own limit lets one more of its tasks run."""
    limit = int(job.spec["maxParallelTasks"])
    return limit < 0 or len(job.runs) < limit


def _lesser(node: Node, job: Job) -> list[Run]:
    """What runs on the node for less important jobs that allow pre-emption, the least important and latest first."""
    runs = [
        run
        for run in node.runs.values()
        if run.job.spec["allowTaskPreemption"] and run.job.priority < job.priority and not run.others
    ]
    return sorted(runs, key=_importance)


def _importance(run: Run) -> tuple[int, int]:
    return run.job.priority, -(run.started or 0)


def _next_process(runs: list[Run]) -> list[Run]:
    """What must stop so that the next process to start is none of theirs: one that runs, and all that wait to."""
    running = sorted((run for run in runs if run.handle is not None), key=_importance)
    return [running[0], *(run for run in runs if run.handle is None)] if running else []


def _makes_room(runs: list[Run], slots: int) -> list[Run]:
    """The first of these runs of one node that leave so many slots free; empty when they cannot, or need not."""
    if not runs:
        return []
    node = runs[0].node
    free = node.pool.slots - node.used
    chosen: list[Run] = []
    for run in runs:
        if free >= slots:
            break
        chosen.append(run)
        free += run.slots
    return chosen if free >= slots else []


def instances(row: TaskRow) -> int:
    """On how many nodes the task runs at once."""
    if b'"multiInstanceSettings"' not in row.body:
        return 1
    from orjson import loads

    settings = loads(row.body).get("multiInstanceSettings") or {}
    return int(settings.get("numberOfInstances", 1))


def _least_used(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.used)
