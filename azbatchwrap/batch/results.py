"""What became of each task: read from what the engine left, or told from what the service knows of those that left nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

from azbatchwrap import names
from azbatchwrap.errors import NotFound, ServiceError
from azbatchwrap.manifest import parse_duration
from azbatchwrap.storage import BlobEntry

from .health import STDERR_END
from .jobs import JobFacts
from .service import Json, Service, at, parse_time, redact
from .tasks import submission_index

_log = logging.getLogger(__name__)

State = Literal["succeeded", "failed", "cancelled", "lost"]

#: Blobs read at once.
READERS = 16
#: The fields of a task that tell its fate.
TASK_FIELDS = ("id", "displayName", "state", "executionInfo", "nodeInfo", "dependsOn", "constraints")


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a task or step failed: the exception's type, its message and, where there is one, the remote traceback.

    ``module`` and ``args`` are the exception's, where a function of a session raised it and JSON holds them.
    """

    type: str
    message: str
    traceback: str = ""
    module: str = ""
    args: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of a task. ``seconds`` is how long it took; ``value`` is its repr where JSON could not hold it."""

    name: str
    state: str
    seconds: float | None
    value: Any = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of one task.

    ``state`` is ``succeeded``, ``failed``, ``cancelled`` (it was ended, or never got to run) or ``lost`` (it ran, and
    what it left cannot be found). ``value`` is the last step's return value, as JSON; ``is_repr`` says that JSON could
    not hold it and ``value`` is its repr. ``outputs`` are names below the task's folder in the output container.
    """

    task_id: str
    state: State
    job_id: str = ""
    index: int | None = None
    exit_code: int | None = None
    value: Any = None
    is_repr: bool = False
    error: ErrorInfo | None = None
    steps: tuple[StepResult, ...] = ()
    node_id: str | None = None
    attempts: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    outputs: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"

    def record(self) -> Json:
        """The result in the form in which tasks leave theirs, for one that left none."""
        error = self.error or ErrorInfo("Unknown", "")
        steps = [asdict(step) for step in self.steps]
        return {
            "version": 1, "job": self.job_id, "task": self.task_id, "node": self.node_id, "state": self.state,
            "attempts": self.attempts, "value": None, "steps": steps, "outputs": [],
            "error": {"type": error.type, "message": error.message, "traceback": error.traceback},
            "told_by_client": True,
        }  # fmt: skip


class Blobs(Protocol):
    """What is needed of the output container."""

    def read_bytes(self, container: str, blob: str) -> bytes: ...
    def list_blobs(self, container: str, prefix: str) -> Iterable[BlobEntry]: ...
    def write_bytes(self, container: str, blob: str, data: bytes) -> None: ...
    def read_end(self, container: str, blob: str, size: int) -> bytes: ...


