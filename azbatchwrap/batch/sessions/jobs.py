"""The jobs of a session: one for each state of its files, found again by a later run of the same script.

A named session's job is called after its name and the hash of everything its functions run on: sources, inputs and
engine. Who runs the same script again meets the same job. One that has ended takes no more tasks, so what is left goes
into a next one, ``-2``, ``-3``; results that are there are read from wherever they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from azbatchwrap import names
from azbatchwrap.batch.access import Access, AccessKind
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.manager import AzureBatch, Deployed
from azbatchwrap.batch.pyz import build_engine
from azbatchwrap.batch.results import Results
from azbatchwrap.batch.service import at, metadata
from azbatchwrap.batch.submit import Submission
from azbatchwrap.batch.tasks import submission_index
from azbatchwrap.errors import ConfigurationError, Conflict, NotFound, ServiceError
from azbatchwrap.storage import FileReference, Role

from .calls import ARRAY_SLOT, Call, CallWriter
from .functions import SCRIPT
from .sources import NOTEBOOK, Sources, script_name

_log = logging.getLogger(__name__)

#: Digits of the content's hash in a job's id.
HASH_DIGITS = 12
#: A job of a session that ended by itself or by its user, so often that something else is wrong.
MOST_GENERATIONS = 1000
#: Codes with which the service says that a job takes no more tasks.
JOB_IS_OVER = frozenset({"JobCompleted", "JobBeingTerminated", "JobBeingDeleted", "JobNotFound", "JobTerminating"})


@dataclass(slots=True)
class SessionJob:
    """One job of a session. ``there`` are the tasks it has; ``index`` counts them."""

    facts: JobFacts
    writer: CallWriter
    results: Results
    there: set[str] = field(default_factory=set)
    index: int = 0
    #: Slots of numbered tasks that an array has: slot -> what its tasks have in common.
    arrays: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user asked of a session's jobs. ``limit`` is in seconds or a duration as text."""

    name: str = ""
    sources: tuple[Path, ...] = ()
    limit: float | str | None = None
    by_pickle: bool = False
    skip_done: bool = True
    access: AccessKind | None = None


