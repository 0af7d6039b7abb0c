"""Where plain ``process`` functions run: threads that may be abandoned, and worker processes that may die."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from azbatchwrap.endpoints import Endpoint
from azbatchwrap.errors import WorkerDied, WorkItemError

from .types import WorkItemProcessor, WorkItemRequest

#: Seconds that a worker process gets to end by itself when it is no longer needed.
END_TIMEOUT = 2.0

Do = Callable[[WorkItemRequest, Endpoint], Awaitable[Any]]


class Threads:
    """Threads that call ``process``. One that hangs is abandoned with its item; it never keeps the program alive."""

    def __init__(self) -> None:
        self._idle: list[_Thread] = []

    async def call(self, processor: WorkItemProcessor[Any], item: WorkItemRequest, endpoint: Endpoint) -> Any:
        thread = self._idle.pop() if self._idle else _Thread()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        thread.calls.put((processor.process, item, endpoint, answer))
        result = await answer  # cancelled: the thread is not idle, so nobody gets it again
        self._idle.append(thread)
        if isinstance(result, _Raised):
            raise result.error
        return result

    def close(self) -> None:
        for thread in self._idle:
            thread.calls.put(None)
        self._idle.clear()


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


class _Thread:
    """A daemon thread with a queue: a pool of the standard library would wait for hung threads at exit."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[Any, Any, Any, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="work item", daemon=True).start()

    def _run(self) -> None:
        while (call := self.calls.get()) is not None:
            process, item, endpoint, answer = call
            try:
                result = process(item, endpoint)
            except BaseException as error:  # noqa: BLE001 - whatever it raises is the item's outcome
                result = _raised(error)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_answer, answer, result)


def _answer(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.cancelled():
        answer.set_result(result)


def _raised(error: BaseException) -> _Raised:
    """What an item raises must not end the dispatching process."""
    if isinstance(error, Exception):
        return _Raised(error)
    return _Raised(WorkItemError(f"process raised {type(error).__name__}: {error}"))


class Processes:
    """Worker processes that call ``process``, each with one item at a time. Killed or crashed, they cost that item."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._pickled: tuple[WorkItemProcessor[Any], bytes] | None = None

    async def call(self, processor: WorkItemProcessor[Any], item: WorkItemRequest, endpoint: Endpoint) -> Any:
        worker = self._idle.pop() if self._idle else await self._start()
        done = False
        try:
            result = await worker.ask(self._bytes_of(processor), item, endpoint)
            done = True
        finally:
            if done:
                self._idle.append(worker)
            else:
                self._all.discard(worker)
                worker.kill()
        if isinstance(result, _Raised):
            raise result.error
        return result

    def _bytes_of(self, processor: WorkItemProcessor[Any]) -> bytes:
        if self._pickled is None or self._pickled[0] is not processor:
            self._pickled = (processor, pickle.dumps(processor))
        return self._pickled[1]

    async def _start(self) -> _Worker:
        worker = await asyncio.to_thread(_Worker)
        self._all.add(worker)
        return worker

    async def close(self) -> None:
        workers, self._all, self._idle = list(self._all), set(), []
        await asyncio.gather(*(asyncio.to_thread(worker.end) for worker in workers))


def _context() -> Any:
    """A fork server starts workers in milliseconds, without the threads and connections of this process."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(["azbatchwrap.batchkit.workers"])
    return context


class _Worker:
    def __init__(self) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process: BaseProcess = _context().Process(target=_work, args=(theirs,), name="work items", daemon=True)
        self._process.start()
        theirs.close()

    async def ask(self, processor: bytes, item: WorkItemRequest, endpoint: Endpoint) -> Any:
        """Raises WorkerDied when the process ends before its answer."""
        loop = asyncio.get_running_loop()
        try:
            self._ours.send_bytes(pickle.dumps((processor, item, endpoint)))
        except OSError as error:
            raise self._died() from error
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._ours.fileno(), _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._ours.fileno())
        try:
            return pickle.loads(self._ours.recv_bytes())  # noqa: S301 - from a process that we started
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _died(self) -> WorkerDied:
        self._process.join(END_TIMEOUT)
        code = self._process.exitcode
        cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerDied(f"the worker process ended in the middle of the item ({cause})")

    def kill(self) -> None:
        self._ours.close()
        self._process.kill()

    def end(self) -> None:
        self._ours.close()  # which it reads as the end
        self._process.join(END_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(END_TIMEOUT)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _end_with_parent() -> None:
    """Should the dispatching process be killed, nobody waits for the item in hand, which may take hours."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(pipe: Connection) -> None:
    """The worker's life: read an item, answer, until the other side goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the dispatching process, which then ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    known: dict[bytes, WorkItemProcessor[Any]] = {}
    while True:
        try:
            data = pipe.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        answer: Any
        try:
            processor, item, endpoint = pickle.loads(data)  # noqa: S301 - from the process that started us
            if processor not in known:
                known = {processor: pickle.loads(processor)}  # noqa: S301 - as above
            answer = known[processor].process(item, endpoint)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the item's outcome
            answer = _raised(error)
        with contextlib.suppress(BrokenPipeError):
            pipe.send_bytes(_pickled(answer))


def _pickled(answer: Any) -> bytes:
    """Exceptions with arguments of their own often pickle, but do not unpickle: try both here, where it can be told."""
    try:
        data = pickle.dumps(answer)
        pickle.loads(data)  # noqa: S301 - made one line above
    except Exception:  # noqa: BLE001 - any failure means that it cannot travel
        error = answer.error if isinstance(answer, _Raised) else TypeError(f"process returned {answer!r}")
        if isinstance(error, OSError):
            return pickle.dumps(_Raised(OSError(f"{type(error).__name__}: {error}")))
        return pickle.dumps(_Raised(WorkItemError(f"{type(error).__name__}: {error}")))
    return data
