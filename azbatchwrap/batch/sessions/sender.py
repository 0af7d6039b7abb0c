"""The thread that sends calls: in batches, in order, no more at once than wished."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from azbatchwrap.errors import AzBatchWrapError, DependencyFailed, ServiceError, TaskFailed

from .calls import Call
from .future import Future
from .jobs import SessionJobs
from .outcome import reject
from .watcher import Watcher

#: Seconds that the first call waits for others to come along: one request takes as long for 100 tasks as for one.
GATHERING = 0.005
#: Calls that are written and sent in one go; results of the first ones come in while the next are written.
MOST_AT_ONCE = 5000


class Sender:
    """Takes calls and sends them. ``at_most`` limits how many tasks are on the service at once; ``None``: no limit."""

    def __init__(self, jobs: SessionJobs, watcher: Watcher, at_most: int | None) -> None:
        self._jobs = jobs
        self._watcher = watcher
        self._at_most = at_most
        self._queue: deque[Call] = deque()
        self._paused = 0
        self._sending = False
        self._stopping = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, calls: list[Call]) -> None:
        """Send these as soon as may be: those that wait for others' ends to decide what they do, after that."""
        ready = []
        for call in calls:
            self._follow_parents(call)
            if not call.is_held:
                ready.append(call)
        self._enqueue(ready)

    def _enqueue(self, calls: list[Call]) -> None:
        with self._changed:
            self._queue.extend(calls)
            if self._thread is None and calls:
                self._thread = threading.Thread(target=self._run, name="azbatchwrap-sender", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _follow_parents(self, call: Call) -> None:
        if not call.parents:
            return
        waiting = len(call.parents)
        lock = threading.Lock()

        def parent_ended(parent: concurrent.futures.Future[object]) -> None:
            nonlocal waiting
            with lock:
                waiting -= 1
                last = waiting == 0
            if call.options.on_failure != "ignore" and not call.future.done():
                self._fail_after(call.future, parent)
            if last and call.is_held and not call.future.done():
                self._enqueue([call])

        for parent in call.parents:
            self._decisive(parent, call).add_done_callback(parent_ended)

    def _decisive(self, parent: Future, call: Call) -> Future:
        """The future that decides about the call: its parent's, or that of a further run of a task that has failed."""
        if call.options.on_failure != "retry" or parent.allow_reruns(call.options.upstream_retries):
            return parent
        if parent.record is None or parent.record.state != "failed":
            return parent
        return self._watcher.run_again(parent, call.options.upstream_retries - 1)

    @staticmethod
    def _fail_after(future: Future, parent: concurrent.futures.Future[object]) -> None:
        if not parent.cancelled() and parent.exception() is None:
            return
        assert isinstance(parent, Future)
        fate = "was cancelled" if parent.cancelled() else f"failed: {parent.exception()}"
        error = DependencyFailed(
            f"task {future.task_id} never ran: task {parent.task_id}, which it depends on, {fate}",
            task_id=future.task_id,
        )
        error.__cause__ = None if parent.cancelled() else parent.exception()
        future.give_up(error)

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Send nothing until the block ends, then everything at once."""
        with self._changed:
            self._paused += 1
        try:
            yield
        finally:
            with self._changed:
                self._paused -= 1
                self._changed.notify_all()

    def tasks_ended(self) -> None:
        """There may be room for more."""
        with self._changed:
            self._changed.notify_all()

    def drop_all(self) -> list[Call]:
        """Forget what has not been sent."""
        with self._changed:
            dropped = list(self._queue)
            self._queue.clear()
        return dropped

    def stop(self) -> None:
        """End the thread, once what it is sending is sent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        # What was sent is not held by this frame while it waits for more.
        going_on = True
        while going_on:
            going_on = self._send_next()

    def _send_next(self) -> bool:
        calls = self._next()
        try:
            self._send(calls)
        except AzBatchWrapError as error:
            self._fail(calls, error)
        except Exception as error:  # noqa: BLE001 (the futures are the only place where anybody would hear of it)
            failure = TaskFailed(f"the tasks could not be sent: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._fail(calls, failure)
        return bool(calls)

    def _next(self) -> list[Call]:
        """The next calls to send; none when it is time to stop."""
        with self._changed:
            while not self._stopping and (self._paused or not self._queue or not self._room()):
                self._changed.wait()
            if self._stopping:
                return []
            self._changed.wait(GATHERING)
            count = max(1, min(MOST_AT_ONCE, self._room(), len(self._queue)))
            return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _room(self) -> int:
        return MOST_AT_ONCE if self._at_most is None else self._at_most - self._watcher.pending

    def _send(self, calls: list[Call]) -> None:
        """Send calls and have their tasks watched. Another job takes over from one that ended in between."""
        left = [call for call in calls if not call.future.done()]
        while left and not self._stopping:
            self._jobs.look_up({call.target.module for call in left})
            known, fresh = [], []
            for call in left:
                job_id = self._jobs.done_in(call.future.task_id)
                if job_id is None:
                    fresh.append(call)
                else:
                    call.future.job_id = job_id
                    known.append(call.future)
            left = self._jobs.send(fresh, self._refused) if fresh else []
            again = {call.future for call in left}
            sent = [call.future for call in fresh if call.future not in again and not call.future.done()]
            self._watcher.watch([*known, *sent])
            for future in (call.future for call in fresh):
                if future.cancelled():
                    # It was cancelled while it was on its way.
                    future.stop_task()

    @staticmethod
    def _refused(call: Call, error: ServiceError) -> None:
        reject(call.future, error)

    @staticmethod
    def _fail(calls: list[Call], error: AzBatchWrapError) -> None:
        for call in calls:
            reject(call.future, error)
