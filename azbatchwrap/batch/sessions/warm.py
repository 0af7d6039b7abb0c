"""Warm nodes: engines that stay and take calls from a queue, for answers in milliseconds instead of a task each.

Each client has a mailbox of its own. It keeps only a few calls per engine in the queue that it shares with others, so
that a client with ten thousand calls does not stand before one with a single call.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap import names
from azbatchwrap.batch.results import ErrorInfo, TaskResult
from azbatchwrap.batch.tasks import ascii_json
from azbatchwrap.errors import AzBatchWrapError, PoolError, TaskFailed

from .engines import Engines, Lane
from .functions import SCRIPT, Target, target_of
from .future import RemoteFuture
from .mail import Letter, mail_of
from .outcome import exception_of, reject, resolve, value_of
from .sources import script_order
from .values import packed

if TYPE_CHECKING:
    from .session import Session

_log = logging.getLogger(__name__)

#: Calls of one client that may wait in the shared queue for each engine, beside the one that runs.
AHEAD = 2
#: A call longer than this (bytes of JSON) sends its arguments as a blob.
LONGEST_CALL = 40 * 1024
#: Seconds before the next look into a mailbox that could not be opened.
OUTAGE_PAUSE = 0.5
#: Requests in flight to the queues.
POSTERS = 4


class WarmFuture(RemoteFuture):
    """The result of a call of warm nodes. One that is given up while it runs goes on to its end, for nobody."""

    def __init__(self, call_id: str) -> None:
        super().__init__()
        self.call_id = call_id


@dataclass(slots=True)
class _WarmCall:
    future: WarmFuture
    target: Target
    args: Any
    marked: bool
    #: Where it was sent.
    lane: Lane | None = None


class Interactive:
    """Warm engines on a session's pool; made by `Session.interactive`. Use it in a ``with``.

    ``engines`` is how many (default: one per slot of the pool). They stop by themselves when no call has come for
    ``idle`` seconds, and are started again by the next one. A call whose engine dies is taken by another after
    ``lease`` seconds. Clients that give the same ``name`` share engines, each with a mailbox of its own.
    """

    def __init__(self, session: Session, name: str, engines: int | None, idle: float | str, lease: int) -> None:
        self._session = session
        self._storage = session.manager.storage
        self._mail = mail_of(self._storage)
        self._engines = Engines(session, self._mail, name, engines, idle=idle, lease=lease)
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
        future = WarmFuture(f"{self._mail.client}-{next(self._numbers)}")
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
        self._engines.open({target_of(function).module for function in functions})

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
        self._engines.close()

    # -- calls --

    def _send_all(self) -> None:
        while (calls := self._next()) is not None:
            try:
                lane = self._engines.open({call.target.module for call in calls})
            except AzBatchWrapError as error:
                self._fail(calls, error)
                continue
            with self._changed:
                self._changed.notify_all()
            for call in calls:
                call.lane = lane
                self._posters.submit(self._post, call)

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
        return AHEAD + AHEAD * self._engines.count

    def _post(self, call: _WarmCall) -> None:
        assert call.lane is not None
        try:
            self._mail.put(call.lane.name, self._letter(call, call.lane))
        except AzBatchWrapError as error:
            self._fail([call], error)
        except Exception as error:  # noqa: BLE001 (the future is the only place where anybody would hear of it)
            self._fail([call], TaskFailed(f"the call could not be sent: {type(error).__name__}: {error}"))

    def _letter(self, call: _WarmCall, lane: Lane) -> bytes:
        storage, call_id = self._storage, call.future.call_id
        function: dict[str, Any] = {"module": call.target.module, "name": call.target.name, "marked": call.marked}
        if call.target.module == SCRIPT:
            function |= script_order()
        if self._session.by_pickle:
            function["pickle"] = True
        letter: dict[str, Any] = {
            "id": call_id,
            "function": function,
            "reply": self._mail.reply(lane.name),
            "result_url": lane.result_address(call_id),
        }
        args = ascii_json(call.args).encode()
        if len(args) > LONGEST_CALL:
            blob = f"{names.args_prefix(lane.facts.job_id)}{call_id}.json"
            storage.write_bytes(storage.files_container, blob, args)
            letter["args_url"] = storage.blob_sas(storage.files_container, blob, "r", lane.facts.sas_expiry)
        else:
            letter["args"] = call.args
        return ascii_json(letter).encode()

    def _fail(self, calls: list[_WarmCall], error: AzBatchWrapError) -> None:
        for call in calls:
            with self._changed:
                self._sent.pop(call.future.call_id, None)
                self._changed.notify_all()
            reject(call.future, error)

    # -- answers --

    def _receive_all(self) -> None:
        between_checks = self._session.pace.pool * 2
        next_check = time.monotonic() + between_checks
        while self._is_awaiting():
            try:
                for letter in self._mail.get():
                    self._open_letter(letter)
                if time.monotonic() >= next_check:
                    next_check = time.monotonic() + between_checks
                    self._check()
            except PoolError as error:
                self._fail(self._all_sent(), error)
            except AzBatchWrapError as error:
                _log.warning("warm nodes: %s", error)
                time.sleep(OUTAGE_PAUSE)

    def _is_awaiting(self) -> bool:
        """Return when answers may come; False at the end."""
        with self._changed:
            while not self._closed and not (self._sent and self._engines.lane):
                self._changed.wait()
            return not self._closed

    def _all_sent(self) -> list[_WarmCall]:
        with self._changed:
            return list(self._sent.values())

    def _check(self) -> None:
        """See to engines that have died, and to calls that a server has lost."""
        self._engines.check({call.target.module for call in self._all_sent()})
        if self._mail.mend():
            for call in self._all_sent():
                if call.lane is not None:
                    self._post(call)

    def _open_letter(self, letter: Letter) -> None:
        answer = orjson.loads(letter.data)
        with self._changed:
            call = self._sent.pop(answer["id"], None)
            self._changed.notify_all()
        self._posters.submit(self._mail.remove, letter)
        # No call waits for it: the second answer to one that was taken by two engines.
        if call is None:
            return
        try:
            self._settle(call, answer)
        except AzBatchWrapError as error:
            reject(call.future, error)

    def _settle(self, call: _WarmCall, answer: dict[str, Any]) -> None:
        future, lane = call.future, call.lane
        assert lane is not None
        if answer.get("blob"):
            data = self._storage.read_bytes(lane.facts.output_container, lane.result_blob(future.call_id))
            answer = orjson.loads(data)
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
        if result.succeeded:
            resolve(future, value_of(result, by_pickle=self._session.by_pickle))
        else:
            reject(future, exception_of(result, ""))


def _error_of(error: dict[str, Any]) -> ErrorInfo:
    args = error.get("args")
    return ErrorInfo(
        str(error.get("type", "")),
        str(error.get("message", "")),
        str(error.get("traceback", "")),
        str(error.get("module", "")),
        None if args is None else tuple(args),
    )
