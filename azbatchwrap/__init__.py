"""Batch work on Azure from Python in ten lines: on this machine first, then on Azure, unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import AzureBatch, CleanUp, ErrorInfo, Registry, StepResult, TaskResult
    from .batch.sessions import Future, PoolPolicy, Session, SessionExecutor, as_completed
    from .config import Settings, load
    from .errors import (
        AccessDenied,
        AttemptTimeout,
        AzBatchWrapError,
        ConfigurationError,
        Conflict,
        DependencyFailed,
        EndpointDown,
        FailedRecognitionError,
        InvalidAudioFormatError,
        ManifestError,
        NodeUnusable,
        NoEligibleNode,
        NotFound,
        PoolError,
        ResizeFailed,
        RetryableError,
        ServiceError,
        StartTaskFailed,
        TaskFailed,
        Throttled,
        Unreachable,
        WaitTimeout,
        WorkerDied,
        WorkItemError,
    )
    from .storage import AzureBatchStorage, FileReference

__all__ = [  # noqa: RUF022 (grouped by what a reader looks for)
    # what a driver script starts with
    "AzureBatchStorage",
    "AzureBatch",
    # functions as tasks
    "Session",
    "SessionExecutor",
    "Future",
    "PoolPolicy",
    "Registry",
    "as_completed",
    # what it gets back
    "TaskResult",
    "StepResult",
    "ErrorInfo",
    "FileReference",
    "CleanUp",
    # configuration
    "Settings",
    "load",
    # errors
    "AzBatchWrapError",
    "ConfigurationError",
    "ManifestError",
    "ServiceError",
    "NotFound",
    "Conflict",
    "AccessDenied",
    "Throttled",
    "Unreachable",
    "PoolError",
    "StartTaskFailed",
    "NodeUnusable",
    "ResizeFailed",
    "NoEligibleNode",
    "TaskFailed",
    "DependencyFailed",
    "WaitTimeout",
    "WorkItemError",
    "InvalidAudioFormatError",
    "FailedRecognitionError",
    "RetryableError",
    "EndpointDown",
    "AttemptTimeout",
    "WorkerDied",
]

#: Where a name lives. Nothing is imported before it is asked for: `azbatchwrap --help` must not load an SDK.
_HOMES = {
    "AzureBatchStorage": "storage",
    "FileReference": "storage",
    "AzureBatch": "batch",
    "Session": "batch.sessions",
    "PoolPolicy": "batch.sessions",
    "Registry": "batch",
    "SessionExecutor": "batch.sessions",
    "Future": "batch.sessions",
    "as_completed": "batch.sessions",
    "TaskResult": "batch",
    "StepResult": "batch",
    "ErrorInfo": "batch",
    "CleanUp": "batch",
    "Settings": "config",
    "load": "config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