class Results:
    """The results of one job."""

    def __init__(self, service: Service, blobs: Blobs, job: JobFacts) -> None:
        self._service = service
        self._blobs = blobs
        self._job = job
        self._recorded: frozenset[str] = frozenset()

    def collect(self, *, on_result: Callable[[TaskResult], None] | None = None) -> list[TaskResult]:
        """One result per ended task, in submission order. Tasks of a job that is still at work are left out."""
        tasks = [task for task in self._tasks() if self._over(task)]
        if not all(map(_ran, tasks)):
            self._recorded = self._list_records()
        found: list[tuple[TaskResult, bool]] = []
        with ThreadPoolExecutor(READERS, thread_name_prefix="azbatchwrap-results") as workers:
            for result, recorded in workers.map(self._result, tasks):
                if on_result is not None:
                    on_result(result)
                found.append((result, recorded))
            results = explain_dependents(
                [result for result, _ in found], {task["id"]: _parents(task) for task in tasks}
            )
            # Every task gets the record that it could not leave itself, for whoever looks into the container.
            list(
                workers.map(
                    self._write, [new for new, (_, recorded) in zip(results, found, strict=True) if not recorded]
                )
            )
        return results

    def read(self, task: Json) -> TaskResult:
        """The result of one ended task, given with its `TASK_FIELDS`."""
        return self._result(task)[0]

    def _tasks(self) -> list[Json]:
        tasks = list(self._service.list(at("jobs", self._job.job_id, "tasks"), select=TASK_FIELDS))
        order = {task["id"]: submission_index(task["id"], task.get("displayName")) for task in tasks}
        return sorted(tasks, key=lambda task: (order[task["id"]] is None, order[task["id"]] or 0))

    def _over(self, task: Json) -> bool:
        return task["state"] == "completed" or self._job.state == "completed"

    def _result(self, task: Json) -> tuple[TaskResult, bool]:
        """The task's result, and whether there is a record of it: its own, or ours from an earlier look."""
        if not _ran(task):
            return from_service(task, self._job), self._blob(task["id"]) in self._recorded
        record = self._read(self._blob(task["id"]))
        if record is None or record.get("task") != task["id"]:
            return self._without_record(task), False
        if record.get("state") in {"succeeded", "failed"} and not record.get("told_by_client"):
            return from_record(task, record, self._job.job_id), True
        # The engine was taken down in the middle: the service knows why, the record how far it came.
        return replace(self._without_record(task), steps=_steps(record)), bool(record.get("told_by_client"))

    def _list_records(self) -> frozenset[str]:
        """Which tasks have a record, in one listing: asking for each of those that never ran would cost a request."""
        prefix = names.task_output_prefix(self._job.job_id, "")
        with contextlib.suppress(NotFound):
            blobs = self._blobs.list_blobs(self._job.output_container, prefix)
            return frozenset(entry.name for entry in blobs if entry.name.endswith(f"/{names.RESULT_FILE}"))
        return frozenset()

    def _blob(self, task_id: str) -> str:
        return f"{names.task_output_prefix(self._job.job_id, task_id)}/{names.RESULT_FILE}"

    def _write(self, result: TaskResult) -> None:
        self._blobs.write_bytes(self._job.output_container, self._blob(result.task_id), orjson.dumps(result.record()))

    def _read(self, blob: str) -> Json | None:
        try:
            record = orjson.loads(self._blobs.read_bytes(self._job.output_container, blob))
        except NotFound:
            return None
        except orjson.JSONDecodeError:
            _log.warning("%s is not JSON; the task is judged by what the service says", blob)
            return None
        return record if isinstance(record, dict) else None

    def _without_record(self, task: Json) -> TaskResult:
        result = from_service(task, self._job)
        if result.state == "failed" and result.started is not None and result.error is not None:
            end = self.stderr_end(task["id"])
            if end:
                error = ErrorInfo(result.error.type, f"{result.error.message}; its last words: {_last_line(end)}", end)
                return replace(result, error=error)
        return result

    def stderr_end(self, task_id: str) -> str:
        """The end of a task's stderr, from where it was uploaded or else from its node; empty when neither has it."""
        blob = f"{names.task_output_prefix(self._job.job_id, task_id)}/{names.STDERR_FILE}"
        path = at("jobs", self._job.job_id, "tasks", task_id, "files", names.STDERR_FILE)
        with contextlib.suppress(NotFound):
            return self._blobs.read_end(self._job.output_container, blob, STDERR_END).decode(errors="replace")
        try:
            return self._service.download_end(path, STDERR_END).decode(errors="replace")
        except ServiceError as error:
            _log.info("task %s: its stderr cannot be read: %s", task_id, error)
            return ""


def from_record(task: Json, record: Mapping[str, Any], job_id: str) -> TaskResult:
    """The result that the engine left, unless the service knows better: an exit code or a failed upload."""
    execution: Json = task.get("executionInfo") or {}
    failure = execution.get("failureInfo") or {}
    steps = _steps(record)
    error = _error(record.get("error")) or next((step.error for step in steps if step.error is not None), None)
    state: State = "succeeded" if record.get("state") == "succeeded" else "failed"
    if state == "succeeded" and (execution.get("exitCode") not in (0, None) or failure):
        state = "failed"
        error = _failure(failure) or ErrorInfo("ExitCode", f"exit code {execution.get('exitCode')} after the last step")
    value, is_repr = _value(record)
    return TaskResult(
        **_facts(task, job_id),
        state=state,
        value=value if state == "succeeded" else None,
        is_repr=is_repr and state == "succeeded",
        error=error,
        steps=steps,
        attempts=int(record.get("attempts") or 0),
        outputs=tuple(_output_name(item) for item in record.get("outputs") or ()),
    )


def from_service(task: Json, job: JobFacts) -> TaskResult:
    """The result of a task that left none, told from the service's own account of it."""
    execution: Json = task.get("executionInfo") or {}
    code = execution.get("exitCode")
    state: State
    if task["state"] != "completed":
        reason = job.terminate_reason or "it was terminated"
        state, error = (
            "cancelled",
            ErrorInfo("JobEnded", f"job {job.job_id} ended ({reason}) before the task could run"),
        )
    elif (execution.get("failureInfo") or {}).get("code") == "TaskEnded":
        state, error = _ended(task, job)
    elif code not in (0, None) or execution.get("failureInfo"):
        failure = _failure(execution.get("failureInfo") or {})
        exited = code not in (0, None)
        state, error = "failed", (ErrorInfo("ExitCode", f"exit code {code}") if exited or failure is None else failure)
    else:
        state, error = "lost", ErrorInfo("ResultLost", "the task ended well, but its result.json cannot be found")
    return TaskResult(**_facts(task, job.job_id), state=state, error=error)


