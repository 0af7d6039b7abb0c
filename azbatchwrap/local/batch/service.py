"""The account: all pools, jobs and schedules, and the parts that make them work."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from azbatchwrap.config import Secret
from azbatchwrap.local.batch import identities
from azbatchwrap.local.batch.attempts import execute
from azbatchwrap.local.batch.auth import SharedKey
from azbatchwrap.local.batch.autoscaler import Autoscaler
from azbatchwrap.local.batch.chaos import Chaos
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.lag import CountsLag
from azbatchwrap.local.batch.model import Job, Node, Pool, Run, Schedule
from azbatchwrap.local.batch.node import Containers, ProcessHost, Transfers, make_node_python, network_settings
from azbatchwrap.local.batch.recovery import load, resume
from azbatchwrap.local.batch.retention import sweep_for_ever
from azbatchwrap.local.batch.scheduler import Scheduler
from azbatchwrap.local.batch.spot import preempt_for_ever
from azbatchwrap.local.batch.statistics import Statistics
from azbatchwrap.local.batch.store import Store
from azbatchwrap.local.batch.task_table import TaskTable
from azbatchwrap.local.sas import StorageAccount

log = logging.getLogger(__name__)

#: An answer to "delete", "terminate" and the like waits this many seconds for the transition to finish: clients
#: look once at once, and then only every five seconds.
TRANSITION_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's configuration file. ``chaos`` holds the faults asked for (see ``chaos.py``)."""

    account: str
    key: str = field(repr=False)
    data_dir: Path
    second_key: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    #: Task processes at a time, over all pools; multi-instance tasks are exempt.
    max_processes: int = field(default_factory=lambda: os.cpu_count() or 1)
    chaos: dict[str, Any] = field(default_factory=dict)
    #: Where it answers on TLS as well: ``port``, ``certificate``, ``key`` (files). There it takes tokens, too.
    tls: dict[str, Any] | None = None
    #: What the tokens of the instance's sign-in are signed with.
    token_secret: str | None = field(default=None, repr=False)
    #: Connection string of the storage account that is linked to the Batch account.
    storage: str | None = field(default=None, repr=False)


