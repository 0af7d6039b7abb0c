"""From a task's record to what its future gives: the value, or the exception that the function raised."""

from __future__ import annotations

import builtins
import concurrent.futures
import contextlib
import sys
from concurrent.futures import InvalidStateError
from typing import Any

from azbatchwrap.batch.results import ErrorInfo, TaskResult
from azbatchwrap.errors import AzBatchWrapError, DependencyFailed, TaskFailed

from .future import Future
from .values import unpacked


class RemoteTraceback(Exception):
    """Where an exception came from on its node: the traceback there, and the end of the task's stderr."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def settle(future: Future, result: TaskResult, stderr: str, *, by_pickle: bool) -> None:
    """Give a future what became of its task. ``stderr`` is the end of a failed task's."""
    future.record = result
    if result.succeeded:
        try:
            resolve(future, value_of(result, by_pickle=by_pickle))
        except AzBatchWrapError as error:
            reject(future, error)
        return
    reject(future, exception_of(result, stderr))


def resolve(future: concurrent.futures.Future[Any], value: Any) -> None:
    """Set the value, unless the future has been cancelled."""
    with contextlib.suppress(InvalidStateError):
        if not future.cancelled() and future.set_running_or_notify_cancel():
            future.set_result(value)


def reject(future: concurrent.futures.Future[Any], error: BaseException) -> None:
    """Set the exception, unless the future has been cancelled or has ended."""
    with contextlib.suppress(InvalidStateError):
        if not future.done() and future.set_running_or_notify_cancel():
            future.set_exception(error)


def value_of(result: TaskResult, *, by_pickle: bool) -> Any:
    """What a task returned. Raises AzBatchWrapError for what cannot be had here."""
    if result.is_repr:
        raise TaskFailed(
            f"task {result.task_id} returned what JSON cannot hold: {result.value:.200}. "
            "Return plain values, or open the Session with pickle=True",
            task_id=result.task_id,
            node_id=result.node_id,
        )
    return unpacked(result.value, by_pickle=by_pickle)


def exception_of(result: TaskResult, stderr: str) -> Exception:
    """The exception of a failed task: the one its function raised, where its class is known here, else `TaskFailed`."""
    error = result.error or ErrorInfo("Unknown", "")
    raised = _same_type(error) or _task_failed(result, error, stderr)
    where = f"task {result.task_id} on node {result.node_id or '(none)'}"
    parts = [f"{where}: {error}" if not error.traceback else f"{where}:\n{error.traceback.rstrip()}"]
    if error.type == "ModuleNotFoundError":
        parts.append("Nodes get your own modules by themselves, and packages from a requirements.txt among the inputs.")
    if stderr.strip() and stderr.strip() != error.traceback.strip():
        parts.append(f"--- end of its stderr ---\n{stderr.rstrip()}")
    raised.__cause__ = RemoteTraceback("\n".join(parts))
    return raised


def _task_failed(result: TaskResult, error: ErrorInfo, stderr: str) -> Exception:
    kind = DependencyFailed if error.type == "DependencyFailed" else TaskFailed
    return kind(
        f"task {result.task_id} {result.state}: {error}",
        task_id=result.task_id,
        exit_code=result.exit_code,
        node_id=result.node_id,
        stderr=stderr,
    )


def _same_type(error: ErrorInfo) -> Exception | None:
    """The exception again, from a class that is loaded here already: a record must not choose what is imported."""
    if not error.module and error.type != "TimeoutError":
        return None
    found: Any = sys.modules.get(error.module, builtins)
    for part in error.type.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    try:
        return found(*(error.args if error.args is not None else (error.message,)))
    except Exception:  # noqa: BLE001 (a class may want other arguments than it kept)
        bare: Exception = found.__new__(found)
        bare.args = (error.message,)
        return bare
