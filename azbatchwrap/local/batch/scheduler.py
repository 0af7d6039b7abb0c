"""Which ready task goes to which node: priorities, slots, spread or pack, and the cap on processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from azbatchwrap.local.batch.model import Job, Node, Pool, Run, TaskRow
from azbatchwrap.local.batch.shapes import UNLIMITED

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

#: What a node is called in a task's ``affinityId``.
AFFINITY_PREFIX = "TVM:"
#: Tasks that may wait in the process host for their turn.
AHEAD = 4
UNLIMITED_MARK = f'"maxWallClockTime":"{UNLIMITED}"'.encode()
#: Seconds between SIGTERM and SIGKILL for a task that is ended.
GRACE_SECONDS = 0.0


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
        node.used -= run.row.slots
        if not run.others:
            self.processes -= 1
        for other in run.others:
            other.used -= run.row.slots
            other.runs.pop(run.row.seq, None)
            self.settle_state(other)
        self.settle_state(node)
        self.wake(node.pool)
        if self._hungry:
            hungry, self._hungry = self._hungry, {}
            for pool in hungry.values():
                self.wake(pool)

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
        if not free:
            return
        for job in pool.workload:
            if job.life.state == "active" and job.waiting > 0:
                self._serve_job(pool, job, free)
                if not free:
                    return

    def _serve_job(self, pool: Pool, job: Job, free: list[Node]) -> None:
        limit = int(job.spec["maxParallelTasks"])
        while free and (limit < 0 or len(job.runs) < limit):
            if not job.queue:
                job.queue.extend(self._service.tasks.ready(job.number, pool.slots, job.placed))
                if not job.queue:
                    return
            row = job.queue[0]
            if self.processes >= self._allowed(row) and instances(row) == 1:
                self._hungry[pool.id] = pool
                return
            nodes = self._choose(pool, job, row, free)
            if not nodes:
                return
            job.queue.popleft()
            self._put(job, row, nodes)
            free[:] = [node for node in free if node.used < pool.slots]

    def _allowed(self, row: TaskRow) -> int:
        """How many runs may be placed. Plain tasks go ahead of the cap: the process host starts them in their turn,
        the moment another ends. Time does not count for them meanwhile, for they have no limit of it."""
        most = self._service.settings.max_processes
        is_plain = UNLIMITED_MARK in row.body and b'"resourceFiles"' not in row.body
        return most + AHEAD if is_plain else most

    def _choose(self, pool: Pool, job: Job, row: TaskRow, free: list[Node]) -> list[Node]:
        fitting = [
            node
            for node in free
            if pool.slots - node.used >= row.slots
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
        run = Run(row=row, job=job, node=node, others=others)
        job.placed.add(row.seq)
        job.runs[row.seq] = run
        for each in nodes:
            each.used += row.slots
            each.runs[row.seq] = run
            self.settle_state(each)
        if not others:
            self.processes += 1
        self._service.start_run(run)


def instances(row: TaskRow) -> int:
    """On how many nodes the task runs at once."""
    if b'"multiInstanceSettings"' not in row.body:
        return 1
    from orjson import loads

    settings = loads(row.body).get("multiInstanceSettings") or {}
    return int(settings.get("numberOfInstances", 1))


def _least_used(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.used)
