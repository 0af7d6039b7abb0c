"""`AzureBatch`: pools, jobs, tasks and results behind a dozen calls."""

# ruff: noqa: N815 (the names of the first version are kept as they were)

from __future__ import annotations

import atexit
import hashlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from azbatchwrap import manifest, names
from azbatchwrap.config import Settings, is_loopback
from azbatchwrap.errors import (
    AzBatchWrapError,
    ConfigurationError,
    ManifestError,
    NotFound,
    PoolError,
)
from azbatchwrap.manifest import TaskRecord
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.storage import AzureBatchStorage, FileReference

from .access import Access, AccessKind, chosen_identity, identity_of
from .health import Health
from .jobs import DEFAULT_LIMIT, SAS_MARGIN, JobFacts, JobPlan, Jobs, signature_lasts
from .management import management_of
from .node_setup import Container, NodeSetup, container_of
from .patience import DEFAULT_PATIENCE, Patience, seconds_of
from .pools import PoolPlan, Pools
from .pyz import build_engine
from .results import Results, TaskResult
from .service import Json, Service, at, metadata
from .submit import Submission
from .tasks import ARGS_FILE, TaskIds, TaskWriter, ready_tasks, submission_index
from .wait import LOCAL_PACE, NETWORK_PACE, Pace, Waiter

_log = logging.getLogger(__name__)

