"""`Session`: functions as tasks of Azure Batch, with futures for their results."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import logging
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from azbatchwrap.batch.access import AccessKind
from azbatchwrap.batch.logs import follow_log, kept_log, read_log
from azbatchwrap.batch.manager import AzureBatch
from azbatchwrap.batch.patience import DEFAULT_PATIENCE
from azbatchwrap.batch.service import at
from azbatchwrap.batch.tasks import submission_index
from azbatchwrap.batch.timeline import html, spans_of, svg
from azbatchwrap.batch.wait import LOCAL_PACE, NETWORK_PACE
from azbatchwrap.config import Settings, is_loopback
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, Conflict, NotFound, TaskFailed
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.storage import AzureBatchStorage

from . import dry
from .calls import Call, Caller, Options
from .future import Future
from .jobs import SessionJobs, Wishes
from .outcome import reject
from .policy import PoolPolicy, ensure_pool, wish_of
from .sender import Sender
from .submitting import Calls, Desk, as_futures
from .watcher import Watcher

if TYPE_CHECKING:
    from azbatchwrap.batch.plan import Plan, PoolWish

    from .warm import Interactive

_log = logging.getLogger(__name__)

#: Tasks ended at once when many are cancelled.
STOPPERS = 8


class Inputs:
    """The files that each task of a session finds in its working folder."""

    def __init__(self, storage: AzureBatchStorage) -> None:
        self._storage = storage

    def add(self, *paths: str | Path) -> None:
        """Add files, folders or patterns: tasks sent from now on get them. Raises ConfigurationError for a missing one."""
        for path in paths:
            self._storage.add_input_file_path(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._storage.input_names())


class Outputs:
    """What the tasks of a session left."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def download(self, directory: str | Path) -> list[Path]:
        """Bring every task's files to ``directory/TASK/``; a repeat fetches only what is new."""
        return self._session.download_all(Path(directory))


