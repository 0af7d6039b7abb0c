"""Fast submission: any iterable of ready-made tasks, in chunks and in parallel, with memory for what is in flight only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import orjson

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import ServiceError
from azbatchwrap.progress import NullProgress, Progress

from .service import Service, at, redact, refusal

_log = logging.getLogger(__name__)

#: What Azure Batch takes in one request: tasks, and bytes with some room for the request's own frame.
MOST_TASKS = 100
MOST_BYTES = 1024 * 1024 - 16 * 1024
#: Requests in flight at most. Latency is what they hide: 32 x 100 tasks in 50 ms are more than one CPU encodes.
CONCURRENCY = 32
#: Requests in flight at first and at least: one that is answered while the next is encoded.
FIRST_IN_FLIGHT, FEWEST_IN_FLIGHT = 4, 2
#: How many of them may be queueing, on either side, before more (or fewer) are sent.
LEAST_QUEUED, MOST_QUEUED = 1.0, 3.0
#: Refused tasks that are named in the error; and after how many the rest is not sent any more.
MOST_NAMED = 10
MOST_REFUSED = 1000

#: A task ready to be sent: its id and its JSON.
ReadyTask = tuple[str, bytes]


@dataclass(slots=True)
class _Tally:
    """What the workers report to each other."""

    accepted: int = 0
    refused: list[tuple[str, ServiceError]] = field(default_factory=list)
    failed: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, count: int) -> None:
        with self.lock:
            self.accepted += count

    def refuse(self, task_id: str, error: ServiceError) -> None:
        with self.lock:
            self.refused.append((task_id, error))

    @property
    def hopeless(self) -> bool:
        return self.failed is not None or len(self.refused) >= MOST_REFUSED


class Window:
    """How many requests to have in flight: as many as the way is long, and hardly more.

    After TCP Vegas (Brakmo, O'Malley, Peterson, 1994): a request that takes longer than the fastest one did has waited
    in a queue, and sending more would only lengthen it. Near a server of one thread that leaves 2 or 3, far away 32.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._fewest = float(min(FEWEST_IN_FLIGHT, most))
        self._size = float(min(FIRST_IN_FLIGHT, most))
        self._fastest = float("inf")
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return int(self._size)

    def note(self, seconds: float) -> None:
        """A request of full size took this long."""
        with self._lock:
            self._fastest = min(self._fastest, seconds)
            queued = self._size * (1.0 - self._fastest / seconds) if seconds > 0 else 0.0
            if queued < LEAST_QUEUED:
                # One more per request doubles the window each round trip, until the queue is felt.
                self._size = min(self._most, self._size + 1.0)
            elif queued > MOST_QUEUED:
                self._size = max(self._fewest, self._size - 1.0 / self._size)


class Submission:
    """Adds tasks to one job.

    Whole requests are retried by `Service`; a task that the service itself failed on is sent again; a task that it
    refused is not. A task that exists already counts as added only if an earlier answer was lost and it is the same.
    """

    def __init__(
        self,
        service: Service,
        job_id: str,
        *,
        concurrency: int = CONCURRENCY,
        backoff: Backoff | None = None,
        progress: Progress | None = None,
        forgive: Callable[[str, ServiceError], bool] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``forgive`` is asked for each refused task; where it says True, the refusal is no error of the whole."""
        self._forgive = forgive or (lambda _task_id, _error: False)
        self._service = service
        self._job = job_id
        self._path = at("jobs", job_id, "addtaskcollection")
        self._concurrency = concurrency
        self._window = Window(concurrency)
        self._backoff = backoff or Backoff()
        self._progress = progress or NullProgress()
        self._sleep = sleep

    def run(self, tasks: Iterable[ReadyTask]) -> int:
        """Add all ``tasks``; how many were accepted. ``tasks`` is consumed no faster than requests leave.

        Raises the `ServiceError` branch of the first refusal, after the others were sent, or of the failed request.
        """
        tally = _Tally()
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="azbatchwrap-submit") as workers:
            try:
                self._feed(workers, tasks, tally)
            except BaseException as error:
                # The data ended in an error, or Ctrl-C came: what has not left yet stays here.
                tally.failed = error
                raise
        self._progress.update("submit", tally.accepted)
        if tally.failed is not None:
            raise tally.failed
        if tally.refused:
            raise _refusals(self._job, tally)
        return tally.accepted

    def _feed(self, workers: ThreadPoolExecutor, tasks: Iterable[ReadyTask], tally: _Tally) -> None:
        in_flight: set[Future[None]] = set()
        for chunk in chunks(tasks):
            while len(in_flight) >= self._window.size:
                in_flight = wait(in_flight, return_when=FIRST_COMPLETED).not_done
                self._progress.update("submit", tally.accepted)
            if tally.hopeless:
                return
            in_flight.add(workers.submit(self._send, chunk, tally))

    def _send(self, chunk: list[ReadyTask], tally: _Tally) -> None:
        if tally.hopeless:
            return
        try:
            self._add(chunk, tally)
        except BaseException as error:  # noqa: BLE001 (raised again by `run`, in the caller's thread)
            tally.failed = tally.failed or error

    def _add(self, chunk: list[ReadyTask], tally: _Tally) -> None:
        attempt, resent = 0, False
        while chunk:
            attempt += 1
            began = time.perf_counter()
            try:
                answer = self._service.request("POST", self._path, _body(chunk))
            except ServiceError as error:
                if error.status != 413 and error.code != "RequestBodyTooLarge":
                    raise
                self._split(chunk, error, tally)
                return
            if len(chunk) == MOST_TASKS:
                self._window.note(time.perf_counter() - began)
            again = self._read(chunk, answer.body, resent or answer.uncertain, tally)
            if again and self._backoff.exhausted(attempt):
                for task in again:
                    tally.refuse(task[0], ServiceError(f"task {task[0]}: the service kept failing", code="ServerError"))
                return
            if again:
                self._sleep(self._backoff.delay(attempt))
            chunk, resent = again, True

    def _split(self, chunk: list[ReadyTask], error: ServiceError, tally: _Tally) -> None:
        if len(chunk) == 1:
            tally.refuse(chunk[0][0], error)
            return
        middle = len(chunk) // 2
        self._add(chunk[:middle], tally)
        self._add(chunk[middle:], tally)

    def _read(self, chunk: list[ReadyTask], body: dict[str, Any], resent: bool, tally: _Tally) -> list[ReadyTask]:
        """Count the results of one request; the tasks to send again: failed by the service or without a result."""
        results = body.get("value") or ()
        waiting = dict(chunk)
        accepted = 0
        for result in results:
            task_id = result.get("taskId", "")
            sent = waiting.get(task_id)
            status = result.get("status", "").lower()
            if sent is None or status == "servererror":
                continue
            del waiting[task_id]
            if status == "success" or (resent and self._is_ours(task_id, sent, result)):
                accepted += 1
            elif not self._forgive(task_id, error := _task_error(task_id, result)):
                tally.refuse(task_id, error)
        tally.accept(accepted)
        return list(waiting.items())

    def _is_ours(self, task_id: str, sent: bytes, result: dict[str, Any]) -> bool:
        """Whether a task that 'exists already' is the one we sent before: same command, same environment."""
        if (result.get("error") or {}).get("code") != "TaskExists":
            return False
        there = self._service.find(at("jobs", self._job, "tasks", task_id), select=_IDENTITY)
        return there is not None and _identity(there) == _identity(orjson.loads(sent))


#: The fields that say whether two tasks are the same work.
_IDENTITY = ("id", "commandLine", "environmentSettings")


def _identity(task: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    settings = task.get("environmentSettings") or ()
    return task.get("commandLine", ""), sorted((item["name"], item.get("value", "")) for item in settings)


def chunks(
    tasks: Iterable[ReadyTask], *, most: int = MOST_TASKS, most_bytes: int = MOST_BYTES
) -> Iterator[list[ReadyTask]]:
    """``tasks`` in requests of at most ``most`` tasks and ``most_bytes`` bytes (a larger task goes alone)."""
    chunk: list[ReadyTask] = []
    size = 0
    for task in tasks:
        length = len(task[1]) + 1
        if chunk and (len(chunk) == most or size + length > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += length
    if chunk:
        yield chunk


def _body(chunk: list[ReadyTask]) -> bytes:
    return b'{"value":[' + b",".join([task[1] for task in chunk]) + b"]}"


def _task_error(task_id: str, result: dict[str, Any]) -> ServiceError:
    error = result.get("error") or {}
    code = str(error.get("code", "unknown"))
    message = str((error.get("message") or {}).get("value", "")).partition("\nRequestId:")[0]
    values = "; ".join(f"{item.get('key')}: {item.get('value')}" for item in error.get("values") or ())
    return refusal(code, redact(f"task {task_id}: {code}: {message}{f' ({values})' if values else ''}"))


def _refusals(job_id: str, tally: _Tally) -> ServiceError:
    first = tally.refused[0][1]
    named = "".join(f"\n  - {error}" for _, error in tally.refused[:MOST_NAMED])
    more = f"\n  - … and {len(tally.refused) - MOST_NAMED} more" if len(tally.refused) > MOST_NAMED else ""
    text = f"job {job_id}: {len(tally.refused)} tasks were refused, {tally.accepted} were added{named}{more}"
    return refusal(first.code, text, first.status)