class Service:
    """Owns the state. Handlers and the scheduler work on it from the event loop's thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://{settings.host}:{settings.port}"
        self.shared_key = SharedKey(settings.account, settings.key, settings.second_key)
        self.store = Store(settings.data_dir / "state.sqlite3")
        self.tasks = TaskTable(self.store)
        self.statistics = Statistics(self.store)
        self.pools: dict[str, Pool] = {}
        self.jobs: dict[str, Job] = {}
        self.schedules: dict[str, Schedule] = {}
        self.applications: dict[str, dict[str, Any]] = {}
        self.host = ProcessHost(settings.max_processes)
        self.host.containers = self.containers = Containers(os.environ, settings.data_dir)
        self.network = network_settings(os.environ)
        linked = StorageAccount.of(Secret(settings.storage)) if settings.storage else None
        self.transfers = Transfers(
            auto_storage=linked.container if linked else None,
            sign=linked.signed if linked else None,
            network=self.network,
        )
        self.python_bin = make_node_python(settings.data_dir / "python")
        self.scheduler = Scheduler(self)
        self.chaos = Chaos.load(settings.chaos)
        self.transfers.upload_fails = self.chaos.upload_fails
        self.lag = CountsLag(self.chaos.counts_lag)
        self.package_locks: dict[str, asyncio.Lock] = {}
        self.autoscaler = Autoscaler(self)
        self.is_stopping = False
        self._background: set[asyncio.Task[Any]] = set()
        self.dirty_counts: set[Job] = set()
        self.store.before_commit.append(self._save_counts)
        self._last_job = max((body["last"] for _, body in self.store.load("sequence")), default=0)

    async def start(self) -> None:
        """Take up the state on disk and begin to work."""
        load(self)
        self.lag.set(self.chaos.counts_lag, self.jobs.values())
        await self.host.start()
        await self.transfers.start()
        await self.containers.remove_leftovers()
        resume(self)
        self.spawn(sweep_for_ever(self), "retention")
        self.spawn(self.autoscaler.sample_for_ever(), "samples")
        self.spawn(preempt_for_ever(self), "pre-emption")
        await self.store.committed()

    async def stop(self) -> None:
        """Kill what runs and close; those tasks run again after the next start."""
        self.is_stopping = True
        await self.host.close()
        await self.stop_background()
        await self.transfers.close()
        self.store.close()

    @property
    def tls_url(self) -> str:
        """Where it answers on TLS, if it does."""
        return f"https://{self.settings.host}:{self.settings.tls['port']}" if self.settings.tls else ""

    def pool(self, pool_id: str) -> Pool:
        """Raises BatchError PoolNotFound."""
        pool = self.pools.get(pool_id.lower())
        if pool is None:
            raise BatchError("PoolNotFound")
        return pool

    def node(self, pool_id: str, node_id: str) -> Node:
        """Raises BatchError PoolNotFound, NodeNotFound."""
        node = self.pool(pool_id).nodes.get(node_id.lower())
        if node is None:
            raise BatchError("NodeNotFound")
        return node

    def job(self, job_id: str) -> Job:
        """Raises BatchError JobNotFound."""
        job = self.jobs.get(job_id.lower())
        if job is None:
            raise BatchError("JobNotFound")
        return job

    def schedule(self, schedule_id: str) -> Schedule:
        """Raises BatchError JobScheduleNotFound."""
        schedule = self.schedules.get(schedule_id.lower())
        if schedule is None:
            raise BatchError("JobScheduleNotFound")
        return schedule

    def jobs_of(self, pool: Pool) -> list[Job]:
        key = pool.id.lower()
        return [job for job in self.jobs.values() if job.pool_id.lower() == key]

    def next_job_number(self) -> int:
        """Numbers of jobs are never used again: the rows of a deleted job may still be going."""
        self._last_job += 1
        self.store.save("sequence", "job", {"last": self._last_job})
        return self._last_job

    def save_pool(self, pool: Pool) -> None:
        self.store.save("pool", pool.id, pool.body())

    def save_node(self, node: Node) -> None:
        self.store.save("node", node.key, node.body())

    def save_job(self, job: Job) -> None:
        self.store.save("job", job.id, job.body())

    def save_schedule(self, schedule: Schedule) -> None:
        self.store.save("schedule", schedule.id, schedule.body())

    def count(self, job: Job, state: int, tasks: int, slots: int) -> None:
        """Add to a job's counters; written with the next commit."""
        job.counts[state] += tasks
        job.slots[state] += slots
        self.dirty_counts.add(job)
        if self.lag.seconds:
            self.lag.note(job)

    def _save_counts(self) -> None:
        for job in self.dirty_counts:
            if job.id.lower() in self.jobs:
                self.store.save("counts", job.id, {"counts": job.counts, "slots": job.slots})
        self.dirty_counts.clear()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run in the background; an unexpected error is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    def start_run(self, run: Run) -> None:
        """Begin to run a placed task."""
        run.work = self.spawn(execute(self, run), "task")

    async def upload_node_logs(self, node: Node, container: dict[str, Any]) -> None:
        """Upload what is known of a node as one log file. ``container`` is the destination as in an output file."""
        folder = self.settings.data_dir / "node-logs" / secrets.token_hex(8)
        working = folder / "wd"
        working.mkdir(parents=True)
        try:
            (working / "agent-debug.log").write_bytes(orjson.dumps(node.body(), option=orjson.OPT_INDENT_2))
            output = {
                "filePattern": "*.log",
                "destination": {"container": container},
                "uploadOptions": {"uploadCondition": "taskcompletion"},
            }
            known = identities.resource_ids(node.pool)
            failure = await self.transfers.upload([output], folder, {}, succeeded=True, identities=known)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if failure is not None:
            log.warning("the log of node %s was not uploaded: %s %s", node.id, failure.message, failure.details)

    async def settle(self, transition: asyncio.Task[None] | None) -> None:
        """Give a transition the chance to be over before the answer goes out."""
        if transition is not None and not transition.done():
            await asyncio.wait({transition}, timeout=TRANSITION_SECONDS)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def ended(self, transition: asyncio.Task[Any]) -> None:
        """Wait for a transition, whatever its outcome."""
        await asyncio.wait({transition})

    async def stop_background(self) -> None:
        """Cancel what still runs in the background."""
        running = [task for task in self._background if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
