"""The engines of warm nodes: tasks that stay in their slots, all of one deployment and one queue of calls."""

from __future__ import annotations

import hashlib
import itertools
import logging
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from azbatchwrap import names
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.manager import Deployed
from azbatchwrap.batch.service import at
from azbatchwrap.batch.submit import Submission
from azbatchwrap.batch.tasks import AUTO_USER, ascii_json, engine_command, in_container, output_files
from azbatchwrap.errors import ConfigurationError, Conflict, NotFound
from azbatchwrap.manifest import parse_duration

from .mail import Mail

if TYPE_CHECKING:
    from azbatchwrap.batch.health import Health

    from .session import Session

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lane:
    """The engines of one deployment: where their calls go, and the job they are tasks of."""

    name: str
    facts: JobFacts
    #: Address of the output container, and what allows engines to write into it.
    outputs: tuple[str, str]

    def result_blob(self, call_id: str) -> str:
        """Where an engine leaves a result that is too long for a message."""
        return f"{self.facts.job_id}/calls/{call_id}.json"

    def result_address(self, call_id: str) -> str:
        """The same with what allows to write there."""
        base, signature = self.outputs
        return f"{base}/{self.result_blob(call_id)}?{signature}"


class Engines:
    """Starts engines on a session's pool, again where they died or slept, and ends them. Threads may share it.

    ``wanted`` is how many (None: one per slot of the pool), ``name`` what clients say who share them.
    """

    def __init__(
        self, session: Session, mail: Mail, name: str, wanted: int | None, *, idle: float | str, lease: int
    ) -> None:
        if lease < 1:
            raise ConfigurationError(f"lease={lease}: at least a second")
        self._session = session
        self._manager = session.manager
        self._mail = mail
        self._name = name
        self._wanted = wanted
        self._orders = {"idle": parse_duration(idle), "lease": lease, **mail.orders}
        self._turn = threading.RLock()
        #: Engines that there should be, once that is known.
        self.count = wanted or 1
        #: Where calls go at present.
        self.lane: Lane | None = None
        #: What waits for the lane's nodes: it knows since when there are none.
        self._health: Health | None = None

    def open(self, modules: set[str]) -> Lane:
        """The lane for calls into these modules, with its engines running. Raises AzBatchWrapError."""
        with self._turn:
            jobs = self._session.jobs
            if self.lane is not None and jobs.covers(modules):
                return self.lane
            deployed = jobs.deploy(modules)
            if self.lane is None or self.lane.facts.deployment != deployed.hash:
                self.lane = self._make_lane(deployed)
                self._start(self.lane)
            return self.lane

    def check(self, modules: set[str]) -> None:
        """Start engines again that have died or gone to sleep. Raises a `PoolError` when no node can run any."""
        with self._turn:
            lane = self.lane
            if lane is None:
                return
            if self._manager.jobs.facts(lane.facts.job_id).ended:
                # The engines of a shared job all went to sleep; their queue is still there.
                self.lane = None
                self.open(modules)
                return
            if self._health is None or self._health.job_id != lane.facts.job_id:
                self._health = self._manager.health_of(lane.facts.pool_id, lane.facts.job_id)
            for line in self._health.check():
                self._session.progress.message(line)
            self._start(lane)

    def close(self) -> None:
        """End the engines, or let those that others may use end by themselves when they have been idle long enough."""
        self._mail.close(leave_lanes=bool(self._name))
        if self.lane is None:
            return
        end = self._manager.jobs.seal if self._name else self._manager.jobs.terminate
        end(self.lane.facts.job_id)

    def _make_lane(self, deployed: Deployed) -> Lane:
        pool_id, storage = self._session.pool_id(), self._manager.storage
        shared = f"{storage.project}/{pool_id}/{deployed.hash}/{self._name or self._mail.client}"
        lane = hashlib.sha256(shared.encode()).hexdigest()[:16]
        facts = self._open_job(f"warm-{lane}", pool_id, deployed)
        self._mail.open(lane, facts.sas_expiry)
        address = storage.container_sas(facts.output_container, "cw", facts.sas_expiry)
        base, _, signature = address.partition("?")
        return Lane(lane, facts, (base, signature))

    def _open_job(self, base: str, pool_id: str, deployed: Deployed) -> JobFacts:
        for generation in itertools.count(1):
            job_id = base if generation == 1 else f"{base}-{generation}"
            try:
                facts = self._manager.jobs.facts(job_id)
            except NotFound:
                try:
                    self._manager.create_a_job(pool_id, job_id=job_id, deployed=deployed, keep_open=True)
                except Conflict as error:
                    if error.code != "JobExists":
                        raise
                facts = self._manager.jobs.facts(job_id)
            if not facts.ended:
                return facts
        raise AssertionError("counting does not end")

    def _count_wanted(self, pool_id: str) -> int:
        if self._wanted is not None:
            return self._wanted
        pool = self._manager.pools.get(pool_id)
        nodes = int(pool.get("targetDedicatedNodes", 0)) + int(pool.get("targetLowPriorityNodes", 0))
        return max(1, nodes * int(pool.get("taskSlotsPerNode", 1)))

    def _start(self, lane: Lane) -> None:
        """As many engines as are missing."""
        job_id = lane.facts.job_id
        path = at("jobs", job_id, "tasks")
        living = sum(1 for _ in self._manager.service.list(path, filter="state ne 'completed'", select=("id",)))
        self.count = self._count_wanted(lane.facts.pool_id)
        missing = self.count - living
        if missing <= 0:
            return
        _log.info("job %s: starting %d engines", job_id, missing)
        calls = self._mail.engines_address(lane.name, lane.facts)
        tasks = (self._task(lane, f"engine-{secrets.token_hex(4)}", calls) for _ in range(missing))
        Submission(self._manager.service, job_id).run(tasks)

    def _task(self, lane: Lane, task_id: str, calls: str) -> tuple[str, bytes]:
        facts = lane.facts
        settings = {
            names.TASK_VARIABLE: ascii_json({"module": "warm engine", "serve": self._orders}),
            names.CALLS_URL_VARIABLE: calls,
        }
        body = {
            "id": task_id,
            "commandLine": engine_command(facts.deployment),
            "userIdentity": AUTO_USER,
            "constraints": {"maxTaskRetryCount": 0},
            "environmentSettings": [{"name": name, "value": value} for name, value in settings.items()],
            "outputFiles": output_files("?".join(lane.outputs), names.task_output_prefix(facts.job_id, task_id)),
            **in_container(facts.container),
        }
        return task_id, orjson.dumps(body)