def explain_dependents(results: list[TaskResult], parents: Mapping[str, tuple[str, ...]]) -> list[TaskResult]:
    """``results`` in which a task that never ran because of a task before it says so."""
    by_id = {result.task_id: result for result in results}

    def explained(result: TaskResult) -> TaskResult:
        if result.state != "cancelled" or result.started is not None:
            return result
        for parent in parents.get(result.task_id, ()):
            blocker = by_id.get(parent)
            if blocker is not None and blocker.state != "succeeded":
                text = f"task {parent}, which it depends on, {_FATES[blocker.state]}"
                return replace(result, error=ErrorInfo("DependencyFailed", text))
        return result

    return [explained(result) for result in results]


_FATES = {"failed": "failed", "cancelled": "never ran or was ended", "lost": "left no result"}


def _ended(task: Json, job: JobFacts) -> tuple[State, ErrorInfo]:
    """A task that somebody ended: its own limit (a failure), a user, or the end of its job."""
    execution = task["executionInfo"]
    limit = _limit(task)
    if limit is not None and "startTime" in execution:
        ran = (parse_time(execution["endTime"]) - parse_time(execution["startTime"])).total_seconds()
        if ran >= limit:
            return "failed", ErrorInfo("TimeoutError", f"ended after {ran:.0f} s, its limit was {limit:.0f} s")
    message = (execution.get("failureInfo") or {}).get("message", "")
    if job.terminate_reason and job.ended and job.terminate_reason != "AllTasksComplete":
        return "cancelled", ErrorInfo("JobEnded", f"job {job.job_id} ended: {job.terminate_reason}")
    return "cancelled", ErrorInfo("TaskEnded", message)


def _limit(task: Json) -> float | None:
    text = (task.get("constraints") or {}).get("maxWallClockTime", "")
    # What stands for "no limit" is ten million days.
    return None if not text or text.startswith("P10675199D") else parse_duration(text)


def _ran(task: Json) -> bool:
    return bool((task.get("executionInfo") or {}).get("startTime"))


def _facts(task: Json, job_id: str) -> dict[str, Any]:
    execution: Json = task.get("executionInfo") or {}
    return {
        "task_id": task["id"],
        "job_id": job_id,
        "index": submission_index(task["id"], task.get("displayName")),
        "exit_code": execution.get("exitCode"),
        "node_id": (task.get("nodeInfo") or {}).get("nodeId"),
        "started": parse_time(execution["startTime"]) if execution.get("startTime") else None,
        "ended": parse_time(execution["endTime"]) if execution.get("endTime") else None,
    }


def _steps(record: Mapping[str, Any]) -> tuple[StepResult, ...]:
    return tuple(_step(step) for step in record.get("steps") or ())


def _step(step: Mapping[str, Any]) -> StepResult:
    value, _ = _value(step)
    return StepResult(
        str(step.get("name", "")), str(step.get("state", "")), step.get("seconds"), value, _error(step.get("error"))
    )


def _value(record: Mapping[str, Any]) -> tuple[Any, bool]:
    return (record["repr"], True) if "value" not in record and "repr" in record else (record.get("value"), False)


def _error(error: Mapping[str, Any] | None) -> ErrorInfo | None:
    if not error:
        return None
    args = error.get("args")
    return ErrorInfo(
        str(error.get("type", "")),
        str(error.get("message", "")),
        str(error.get("traceback") or ""),
        str(error.get("module") or ""),
        tuple(args) if isinstance(args, list) else None,
    )


def _failure(failure: Mapping[str, Any]) -> ErrorInfo | None:
    if not failure:
        return None
    details = "; ".join(f"{item.get('name')}: {item.get('value')}" for item in failure.get("details") or ())
    message = str(failure.get("message", ""))
    return ErrorInfo(str(failure.get("code", "Failure")), redact(f"{message} ({details})" if details else message))


def _output_name(item: Any) -> str:
    return str(item.get("name", "")) if isinstance(item, Mapping) else str(item)


def _parents(task: Json) -> tuple[str, ...]:
    return tuple((task.get("dependsOn") or {}).get("taskIds") or ())


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2][-300:]