class SessionJobs:
    """Opens the job that fits the files as they are, and sends calls to it."""

    def __init__(self, batch: AzureBatch, wishes: Wishes, choose_pool: Callable[[], str]) -> None:
        self.manager = batch
        self.wishes = wishes
        self._choose_pool = choose_pool
        self._modules: set[str] = set()
        self._files: list[FileReference] | None = None
        self._inputs: list[str] = []
        #: Tasks of earlier jobs of this name that succeeded: id -> job.
        self._done: dict[str, str] = {}
        self.opened: dict[str, SessionJob] = {}
        #: Where calls go. None: the job is yet to be made, as `_job_id`.
        self.current: SessionJob | None = None
        self._job_id = ""
        self._deployed: Deployed | None = None
        self._found = False

    # -- files --

    def deploy(self, modules: Iterable[str]) -> Deployed:
        """Let what these modules need, and what the session needed before, be in storage; its hash."""
        storage, wanted = self.manager.storage, set(modules)
        if self._files is None or not self.covers(wanted):
            self._modules |= wanted
            self._inputs = storage.input_names()
            self._files = [*self._upload_sources(), *storage.get_application_input_files()]
        made = storage.deploy(self._files, build_engine())
        return Deployed(made.hash, made.container)

    def covers(self, modules: set[str]) -> bool:
        """Whether what was deployed last has these modules, and the inputs as they are."""
        # A notebook's source grows from cell to cell.
        grows = SCRIPT in modules and script_name() == NOTEBOOK
        return not grows and modules <= self._modules and self.manager.storage.input_names() == self._inputs

    def sources(self, modules: Iterable[str]) -> Mapping[str, Path | bytes]:
        """The source files of these modules, and those the user named."""
        found = Sources()
        for path in self.wishes.sources:
            found.add_path(path)
        for module in sorted(modules):
            found.add(module)
        return found.files

    def _upload_sources(self) -> list[FileReference]:
        return self.manager.storage.upload_as(self.sources(self._modules), Role.APPLICATION)

    # -- jobs --

    def look_up(self, modules: Iterable[str]) -> None:
        """Find the job for calls into ``modules``, or what it is to be called; the present one while the files are the same.

        Raises AzBatchWrapError.
        """
        if self._found and self.covers(set(modules)):
            return
        deployed = self.deploy(modules)
        if not self._found or self._deployed != deployed:
            self._deployed = deployed
            self.current = self._find(deployed)
        self._found = True

    def _find(self, deployed: Deployed) -> SessionJob | None:
        """The job that takes calls on these files, if there is one; `_job_id` is what the next one is called."""
        for job in self.opened.values():
            if job.facts.deployment == deployed.hash and not job.facts.ended:
                return job
        if not self.wishes.name:
            self._job_id = names.new_id("session")
            return None
        base = self.base_id(deployed)
        for generation in range(1, MOST_GENERATIONS):
            self._job_id = base if generation == 1 else f"{base}-{generation}"
            try:
                facts = self.manager.jobs.facts(self._job_id)
            except NotFound:
                return None
            if not facts.ended:
                return self._take_up(facts)
            self._remember_done(facts)
        raise ConfigurationError(
            f"session {self.wishes.name} has {MOST_GENERATIONS} jobs: delete them, or take another name"
        )

    def base_id(self, deployed: Deployed) -> str:
        """The id of the first job of this session for these files."""
        content = hashlib.sha256(f"{self.manager.storage.project}/{deployed.hash}".encode()).hexdigest()
        return f"{names.container_slug(self.wishes.name)[:40].strip('-')}-{content[:HASH_DIGITS]}"

    def attach(self, job_id: str) -> SessionJob:
        """Take up a job by its id. Raises NotFound, ConfigurationError."""
        self.current = self._take_up(self.manager.jobs.facts(job_id))
        return self.current

    def _take_up(self, facts: JobFacts) -> SessionJob:
        job = self._enter(facts)
        self._read_tasks(job)
        self.manager.use_existing_pool(facts.pool_id)
        return job

    def _make(self) -> SessionJob:
        assert self._deployed is not None
        job_id, pool_id = self._job_id, self._choose_pool()
        known = {names.CONTENT: self._deployed.hash, names.SESSION: self.wishes.name or job_id}
        try:
            self.manager.create_a_job(
                pool_id,
                job_id=job_id,
                limit=self.wishes.limit,
                deployed=self._deployed,
                keep_open=True,
                metadata=known,
                access=self.wishes.access,
            )
        except Conflict as error:
            # Another driver of the same session was faster.
            if not self.wishes.name or error.code != "JobExists":
                raise
        return self._enter(self.manager.jobs.facts(job_id))

    def _enter(self, facts: JobFacts) -> SessionJob:
        storage, service = self.manager.storage, self.manager.service
        access = Access(storage, facts.sas_expiry, facts.identity)
        store = partial(self.manager.store_args, access, facts.job_id)
        writer = CallWriter(facts, access, store, by_pickle=self.wishes.by_pickle)
        job = SessionJob(facts, writer, Results(service, storage, facts))
        if not facts.ended:
            self.opened[facts.job_id] = job
        return job

    def _read_tasks(self, job: SessionJob) -> None:
        for task in self.manager.service.list(at("jobs", job.facts.job_id, "tasks"), select=("id", "displayName")):
            job.there.add(task["id"])
            if task["id"].isdecimal():
                job.arrays[int(task["id"]) // ARRAY_SLOT] = str(task.get("displayName", "")).rpartition(" ")[2]
            job.index = max(job.index, 1 + (submission_index(task["id"], task.get("displayName")) or 0))

    def _remember_done(self, facts: JobFacts) -> None:
        """Note what succeeded in a job that has ended: it is read from there, not done again."""
        if not self.wishes.skip_done:
            return
        for task in self.manager.service.list(
            at("jobs", facts.job_id, "tasks"), filter="state eq 'completed'", select=("id", "executionInfo")
        ):
            if (task.get("executionInfo") or {}).get("result") == "success":
                self._done[task["id"]] = facts.job_id

    def count_done(self, task_ids: Iterable[str]) -> int:
        """How many of these tasks have run in jobs of this session's name, whatever its files were then."""
        if not self.wishes.name or not self.wishes.skip_done:
            return 0
        for job in self.manager.jobs.list():
            if metadata(job).get(names.SESSION) == self.wishes.name:
                self._remember_done(self.manager.jobs.facts(job["id"]))
        return len(self._done.keys() & set(task_ids))

    def done_in(self, task_id: str) -> str | None:
        """The earlier job in which this task succeeded."""
        return self._done.get(task_id)

    # -- tasks --

    def send(self, calls: list[Call], refused: Callable[[Call, ServiceError], None]) -> list[Call]:
        """Send calls to the present job; those that could not be sent, because the job has ended in between.

        A call whose task is there already counts as sent: its id says that it is the same. ``refused`` hears of those
        that the service does not take.
        """
        job = self.current = self.current or self._make()
        calls = self._without_strangers(job, calls, refused)
        fresh = {call.future.task_id: call for call in calls if call.future.task_id not in job.there}
        again: list[Call] = []

        def forgive(task_id: str, error: ServiceError) -> bool:
            if error.code == "TaskExists":
                return True
            call = fresh[task_id]
            if error.code in JOB_IS_OVER:
                again.append(call)
            else:
                refused(call, error)
            return True

        for call in calls:
            call.future.job_id = job.facts.job_id
        for call in fresh.values():
            call.index, job.index = job.index, job.index + 1
        tasks = ((task_id, job.writer.write(call)) for task_id, call in fresh.items())
        try:
            Submission(self.manager.service, job.facts.job_id, forgive=forgive).run(tasks)
        except ServiceError as error:
            if error.code not in JOB_IS_OVER:
                raise
            again = list(fresh.values())
        job.there |= fresh.keys() - {call.future.task_id for call in again}
        if again:
            self._leave(job)
        return again

    def _without_strangers(
        self, job: SessionJob, calls: list[Call], refused: Callable[[Call, ServiceError], None]
    ) -> list[Call]:
        """The calls but those of an array whose numbers another one has in this job, from a run of other code."""
        mine = []
        for call in calls:
            slot = int(call.future.task_id) // ARRAY_SLOT if call.array else 0
            if not call.array or job.arrays.setdefault(slot, call.array) == call.array:
                mine.append(call)
                continue
            text = f"job {job.facts.job_id} has another array with the numbers of task {call.future.task_id}: name the session anew"
            refused(call, Conflict(text, code="TaskExists", status=409))
        return mine

    def _leave(self, job: SessionJob) -> None:
        _log.info("job %s has ended; what is left goes to another one", job.facts.job_id)
        self.current, self._found = None, False
        self.opened.pop(job.facts.job_id, None)