class Session(Calls):
    """Runs functions as tasks: `submit` and `map` give futures. Use it in a ``with``; leaving it waits for the tasks.

    ``name``: the session can be taken up again. The same script run once more finds its tasks, submits none twice and
    reads the results that are there (those of tasks that succeeded; not with ``skip_done=False``).
    ``pool``: a pool's id or a `PoolPolicy`; by default as many nodes as configured, given back after 10 idle minutes.
    ``inputs``: files, folders and patterns that each task finds in its working folder.
    ``sources``: files and folders of code that importing the functions does not reveal.
    ``at_most``: how many tasks may be on the service at once.
    ``pickle``: arguments and results may be any Python values, where nodes have the same Python.
    ``patience``: how long to wait for room, when Azure has no nodes or a quota is reached, in seconds or as ``"30m"``.
    ``limit``: how long a job may live, in seconds or as ``"36h"``.
    ``access``: how nodes open storage, as `AzureBatch.create_a_job` takes it.
    ``dry_run``: nothing is sent, and `plan` tells what would be.
    ``options``: those of `options`, for all tasks.
    """

    def __init__(
        self,
        name: str = "",
        *,
        settings: Settings | None = None,
        project: str | None = None,
        pool: str | PoolPolicy | None = None,
        inputs: Iterable[str | Path] = (),
        sources: Iterable[str | Path] = (),
        at_most: int | None = None,
        pickle: bool = False,
        skip_done: bool = True,
        patience: float | str = DEFAULT_PATIENCE,
        limit: float | str | None = None,
        access: AccessKind | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        if at_most is not None and at_most < 1:
            raise ConfigurationError(f"at_most={at_most}: at least one task must be allowed to run")
        self.name = name
        self.progress = progress or NullProgress()
        super().__init__(Desk(self, Caller(by_pickle=pickle), self._accept), Options.of(options))
        self.by_pickle = pickle
        storage = AzureBatchStorage(settings, project=project, progress=self.progress)
        self.manager = AzureBatch(storage, progress=self.progress, patience=patience)
        self._pool = pool or PoolPolicy(nodes=self.manager.settings.pool.node_count)
        self.inputs = Inputs(storage)
        self.inputs.add(*inputs)
        self.outputs = Outputs(self)
        wishes = Wishes(name, tuple(Path(path) for path in sources), limit, pickle, skip_done, access)
        self.jobs = SessionJobs(self.manager, wishes, self.pool_id)
        self.pace = LOCAL_PACE if is_loopback(self.manager.settings.batch.url) else NETWORK_PACE
        self._watcher = Watcher(self.jobs, self.pace, self.progress, self._tasks_ended, by_pickle=pickle)
        self._sender = Sender(self.jobs, self._watcher, at_most)
        self._open_futures: set[Future] = set()
        self._stoppers = ThreadPoolExecutor(STOPPERS, thread_name_prefix="azbatchwrap-stop")
        self._closed = False
        self._warm: list[Interactive] = []
        #: What an interruption leaves running: tasks that a later run, or somebody else, asks for.
        self._leaves_tasks = bool(name)
        planned = dry.opened.get()
        self._planned: list[Call] | None = [] if dry_run or planned is not None else None
        self._plan: Plan | None = None
        if planned is not None:
            planned.append(self)
        here = weakref.ref(self)
        self._at_exit = lambda: _close_at_exit(here)
        atexit.register(self._at_exit)

    # -- opening and closing --

    @classmethod
    def attach(cls, job_id: str, **arguments: Any) -> Session:
        """A session on a job that is there, as after its driver died: `futures` of it lists its tasks.

        ``arguments`` are the constructor's. Raises NotFound.
        """
        session = cls(**arguments)
        try:
            session.jobs.attach(job_id)
        except BaseException:
            session.close(wait=False)
            raise
        # The job is somebody else's.
        session._leaves_tasks = True
        return session

    def __enter__(self) -> Session:  # noqa: PYI034 (typing.Self needs Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=error is None)

    def close(self, *, wait: bool = True, cancel: bool | None = None) -> None:
        """Take no more calls; with ``wait`` return when all tasks have ended.

        Without it, tasks of a session that has a name or was attached go on, and others are ended; ``cancel`` says
        otherwise. Either way the job ends with its last task.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        try:
            if self._planned is not None:
                self._plan = self.plan()
            if wait:
                for opened in self._warm:
                    opened.close()
                concurrent.futures.wait(list(self._open_futures))
        except BaseException:
            # Ctrl-C while waiting: as if the block had been left by it.
            self._end(cancel=not self._leaves_tasks if cancel is None else cancel)
            raise
        self._end(cancel=not (self._leaves_tasks or wait) if cancel is None else cancel)

    def _end(self, *, cancel: bool) -> None:
        # The steps are taken last to first, each whatever becomes of those before: Ctrl-C again must leave no task behind.
        with contextlib.ExitStack() as steps:
            steps.callback(self._let_go, self._sender.drop_all())
            steps.callback(self._end_jobs, cancel=cancel)
            steps.callback(self._stoppers.shutdown)
            steps.callback(self._watcher.stop)
            steps.callback(self._sender.stop)
            for opened in self._warm:
                steps.callback(opened.close, wait=False)

    def _let_go(self, dropped: list[Call]) -> None:
        for future in {call.future for call in dropped} | set(self._open_futures):
            reject(future, TaskFailed(f"the session was closed before task {future.task_id} ended"))
        self.manager.close()
        self.manager.storage.close()

    def _end_jobs(self, *, cancel: bool) -> None:
        for job in list(self.jobs.opened.values()):
            with contextlib.suppress(NotFound, Conflict):
                if cancel:
                    self.manager.jobs.terminate(job.facts.job_id)
                elif job.there:
                    self.manager.jobs.seal(job.facts.job_id)
                else:
                    self.manager.jobs.terminate(job.facts.job_id)

    def interactive(
        self, name: str = "", *, engines: int | None = None, idle: float | str = "10m", lease: int = 30
    ) -> Interactive:
        """Engines that stay on the nodes and answer calls within milliseconds; see `Interactive`."""
        from .warm import Interactive

        opened = Interactive(self, name, engines, idle, lease)
        self._warm.append(opened)
        return opened

    def pool_id(self) -> str:
        """The pool that the session's tasks run on, found or made."""
        if isinstance(self._pool, str):
            return self.manager.use_existing_pool(self._pool)
        return ensure_pool(self.manager, self._pool)

    # -- calls, beside those of `Calls` --

    def gather(self, *futures: Future | Iterable[Future], return_exceptions: bool = False) -> list[Any]:
        """Wait for futures, or lists of them; their results in order.

        Raises the first one's exception, unless these are wanted too.
        """
        given = [future for one in futures for future in as_futures(one)]
        if not return_exceptions:
            return [future.result() for future in given]
        concurrent.futures.wait(given)
        return [_result_or_exception(future) for future in given]

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """What is submitted in this block is sent at its end, in as few requests as can be."""
        with self._sender.held_back():
            yield

    @property
    def futures(self) -> list[Future]:
        """A future for each task that the session's job has, in the order of submission: for one taken up by `attach`.

        Raises RuntimeError when the session is closed.
        """
        if self._closed:
            raise RuntimeError("the session is closed and hears of no task any more")
        job = self.jobs.current
        if job is None:
            return []
        tasks = list(self.manager.service.list(at("jobs", job.facts.job_id, "tasks"), select=("id", "displayName")))
        order = {task["id"]: submission_index(task["id"], task.get("displayName")) or 0 for task in tasks}
        futures = [Future(self, task_id) for task_id in sorted(order, key=lambda task_id: order[task_id])]
        for future in futures:
            future.job_id = job.facts.job_id
        self._note(futures)
        self._watcher.watch(futures)
        return futures

    def timeline(self, path: str | Path) -> Path:
        """Draw which task ran where and when, as ``path``: ``.svg`` or ``.html``."""
        target = Path(path)
        jobs = list(self.jobs.opened)
        spans = [span for job_id in jobs for span in spans_of(self.manager.service, job_id)]
        draw = html if target.suffix == ".html" else svg
        target.write_text(draw(spans, f"{self.name or 'session'} ({', '.join(jobs)})"), encoding="utf-8")
        return target

    def __repr__(self) -> str:
        jobs = ", ".join(self.jobs.opened) or "no job yet"
        return f"<Session {self.name or '(no name)'}: {jobs}, {len(self._open_futures)} tasks to come>"

    def _repr_html_(self) -> str:
        title = f"{self.name or 'session'}: {len(self._open_futures)} tasks to come"
        spans = [span for job_id in list(self.jobs.opened) for span in spans_of(self.manager.service, job_id)]
        return svg(spans, title)

    def _accept(self, calls: list[Call]) -> list[Future]:
        if self._closed:
            raise RuntimeError("the session is closed and takes no more calls")
        futures = [call.future for call in calls]
        if self._planned is not None:
            self._planned += calls
            dry.take(calls)
            return futures
        self._note(futures)
        self._sender.put(calls)
        return futures

    def plan(self) -> Plan:
        """What the calls of a dry session would upload, make and use again. Raises ConfigurationError for another one."""
        if self._planned is None:
            raise ConfigurationError(
                "only a dry session has a plan: Session(dry_run=True), or `azbatchwrap plan SCRIPT`"
            )
        if self._plan is not None:
            return self._plan
        done = self.jobs.count_done(call.future.task_id for call in self._planned)
        return dry.plan_of(self, self._planned, done)

    def pool_wish(self) -> PoolWish:
        """The pool that the session would run on."""
        return wish_of(self._pool, self.manager.settings.pool, self.manager.storage.project)

    def _note(self, futures: list[Future]) -> None:
        self._open_futures.update(futures)
        for future in futures:
            future.add_done_callback(self._open_futures.discard)

    def _tasks_ended(self) -> None:
        self._sender.tasks_ended()

    # -- what futures ask for --

    def stop(self, future: Future) -> None:
        """Have a task ended on its node."""
        with contextlib.suppress(RuntimeError):  # closing ends the tasks by itself
            self._stoppers.submit(self._stop, future)

    def _stop(self, future: Future) -> None:
        try:
            self.manager.service.request("POST", at("jobs", future.job_id, "tasks", future.task_id, "terminate"))
        except (Conflict, NotFound) as error:
            _log.info("task %s was not ended: %s", future.task_id, error.code)
        except AzBatchWrapError as error:
            _log.warning("task %s could not be ended: %s", future.task_id, error)

    def is_running(self, future: Future) -> bool:
        """Whether the service runs a task right now."""
        task = self.manager.service.find(at("jobs", future.job_id, "tasks", future.task_id), select=("id", "state"))
        return task is not None and task["state"] == "running"

    def read_file(self, future: Future, name: str) -> bytes:
        """A file of a task as far as it is written; nothing for one that has not started."""
        if not future.job_id:
            return b""
        if future.done():
            with contextlib.suppress(NotFound):
                container = self.manager.jobs.facts(future.job_id).output_container
                return kept_log(self.manager.storage, container, future.job_id, future.task_id, name)
        try:
            return b"".join(read_log(self.manager.service, future.job_id, future.task_id, name))
        except (NotFound, Conflict):
            return b""

    def follow(self, future: Future, name: str) -> Iterator[bytes]:
        """A file of a task as it grows."""
        while not future.job_id and not future.done():
            time.sleep(0.05)
        if future.job_id:
            yield from follow_log(self.manager.service, future.job_id, future.task_id, name, interval=0.2)

    def download(self, future: Future, directory: str | Path) -> list[Path]:
        """Bring one task's files."""
        container = self.manager.jobs.facts(future.job_id).output_container
        storage = self.manager.storage
        return storage.download_results(future.job_id, directory, container=container, tasks=[future.task_id])

    def download_all(self, directory: Path) -> list[Path]:
        """Bring the files of every job of this session."""
        return [
            path
            for job in list(self.jobs.opened.values())
            for path in self.manager.storage.download_results(
                job.facts.job_id, directory, container=job.facts.output_container
            )
        ]


def _result_or_exception(future: Future) -> Any:
    if future.cancelled():
        return concurrent.futures.CancelledError()
    return future.exception() or future.result()


def _close_at_exit(here: weakref.ref[Session]) -> None:
    session = here()
    if session is None:
        return
    session.manager.service.lose_patience()
    try:
        session.close(wait=False)
    except AzBatchWrapError as error:
        _log.warning("a session could not be closed at exit; its jobs' limits end them: %s", error)
