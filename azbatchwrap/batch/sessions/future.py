"""Futures of tasks: the standard library's, that also know the task behind them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from azbatchwrap.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from azbatchwrap.batch.results import TaskResult
    from azbatchwrap.progress import Progress


#: Held for an instant by whoever counts the further runs of any task.
_counting = threading.Lock()


class Owner(Protocol):
    """What a future asks of the session it belongs to."""

    def stop(self, future: Future) -> None: ...
    def read_file(self, future: Future, name: str) -> bytes: ...
    def follow(self, future: Future, name: str) -> Iterator[bytes]: ...
    def download(self, future: Future, directory: str | Path) -> list[Path]: ...
    def is_running(self, future: Future) -> bool: ...


class RemoteFuture(concurrent.futures.Future[Any]):
    """The result of something on a node: it can be awaited, and given up also while it runs.

    ``record`` is its `TaskResult` once it has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: TaskResult | None = None

    def cancel(self) -> bool:
        """Give it up. False when it has ended already."""
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        # Whoever waits hears of it now: nobody else will look at this future again.
        self.set_running_or_notify_cancel()
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()


class Future(RemoteFuture):
    """The result of a task that is to come. Everything of `concurrent.futures.Future` holds, and it can be awaited.

    ``task_id`` and ``job_id`` name the task (``job_id`` is empty until it is sent); ``point`` holds the arguments that
    a sweep chose.
    """

    def __init__(self, owner: Owner, task_id: str) -> None:
        super().__init__()
        self._owner = owner
        self.task_id = task_id
        self.job_id = ""
        self.point: dict[str, Any] | None = None
        #: Further runs that tasks depending on this one allow it, once it fails; None: its end has come.
        self._reruns: int | None = 0

    def allow_reruns(self, count: int) -> bool:
        """Let the task run again when it fails, so often; False when its end is decided already."""
        with _counting:
            if self._reruns is not None and not self.done():
                self._reruns = max(self._reruns, count)
                return True
            return False

    def take_rerun(self) -> bool:
        """Whether the task, which has failed, may run again; if not, its end is decided."""
        with _counting:
            self._reruns = self._reruns - 1 if self._reruns else None
            return self._reruns is not None

    def twin(self) -> Future:
        """Another future of the same task."""
        twin = Future(self._owner, self.task_id)
        twin.job_id = self.job_id
        return twin

    def cancel(self) -> bool:
        """End the task, also one that runs. False when it has ended already."""
        was_cancelled = self.cancelled()
        if not super().cancel():
            return False
        if not was_cancelled:
            self.stop_task()
        return True

    def stop_task(self) -> None:
        """Have the task ended on its node, when it has been sent."""
        if self.job_id:
            self._owner.stop(self)

    def give_up(self, error: Exception) -> None:
        """End the future with an error of the client's own, and its task with it."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if not self.done() and self.set_running_or_notify_cancel():
                self.set_exception(error)
                self.stop_task()

    def running(self) -> bool:
        """Whether the task runs at this moment: asks the service."""
        return not self.done() and bool(self.job_id) and self._owner.is_running(self)

    def stdout(self) -> str:
        """What the task has written so far; of an ended task, all of it."""
        return self._owner.read_file(self, "stdout.txt").decode(errors="replace")

    def stderr(self) -> str:
        """As `stdout`, for standard error."""
        return self._owner.read_file(self, "stderr.txt").decode(errors="replace")

    def stream(self, name: str = "stdout.txt") -> Iterator[str]:
        """The lines of a file of the task as they are written, until it ends."""
        rest = b""
        for piece in self._owner.follow(self, name):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def files(self) -> list[str]:
        """The names of the files that the task handed in (what it left in ``outputs/``); waits for its end."""
        concurrent.futures.wait([self])
        return [] if self.record is None else list(self.record.outputs)

    def download(self, directory: str | Path) -> list[Path]:
        """Bring the task's files to ``directory/TASK/``; waits for its end."""
        concurrent.futures.wait([self])
        return self._owner.download(self, directory)

    def __repr__(self) -> str:
        return f"<Future {self.task_id}: {self._shown_state}>"

    @property
    def _shown_state(self) -> str:
        return self._state.lower().replace("_", " ")

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(self.task_id)}</code> <b>{escape(self._shown_state)}</b>"


def as_completed(
    futures: Iterable[concurrent.futures.Future[Any]],
    timeout: float | None = None,
    *,
    progress: bool | Progress = False,
) -> Iterator[Any]:
    """The futures in the order in which they end, as `concurrent.futures.as_completed`.

    ``progress`` shows how far they are, on standard error or where the given `Progress` draws.
    Raises TimeoutError after ``timeout`` seconds.
    """
    from .dry import is_planning  # late: it imports this module

    given = list(futures)
    ended = concurrent.futures.as_completed(given, timeout)
    if progress is False or is_planning():
        yield from ended
        return
    if progress is not True:
        yield from _shown(ended, len(set(given)), progress)
        return
    import sys

    from azbatchwrap.progress import for_stream

    with for_stream(sys.stderr) as drawn:
        yield from _shown(ended, len(set(given)), drawn)


def _shown(ended: Iterator[Any], total: int, progress: Progress) -> Iterator[Any]:
    failed = 0
    progress.start("futures", "tasks", total=total, unit="tasks")
    try:
        for done, future in enumerate(ended, 1):
            failed += not future.cancelled() and future.exception() is not None
            progress.update("futures", done, text=f"tasks, {failed} failed" if failed else None)
            yield future
    finally:
        progress.finish("futures")


def as_future(value: object) -> Future | None:
    """``value`` when it is one of our futures. Raises ConfigurationError for somebody else's."""
    if isinstance(value, Future):
        return value
    if isinstance(value, concurrent.futures.Future):
        raise ConfigurationError("a future of another executor cannot be an argument: give its result()")
    return None
