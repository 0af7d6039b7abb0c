"""Warm nodes: engines that stay and take calls from a queue, for answers in milliseconds instead of a task each.

Each client has a mailbox of its own. It keeps only a few calls per engine in the queue that it shares with others, so
that a client with ten thousand calls does not stand before one with a single call.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import hashlib
import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap import names
from azbatchwrap.batch.health import Health
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.results import ErrorInfo, TaskResult
from azbatchwrap.batch.service import at
from azbatchwrap.batch.submit import Submission
from azbatchwrap.batch.tasks import AUTO_USER, ascii_json, engine_command, output_files
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, Conflict, NotFound, PoolError, TaskFailed
from azbatchwrap.manifest import parse_duration
from azbatchwrap.storage.queue import Message, Queues

from .functions import SCRIPT, Target, target_of
from .outcome import exception_of, reject, resolve, value_of
from .sources import script_name
from .values import packed

if TYPE_CHECKING:
    from .session import Session

_log = logging.getLogger(__name__)

#: Calls of one client that may wait in the shared queue for each engine, beside the one that runs.
AHEAD = 2
#: A call longer than this (bytes of JSON) sends its arguments as a blob.
LONGEST_CALL = 40 * 1024
#: Seconds that a message of the mailbox is ours once it is taken.
MAILBOX_LEASE = 60
#: Seconds between two looks into an empty mailbox, and when nothing is awaited.
MAILBOX_PAUSE, MAILBOX_IDLE = 0.005, 0.2
#: Requests in flight to the queues.
POSTERS = 4


class WarmFuture(concurrent.futures.Future[Any]):
    """The result of a call of warm nodes. It can be awaited; ``record`` is its `TaskResult` once it has ended."""

    def __init__(self, call_id: str) -> None:
        super().__init__()
        self.call_id = call_id
        self.record: TaskResult | None = None

    def cancel(self) -> bool:
        """Give up the call. One that runs already runs to its end, for nobody."""
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()


@dataclass(frozen=True, slots=True)
class _Lane:
    """The engines of one deployment: their queue and the job they are tasks of."""

    queue: str
    facts: JobFacts
    #: Address of the output container, and what allows engines to write into it.
    outputs: tuple[str, str]

    def result_blob(self, call_id: str) -> str:
        """Where an engine leaves a result that is too long for a message."""
        return f"{self.facts.job_id}/calls/{call_id}.json"


@dataclass(frozen=True, slots=True)
class _WarmCall:
    future: WarmFuture
    target: Target
    args: Any
    marked: bool


class Interactive:
    """Warm engines on a session's pool; made by `Session.interactive`. Use it in a ``with``.

    ``engines`` is how many (default: one per slot of the pool). They stop by themselves when no call has come for
    ``idle`` seconds, and are started again by the next one. A call whose engine dies is taken by another after
    ``lease`` seconds. Clients that give the same ``name`` share engines, each with a mailbox of its own.
    """

    def __init__(self, session: Session, name: str, engines: int | None, idle: float | str, lease: int) -> None:
        if lease < 1:
            raise ConfigurationError(f"lease={lease}: at least a second")
        self._session = session
        self._manager = session.manager
        self._name = name
        self._engines = engines
        #: Engines that there should be, once that is known.
        self._count = engines or 1
        self._idle, self._lease = parse_duration(idle), lease
        account = self._manager.storage.account
        self._queues = Queues(account, account.queue_url)
        self._mailbox = f"azbw-mail-{secrets.token_hex(8)}"
        self._reply_url = ""
        self._lane: _Lane | None = None
        self._targets: dict[Callable[..., Any], Target] = {}
        self._waiting: deque[_WarmCall] = deque()
        self._sent: dict[str, _WarmCall] = {}
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._closed = False
        self._posters = ThreadPoolExecutor(POSTERS, thread_name_prefix="azbatchwrap-calls")
        self._threads = [
            threading.Thread(target=work, name=f"azbatchwrap-{work.__name__.strip('_')}", daemon=True)
            for work in (self._send_all, self._receive_all)
        ]
        self._opened = False

    def __enter__(self) -> Interactive:  # noqa: PYI034 (typing.Self needs Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=error is None)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WarmFuture:
        """Call ``function(*args, **kwargs)`` on a warm engine. Raises ConfigurationError as `Session.submit`."""
        if self._closed:
            raise RuntimeError("these warm nodes are closed and take no more calls")
        target = self._targets.get(function)
        if target is None:
            target = self._targets[function] = target_of(function)
        given, marked = packed(
            [list(args), dict(kwargs)],
            lambda _value: None,
            by_pickle=self._session.by_pickle,
            where=f"an argument of {target.name}",
        )
        future = WarmFuture(f"{self._mailbox[-16:]}-{next(self._numbers)}")
        with self._changed:
            if not self._opened:
                self._opened = True
                for thread in self._threads:
                    thread.start()
            self._waiting.append(_WarmCall(future, target, given, marked))
            self._changed.notify_all()
        return future

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any]) -> list[WarmFuture]:
        """A call for each item, or for each group of items of several iterables."""
        return [self.submit(function, *args) for args in zip(*iterables, strict=False)]

    def start(self, *functions: Callable[..., Any]) -> None:
        """Have the engines for these functions started before the first call."""
        self._open_lane({target_of(function).module for function in functions})

    def close(self, *, wait: bool = True) -> None:
        """Take no more calls; with ``wait`` return when all have been answered. Engines that nobody shares are ended."""
        if self._closed:
            return
        if wait:
            with self._changed:
                futures = [call.future for call in (*self._waiting, *self._sent.values())]
            concurrent.futures.wait(futures)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._posters.shutdown(wait=True)
        for call in (*self._waiting, *self._sent.values()):
            reject(call.future, TaskFailed("the warm nodes were closed before this call was answered"))
        self._clean_up()

    def _clean_up(self) -> None:
        if self._reply_url:
            self._queues.delete(self._mailbox)
        if self._lane is not None:
            job_id = self._lane.facts.job_id
            if self._name:
                # Others may use them; the job ends when the last engine has been idle long enough.
                self._manager.jobs.seal(job_id)
            else:
                self._manager.jobs.terminate(job_id)
                self._queues.delete(self._lane.queue)
        self._queues.close()

    # -- engines --

    def _open_lane(self, modules: set[str]) -> _Lane:
        """The lane for calls into these modules, with its engines running."""
        jobs = self._session.jobs
        if self._lane is not None and jobs.covers(modules):
            return self._lane
        deployed = jobs.deploy(modules)
        if self._lane is not None and self._lane.facts.deployment == deployed.hash:
            return self._lane
        pool_id = self._session.pool_id()
        shared = f"{self._manager.storage.project}/{pool_id}/{deployed.hash}/{self._name or self._mailbox}"
        digest = hashlib.sha256(shared.encode()).hexdigest()[:16]
        queue = f"azbw-calls-{digest}"
        self._queues.create(queue)
        facts = self._open_job(f"warm-{digest}", pool_id, deployed)
        if not self._reply_url:
            self._queues.create(self._mailbox)
            self._reply_url = self._queues.signature(self._mailbox, "a", facts.sas_expiry)
        address = self._manager.storage.container_sas(facts.output_container, "cw", facts.sas_expiry)
        base, _, signature = address.partition("?")
        self._lane = _Lane(queue, facts, (base, signature))
        self._start_engines(self._lane)
        return self._lane

    def _open_job(self, base: str, pool_id: str, deployed: Any) -> JobFacts:
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

    def _wanted(self, pool_id: str) -> int:
        if self._engines is not None:
            return self._engines
        pool = self._manager.pools.get(pool_id)
        nodes = int(pool.get("targetDedicatedNodes", 0)) + int(pool.get("targetLowPriorityNodes", 0))
        return max(1, nodes * int(pool.get("taskSlotsPerNode", 1)))

    def _start_engines(self, lane: _Lane) -> None:
        """As many engines as are missing."""
        job_id = lane.facts.job_id
        living = sum(
            1
            for _ in self._manager.service.list(
                at("jobs", job_id, "tasks"), filter="state ne 'completed'", select=("id",)
            )
        )
        self._count = self._wanted(lane.facts.pool_id)
        missing = self._count - living
        if missing <= 0:
            return
        tasks = (self._engine_task(lane, f"engine-{secrets.token_hex(4)}") for _ in range(missing))
        Submission(self._manager.service, job_id).run(tasks)

    def _engine_task(self, lane: _Lane, task_id: str) -> tuple[str, bytes]:
        storage, facts = self._manager.storage, lane.facts
        orders = {"module": "warm engine", "serve": {"idle": self._idle, "lease": self._lease}}
        settings = {
            names.TASK_VARIABLE: ascii_json(orders),
            names.CALLS_URL_VARIABLE: self._queues.signature(lane.queue, "pu", facts.sas_expiry),
        }
        output_url = storage.container_sas(facts.output_container, "cw", facts.sas_expiry)
        body = {
            "id": task_id,
            "commandLine": engine_command(facts.deployment),
            "userIdentity": AUTO_USER,
            "constraints": {"maxTaskRetryCount": 0},
            "environmentSettings": [{"name": name, "value": value} for name, value in settings.items()],
            "outputFiles": output_files(output_url, names.task_output_prefix(facts.job_id, task_id)),
        }
        return task_id, orjson.dumps(body)

    # -- calls --

    def _send_all(self) -> None:
        while (calls := self._next()) is not None:
            try:
                lane = self._open_lane({call.target.module for call in calls})
            except AzBatchWrapError as error:
                self._fail(calls, error)
                continue
            for call in calls:
                self._posters.submit(self._post, lane, call)

    def _next(self) -> list[_WarmCall] | None:
        """The calls that there is room for in the queue; ``None`` at the end."""
        with self._changed:
            while not self._closed and (not self._waiting or len(self._sent) >= self._window):
                self._changed.wait()
            if self._closed:
                return None
            calls = []
            while self._waiting and len(self._sent) < self._window:
                call = self._waiting.popleft()
                if not call.future.done():
                    self._sent[call.future.call_id] = call
                    calls.append(call)
            return calls

    @property
    def _window(self) -> int:
        return AHEAD + AHEAD * self._count

    def _post(self, lane: _Lane, call: _WarmCall) -> None:
        try:
            self._queues.put(lane.queue, self._letter(lane, call))
        except AzBatchWrapError as error:
            self._fail([call], error)
        except Exception as error:  # noqa: BLE001 (the future is the only place where anybody would hear of it)
            self._fail([call], TaskFailed(f"the call could not be sent: {type(error).__name__}: {error}"))

    def _letter(self, lane: _Lane, call: _WarmCall) -> str:
        storage, expiry = self._manager.storage, timedelta(days=1)
        function: dict[str, Any] = {"module": call.target.module, "name": call.target.name, "marked": call.marked}
        if call.target.module == SCRIPT:
            function["file"] = script_name()
        if self._session.by_pickle:
            function["pickle"] = True
        args = ascii_json(call.args)
        blob = f"{names.args_prefix(lane.facts.job_id)}{call.future.call_id}"
        letter: dict[str, Any] = {
            "id": call.future.call_id,
            "function": function,
            "reply_url": self._reply_url,
            "result_url": f"{lane.outputs[0]}/{lane.result_blob(call.future.call_id)}?{lane.outputs[1]}",
        }
        if len(args) > LONGEST_CALL:
            storage.write_bytes(storage.files_container, f"{blob}.json", args.encode())
            letter["args_url"] = storage.blob_sas(storage.files_container, f"{blob}.json", "r", expiry)
        else:
            letter["args"] = call.args
        return base64.b64encode(ascii_json(letter).encode()).decode()

    def _fail(self, calls: list[_WarmCall], error: AzBatchWrapError) -> None:
        for call in calls:
            with self._changed:
                self._sent.pop(call.future.call_id, None)
                self._changed.notify_all()
            reject(call.future, error)

    # -- answers --

    def _receive_all(self) -> None:
        next_check = time.monotonic() + self._session.pace.pool * 2
        while not self._closed:
            if not self._sent or not self._reply_url:
                with self._changed:
                    self._changed.wait(MAILBOX_IDLE)
                continue
            began = time.monotonic()
            try:
                messages = self._queues.get(self._mailbox, MAILBOX_LEASE)
                for message in messages:
                    self._open_letter(message)
                if time.monotonic() >= next_check:
                    self._check_engines()
                    next_check = time.monotonic() + self._session.pace.pool * 2
            except AzBatchWrapError as error:
                _log.warning("warm nodes: %s", error)
                messages = []
                if isinstance(error, PoolError):
                    with self._changed:
                        lost = list(self._sent.values())
                    self._fail(lost, error)
            if not messages:
                # A busy service answers sooner when it is asked less.
                time.sleep(max(MAILBOX_PAUSE, time.monotonic() - began))

    def _open_letter(self, message: Message) -> None:
        answer = orjson.loads(base64.b64decode(message.text))
        with self._changed:
            call = self._sent.pop(answer["id"], None)
            self._changed.notify_all()
        self._posters.submit(self._queues.remove, self._mailbox, message)
        # No call waits for it: the second answer to one that was taken by two engines.
        if call is not None:
            self._settle(call.future, answer)

    def _settle(self, future: WarmFuture, answer: dict[str, Any]) -> None:
        if answer.get("blob"):
            storage = self._manager.storage
            assert self._lane is not None
            blob = self._lane.result_blob(future.call_id)
            answer = orjson.loads(storage.read_bytes(self._lane.facts.output_container, blob))
        error = answer.get("error")
        result = TaskResult(
            future.call_id,
            "succeeded" if answer["state"] == "succeeded" else "failed",
            value=answer.get("value", answer.get("repr")),
            is_repr="repr" in answer,
            node_id=answer.get("node"),
            error=error and _error_of(error),
        )
        future.record = result
        if not result.succeeded:
            reject(future, exception_of(result, ""))
            return
        try:
            resolve(future, value_of(result, by_pickle=self._session.by_pickle))
        except AzBatchWrapError as failure:
            reject(future, failure)

    def _check_engines(self) -> None:
        """Start engines again that have died or gone to sleep. Raises a `PoolError` when no node can run any."""
        lane = self._lane
        if lane is None:
            return
        if self._manager.jobs.facts(lane.facts.job_id).ended:
            # The engines of a shared job all went to sleep; their queue is still there.
            self._lane = None
            with self._changed:
                calls = list(self._sent.values())
            self._open_lane({call.target.module for call in calls})
            return
        Health(self._manager.service, lane.facts.pool_id, lane.facts.job_id).check()
        self._start_engines(lane)


def _error_of(error: dict[str, Any]) -> ErrorInfo:
    args = error.get("args")
    return ErrorInfo(
        str(error.get("type", "")),
        str(error.get("message", "")),
        str(error.get("traceback", "")),
        str(error.get("module", "")),
        None if args is None else tuple(args),
    )