#: Seconds by which the default limit stays below what an identity can sign.
_SIGNING_SLACK = 600.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is laid out on nodes: the hash of its list and the container that holds it."""

    hash: str
    container: str


@dataclass(frozen=True, slots=True)
class CleanUp:
    """What `clean_up` removed, or would remove."""

    pools: tuple[str, ...] = ()
    blobs: int = 0
    size: int = 0
    containers: tuple[str, ...] = ()


@dataclass(slots=True)
class _OpenJob:
    """A job that this manager adds tasks to. ``following`` is the index of its next task."""

    facts: JobFacts
    following: int = 0
    kept_open: bool = False
    made_here: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)


class AzureBatch:
    """Runs what ``storage`` uploaded. ``settings`` default to the storage's; ``progress`` hears what takes long.

    ``patience`` is how long to wait for room, in seconds or as ``"30m"``: for nodes that Azure does not have now, and for
    quotas of cores, pools and jobs that are reached. 0 raises the error, which says what to do, at once.
    Close it, or use it in a ``with``: then, and when the script ends, its jobs are told that no more tasks come.
    Every call may raise a `ServiceError`.
    """

    def __init__(
        self,
        storage: AzureBatchStorage,
        settings: Settings | None = None,
        *,
        progress: Progress | None = None,
        patience: float | str = DEFAULT_PATIENCE,
    ) -> None:
        self.storage = storage
        self.settings = settings or storage.settings
        self.progress = progress or NullProgress()
        self.patience = Patience(seconds_of(patience), self._pace.pool, self.progress)
        self.service = Service(self.settings.batch)
        self.pools = Pools(self.service, self.settings.pool, storage.project, lambda: management_of(self.settings))
        self.jobs = Jobs(self.service, storage.project)
        self.pool_id = ""
        self._container: Container | None = None
        self._identity = ""
        self._deployed: Deployed | None = None
        self._lists: dict[Deployed, Json] = {}
        self._jobs: dict[str, _OpenJob] = {}
        # A manager that nobody holds any more must not live until the script ends only because of this.
        here = weakref.ref(self)
        self._at_exit = lambda: _close_at_exit(here)
        atexit.register(self._at_exit)

    def __enter__(self) -> AzureBatch:  # noqa: PYI034 (typing.Self needs Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Seal the jobs made here, end those that got no task, and give back the connections."""
        atexit.unregister(self._at_exit)
        jobs = [job for job in self._jobs.values() if job.made_here and not job.kept_open and not job.facts.sealed]
        self._jobs.clear()
        try:
            for job in jobs:
                self._seal_or_end(job)
        finally:
            self.service.close()

    def _seal_or_end(self, job: _OpenJob) -> None:
        job_id = job.facts.job_id
        try:
            # Another process may have added tasks to it.
            if job.following or any(self.service.list(at("jobs", job_id, "tasks"), select=("id",), page=1)):
                self.jobs.seal(job_id)
            else:
                self.jobs.terminate(job_id)
        except NotFound:
            _log.info("job %s is gone already", job_id)

    # -- pools --

    def create_pool(
        self,
        app_resources: Sequence[FileReference] | str | None = None,
        app_name: str | None = None,
        input_resources: Sequence[FileReference] | str | None = None,
        task_files: Sequence[FileReference] | str | None = None,
        *,
        pool_id: str | None = None,
        node_count: int | None = None,
        spot_node_count: int = 0,
        vm_size: str | None = None,
        slots_per_node: int | None = None,
        jdk: bool | None = None,
        wait: bool = False,
        timeout: float | None = None,
        **setup: Any,
    ) -> str:
        """Make a pool for these files, let it be the current one, and give its id.

        Without files, those added to the storage are meant. ``app_name`` may start the id. ``jdk`` installs Java
        (default: when a jar is among the files); ``setup`` are further arguments of `NodeSetup`: packages, a container,
        an identity, a subnet. With ``wait`` the call returns when the nodes are ready, at most ``timeout`` seconds later.
        Raises ConfigurationError, PoolError.
        """
        if app_name is not None and not isinstance(app_name, str):
            raise ConfigurationError("app_name is a name; give files as app_resources=, input_resources=, task_files=")
        files = self._files(app_resources, input_resources, task_files)
        deployed = self._deploy(files)
        plan = PoolPlan(
            pool_id=pool_id or names.new_id(_as_id(app_name) if app_name else "pool"),
            vm_size=vm_size or self.settings.pool.vm_size,
            nodes=self.settings.pool.node_count if node_count is None else node_count,
            spot_nodes=spot_node_count,
            slots_per_node=slots_per_node or self.settings.pool.slots_per_node,
            metadata=_deployment_metadata(deployed),
            jdk=_wants_java(files, setup) if jdk is None else jdk,
            **_known_setup(setup),
        )
        replaced = self.patience.wait_out(lambda: self.pools.create(plan))
        if replaced:
            _log.warning("pool %s: %s", plan.pool_id, replaced)
            self.progress.message(replaced)
        self.pool_id, self._deployed = plan.pool_id, deployed
        self._container = Container(plan.container, plan.container_options) if plan.container else None
        self._identity = plan.identity
        if wait:
            self.wait_for_pool(plan.pool_id, timeout)
        return plan.pool_id

    def use_existing_pool(self, pool_id: str) -> str:
        """Let a pool be the current one, with what is deployed on it. Raises NotFound."""
        pool = self.pools.get(pool_id)
        if pool.get("state") == "deleting":
            raise PoolError(f"pool {pool_id} is being deleted", pool_id=pool_id)
        known = metadata(pool)
        recorded = Deployed(known.get(names.DEPLOYMENT, ""), known.get(names.FILES_CONTAINER, ""))
        self.pool_id, self._deployed = pool["id"], recorded if recorded.hash and recorded.container else None
        self._container, self._identity = container_of(pool), identity_of(pool)
        return self.pool_id

    def use_files_of_job(self, job_id: str, *, pool_id: str | None = None) -> str:
        """Let a job's pool (or ``pool_id``) be the current one, with that job's files: for running its tasks again."""
        facts = self.jobs.facts(job_id)
        self.use_existing_pool(pool_id or facts.pool_id)
        self._deployed = Deployed(facts.deployment, facts.files_container)
        return self.pool_id

    def get_available_pool(self) -> str:
        """The id of a pool of this project that has, or is getting, nodes; it becomes the current one. Empty if none."""
        pools = [pool for pool in self.pools.list() if pool.get("state", "active") == "active" and _wanted_nodes(pool)]
        pools.sort(key=lambda pool: -pool.get("currentDedicatedNodes", 0) - pool.get("currentLowPriorityNodes", 0))
        return self.use_existing_pool(pools[0]["id"]) if pools else ""

    def repurpose_existing_pool(
        self,
        pool_id: str,
        app_resources: Sequence[FileReference] | str | None = None,
        input_resources: Sequence[FileReference] | str | None = None,
        task_files: Sequence[FileReference] | str | None = None,
    ) -> str:
        """Deploy other files on a pool: jobs made from now on use them, those that run keep theirs."""
        deployed = self._deploy(self._files(app_resources, input_resources, task_files))
        self.pools.set_metadata(pool_id, _deployment_metadata(deployed))
        self.use_existing_pool(pool_id)
        self._deployed = deployed
        return pool_id

    def resize_pool(
        self,
        pool_id: str,
        node_count: int | None = None,
        *,
        spot_node_count: int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Ask for other numbers of nodes; nodes that go finish their tasks first. Raises PoolError when it autoscales."""
        self.pools.resize(pool_id, node_count, spot_node_count)
        if wait:
            self.wait_for_pool(pool_id, timeout)

    def wait_for_pool(self, pool_id: str | None = None, timeout: float | None = None) -> int:
        """Wait until the nodes asked for are ready, or all that came; how many. Raises PoolError, WaitTimeout."""
        return self.health_of(pool_id or self.pool_id).wait_until_ready(self._pace.pool, timeout, self.progress)

    def health_of(self, pool_id: str, job_id: str | None = None) -> Health:
        """What looks whether a pool can run a job's tasks, as patiently as this manager."""
        return Health(self.service, pool_id, job_id, self.patience.seconds)

    def delete_pool(self, pool_id: str | None = None) -> bool:
        """Ask for the end of a pool (default: the current one); False when there was none."""
        target = pool_id or self.pool_id
        if target == self.pool_id:
            self.pool_id, self._deployed = "", None
        return self.pools.delete(target)

    def delete_all_pools(self, *, everything: bool = False) -> list[str]:
        """Delete this project's pools; with ``everything`` all pools of the account. The ids."""
        ids = [pool["id"] for pool in self.pools.list(everything=everything)]
        return [pool_id for pool_id in ids if self.delete_pool(pool_id)]

    # -- jobs --

    def create_a_job(
        self,
        pool_id: str | None = None,
        *,
        job_id: str | None = None,
        limit: float | str | None = None,
        priority: int = 0,
        output_container: str | None = None,
        app_resources: Sequence[FileReference] | str | None = None,
        input_resources: Sequence[FileReference] | str | None = None,
        task_files: Sequence[FileReference] | str | None = None,
        deployed: Deployed | None = None,
        keep_open: bool = False,
        metadata: Mapping[str, str] | None = None,
        access: AccessKind | None = None,
    ) -> str:
        """Make a job on a pool (default: the current one) and give its id.

        ``limit`` is how long it may live, in seconds or as ``"36h"`` (default: 7 days). With files, or with what is
        ``deployed`` already, it uses these instead of the pool's. ``keep_open`` leaves it open when this script ends,
        for others to add tasks to. ``metadata`` goes beside our own. ``access`` is how nodes open storage: ``"signature"``,
        or ``"identity"``, that of the pool; left out, the identity where no signature lasts as long as the job. Raises ConfigurationError, NotFound.
        """
        if pool_id is not None and pool_id != self.pool_id:
            self.use_existing_pool(pool_id)
        if not self.pool_id:
            raise ConfigurationError("there is no pool: create_pool, use_existing_pool or give a pool_id")
        given = (app_resources, input_resources, task_files)
        if deployed is None:
            deployed = self._deployed if not any(given) and self._deployed else self._deploy(self._files(*given))
        life, longest = self._limit(limit), _seconds(self.storage.longest_sas())
        plan = JobPlan(
            job_id=job_id or names.new_id("job"),
            pool_id=self.pool_id,
            deployment=deployed.hash,
            files_container=deployed.container,
            output_container=self.storage.create_output_folder(output_container or self.storage.output_container),
            limit=life,
            priority=priority,
            metadata=metadata or {},
            container=self._container,
            identity=chosen_identity(access, self._identity, signature_lasts=signature_lasts(life, longest)),
        )
        self._check_packages(deployed)
        plan.check(longest_sas=longest)
        self._make(plan, deployed)
        self._jobs[plan.job_id] = _OpenJob(self.jobs.facts(plan.job_id), kept_open=keep_open, made_here=True)
        return plan.job_id

    def _make(self, plan: JobPlan, deployed: Deployed) -> None:
        access = Access(self.storage, timedelta(seconds=plan.limit + SAS_MARGIN), plan.identity)
        listed, place = self._list_of(deployed), deployed.container
        files = [
            access.file(place, names.content_blob(str(listed["engine"])), "engine.pyz"),
            access.file(place, names.deployment_blob(deployed.hash), "deployment.json"),
        ]
        if plan.identity:
            # The engine has no token: the node's agent, which has, brings everything.
            hashes = sorted({str(file["sha256"]) for file in listed["files"]})
            files += [access.file(place, names.content_blob(sha256), f"content/{sha256}") for sha256 in hashes]
        files_url = names.BROUGHT if plan.identity else access.container(place, "rl")
        create = partial(self.jobs.create, plan, files=files, files_url=files_url)
        self.patience.wait_out(create)

    def _check_packages(self, deployed: Deployed) -> None:
        """What is installed on a node is not in the container that tasks run in."""
        if self._container is not None and self._list_of(deployed).get("requirements"):
            raise ConfigurationError(
                f"tasks on pool {self.pool_id} run in the container {self._container.image}: install the packages of "
                "requirements.txt in its image, and leave the file out"
            )

    def _limit(self, given: float | str | None) -> float:
        if given is not None:
            try:
                return manifest.parse_duration(given)
            except ManifestError as error:
                raise ConfigurationError(f"a job's limit: {error}") from error
        longest = _seconds(self.storage.longest_sas())
        return DEFAULT_LIMIT if longest is None else min(DEFAULT_LIMIT, longest - SAS_MARGIN - _SIGNING_SLACK)

    def seal_job(self, job_id: str) -> None:
        """Tell the job that no more tasks come: it ends with the last of them. It cannot be undone."""
        self.jobs.seal(job_id)
        if job_id in self._jobs:
            job = self._jobs[job_id]
            job.facts = replace(job.facts, sealed=True)

    def terminate_job(self, job_id: str) -> None:
        """End the job and the tasks that run."""
        self.jobs.terminate(job_id)
        self._jobs.pop(job_id, None)

    def delete_a_job(self, job_id: str) -> bool:
        """Delete a job and its tasks; their results stay in storage. False when there was none."""
        self._jobs.pop(job_id, None)
        return self.jobs.delete(job_id)

    def delete_all_jobs(self, *, everything: bool = False) -> list[str]:
        """Delete this project's jobs; with ``everything`` all jobs of the account. The ids."""
        ids = [job["id"] for job in self.jobs.list(everything=everything)]
        return [job_id for job_id in ids if self.delete_a_job(job_id)]

    # -- tasks --

    def add_tasks_to_job(self, job_id: str, tasks: object) -> TaskIds:
        """Add one tuple ``("1_task.py", "input.txt 2 34")``, a list of them, or any iterable, read as it is sent.

        The ids, in order. Raises ManifestError before anything of a list is added (of an iterator: at the faulty
        item), ServiceError naming what the service refused, after the rest was added.
        """
        return self._add(job_id, manifest.from_tuples(tasks), whole=isinstance(tasks, list | tuple))

    def add_task_to_job(self, job_id: str, task_id: int | str, input_command: object) -> str:
        """Add one task under an id of one's own; the id as text. Raises ManifestError, Conflict for an id that is taken."""
        if not names.is_id(str(task_id)):
            raise ManifestError(f"task id {str(task_id)!r}: 1 to 64 of the characters A-Z a-z 0-9 _ - are allowed")
        record = next(manifest.from_tuples([input_command]))
        return self._add(job_id, iter((replace(record, id=str(task_id)),)), whole=True)[0]

    def add_tasks_from_manifest_file(self, job_id: str, path: str | Path) -> TaskIds:
        """Add what a manifest lists (JSON, YAML, CSV, JSON lines). Raises ManifestError with every fault of the file."""
        read = manifest.read(Path(path))
        job = self._open(job_id)
        if read.output_container and read.output_container != job.facts.output_container:
            self._move_outputs(job, read.output_container)
        return self._add(job_id, iter(read.records), whole=True)

    def _add(self, job_id: str, records: Iterator[TaskRecord], *, whole: bool) -> TaskIds:
        job = self._open(job_id)
        with job.turn:
            self._check_open(job)
            known = self._task_names(job.facts)
            checked = (_known(record, known) for record in records)
            ids = TaskIds(job.following)
            writer = self._writer(job)
            self.progress.start("submit", f"tasks to job {job_id}", unit="tasks")
            try:
                submission = Submission(self.service, job_id, progress=self.progress)
                submission.run(ready_tasks(list(checked) if whole else checked, job.following, ids, writer))
            finally:
                job.following += len(ids)
                self.progress.finish("submit")
        return ids

    def _check_open(self, job: _OpenJob) -> None:
        if job.facts.sealed or job.facts.ended:
            what = "has ended" if job.facts.ended else "was told that no more tasks come"
            raise ConfigurationError(f"job {job.facts.job_id} {what}; create_a_job makes another one")

    def _open(self, job_id: str) -> _OpenJob:
        """The job, also one of another process: its tasks are counted on from the last one there."""
        job = self._jobs.get(job_id)
        if job is None:
            facts = self.jobs.facts(job_id)
            tasks = self.service.list(at("jobs", job_id, "tasks"), select=("id", "displayName"))
            indices = (submission_index(task["id"], task.get("displayName")) for task in tasks)
            following = max((index + 1 for index in indices if index is not None), default=0)
            job = self._jobs[job_id] = _OpenJob(facts, following)
        return job

    def _writer(self, job: _OpenJob) -> TaskWriter:
        facts = job.facts
        access = Access(self.storage, facts.sas_expiry, facts.identity)
        return TaskWriter(
            facts.job_id,
            facts.deployment,
            access.container(facts.output_container, "cw"),
            store_args=partial(self.store_args, access, facts.job_id),
            settings=job.settings,
            container=facts.container,
            identity=facts.identity,
        )

    def store_args(self, access: Access, job_id: str, data: bytes) -> Json:
        """Put arguments that are too long for a task into storage; they, as a file of the task."""
        container = self.storage.files_container
        blob = f"{names.args_prefix(job_id)}{hashlib.sha256(data).hexdigest()}.json"
        self.storage.write_bytes(container, blob, data)
        return access.file(container, blob, ARGS_FILE)

    def _move_outputs(self, job: _OpenJob, container: str) -> None:
        """A manifest's own output container: possible as long as no task has written to another one."""
        if job.following:
            raise ConfigurationError(
                f"job {job.facts.job_id} leaves its results in {job.facts.output_container}, the manifest wants "
                f"{container}: create_a_job(output_container={container!r}), or make another job"
            )
        self.storage.create_output_folder(container)
        self.jobs.set_metadata(job.facts.job_id, {names.OUTPUT_CONTAINER: container})
        job.facts = replace(job.facts, output_container=container)
        job.settings[names.OUTPUT_CONTAINER_VARIABLE] = container

    # -- waiting and results --

    @property
    def _pace(self) -> Pace:
        return LOCAL_PACE if is_loopback(self.settings.batch.url) else NETWORK_PACE

    def wait_for_tasks(self, job_id: str, timeout: float | None = None, *, seal: bool = True) -> None:
        """Wait until every task of the job has ended, well or not, or the job has.

        With ``seal`` (no more tasks come) the job ends with its last task. Raises WaitTimeout after ``timeout``
        seconds, and a `PoolError` when no node can run what is left.
        """
        facts = self.jobs.facts(job_id)
        if seal and not facts.sealed and not facts.ended:
            self.seal_job(job_id)
        health = self.health_of(facts.pool_id, job_id)
        Waiter(self.service, job_id, health, self._pace, self.progress).run(timeout)

    def get_results(
        self,
        job_id: str,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_result: Callable[[TaskResult], None] | None = None,
    ) -> list[TaskResult]:
        """One `TaskResult` per task, in submission order, after waiting for them (see `wait_for_tasks`).

        Without ``wait``, tasks that have not ended are left out. ``on_result`` is called with each as it is read.
        """
        if wait:
            self.wait_for_tasks(job_id, timeout)
        return Results(self.service, self.storage, self.jobs.facts(job_id)).collect(on_result=on_result)

    # -- what nothing uses --

    def clean_up(self, *, results: bool = False, dry_run: bool = False) -> CleanUp:
        """Remove what nothing of this project uses: pools without a job, files without a deployment in use.

        With ``results`` the results of jobs that are gone go too. ``dry_run`` removes nothing and tells the same.
        """
        jobs = list(self.jobs.list())
        active = [job for job in jobs if job["state"] != "completed"]
        busy = {(job.get("executionInfo") or {}).get("poolId") for job in active}
        pools = list(self.pools.list())
        idle = [pool["id"] for pool in pools if pool["id"] not in busy]
        kept = [*active, *(pool for pool in pools if pool["id"] in busy)]
        referenced = {metadata(entity).get(names.DEPLOYMENT, "") for entity in kept} - {""}
        unused = self.storage.unused_content(referenced)
        there = {job["id"] for job in jobs}
        containers = self._abandoned_outputs(there) if results else ()
        if not dry_run:
            for pool_id in idle:
                self.delete_pool(pool_id)
            self.storage.delete_content(unused)
            self._delete_args(there)
            for container in containers:
                self.storage.delete_container(container)
        return CleanUp(tuple(idle), len(unused), sum(entry.size for entry in unused), tuple(containers))

    def _abandoned_outputs(self, jobs: set[str]) -> list[str]:
        """The project's result containers in which no job that exists has anything."""
        found = []
        for container in self.storage.list_containers():
            if container == self.storage.files_container:
                continue
            owners = {entry.name.partition("/")[0] for entry in self.storage.list_blobs(container)}
            if not owners & jobs:
                found.append(container)
        return found

    def _delete_args(self, jobs: set[str]) -> None:
        container = self.storage.files_container
        try:
            blobs = [entry.name for entry in self.storage.list_blobs(container, "args/")]
        except NotFound:
            return
        self.storage.delete_blobs(container, [blob for blob in blobs if blob.split("/")[1] not in jobs])

    # -- deployments --

    def _files(self, *given: Sequence[FileReference] | str | None) -> list[FileReference]:
        """The files given; with none at all, those that were added to the storage."""
        if not any(given):
            storage = self.storage
            return [
                *storage.get_application_files(),
                *storage.get_application_input_files(),
                *storage.get_batch_task_files(),
            ]
        files = [file for group in given if group and not isinstance(group, str) for file in group]
        strange = [file for file in files if not isinstance(file, FileReference)]
        if strange:
            raise ConfigurationError(f"{strange[0]!r} is no file of the storage: give what its get_…_files() return")
        return files

    def _deploy(self, files: Sequence[FileReference]) -> Deployed:
        made = self.storage.deploy(files, build_engine())
        return Deployed(made.hash, made.container)

    def _list_of(self, deployed: Deployed) -> Json:
        if deployed not in self._lists:
            try:
                listed = self.storage.read_json(deployed.container, names.deployment_blob(deployed.hash))
            except NotFound as error:
                raise ConfigurationError(
                    f"what was deployed on pool {self.pool_id} is not in storage any more: repurpose_existing_pool it"
                ) from error
            assert isinstance(listed, dict)
            self._lists[deployed] = listed
        return self._lists[deployed]

    def _task_names(self, facts: JobFacts) -> frozenset[str]:
        listed = self._list_of(Deployed(facts.deployment, facts.files_container))
        paths = (str(file["path"]) for file in listed["files"])
        return frozenset(path.removeprefix("tasks/") for path in paths if path.startswith("tasks/"))

    # The names of the first version, in its spelling; one of them with its typing error.
    use_exisiting_pool = use_existing_pool
    createPool = create_pool
    useExistingPool = use_existing_pool
    getAvailablePool = get_available_pool
    repurposeExistingPool = repurpose_existing_pool
    resizePool = resize_pool
    deletePool = delete_pool
    deleteAllPools = delete_all_pools
    createAJob = create_a_job
    deleteAJob = delete_a_job
    deleteAllJobs = delete_all_jobs
    addTaskToJob = add_task_to_job
    addTasksToJob = add_tasks_to_job
    addTasksFromManifestFile = add_tasks_from_manifest_file
    waitForTasks = wait_for_tasks
    getResults = get_results
    waitForPool = wait_for_pool
    sealJob = seal_job
    terminateJob = terminate_job
    cleanUp = clean_up


def _known(record: TaskRecord, names_there: frozenset[str]) -> TaskRecord:
    if record.module not in names_there:
        listed = ", ".join(sorted(names_there)[:20]) or "none"
        raise ManifestError(f"task {record.index + 1}: there is no task file {record.module}; deployed are: {listed}")
    return record


def _wants_java(files: Sequence[FileReference], setup: Mapping[str, Any]) -> bool:
    return "container" not in setup and any(file.name.lower().endswith(".jar") for file in files)


def _known_setup(setup: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {each.name for each in fields(NodeSetup)}
    if unknown := sorted(setup.keys() - known):
        raise ConfigurationError(f"a pool has no {', '.join(unknown)}; its nodes can have {', '.join(sorted(known))}")
    return setup


def _deployment_metadata(deployed: Deployed) -> dict[str, str]:
    return {names.DEPLOYMENT: deployed.hash, names.FILES_CONTAINER: deployed.container}


def _wanted_nodes(pool: Json) -> int:
    return int(pool.get("targetDedicatedNodes", 0)) + int(pool.get("targetLowPriorityNodes", 0))


def _as_id(text: str) -> str:
    """``text`` as the start of an id, short enough for what is appended."""
    return names.container_slug(text)[:36] or "pool"


def _seconds(life: timedelta | None) -> float | None:
    return None if life is None else life.total_seconds()


def _close_at_exit(here: weakref.ref[AzureBatch]) -> None:
    manager = here()
    if manager is None:
        return
    manager.service.lose_patience()
    try:
        manager.close()
    except AzBatchWrapError as error:
        _log.warning("not every job could be sealed at exit; their limits end them: %s", error)
