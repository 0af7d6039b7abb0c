"""Every exception of the package. Catch the branch that matches the decision you have to take.

AzBatchWrapError
├── ConfigurationError        settings are missing, unreadable or contradict each other
├── ManifestError             the work description is wrong; lists every fault
├── ServiceError              a service refused (carries ``code`` and ``status``)
│   ├── NotFound
│   ├── Conflict
│   ├── AccessDenied
│   ├── Throttled             carries ``retry_after`` in seconds when the service gave one
│   └── Unreachable           no answer at all
├── PoolError                 the pool cannot run the work
│   ├── StartTaskFailed
│   ├── NodeUnusable
│   ├── ResizeFailed
│   └── NoEligibleNode
├── TaskFailed                a task ran and failed, or could not start
│   └── DependencyFailed      it never ran: a task it depends on failed
├── WorkItemError             an attempt at a work item failed, and another one would too
│   ├── InvalidAudioFormatError  the file is no sound that can be transcribed
│   └── RetryableError        another attempt may succeed (``retry_after`` in seconds, when known)
│       ├── EndpointDown      the endpoint is to blame: no connection, or it broke off
│       ├── AttemptTimeout    the attempt took longer than it may
│       ├── FailedRecognitionError  the speech service or its SDK gave up in the middle of a file
│       └── WorkerDied        the worker process ended in the middle of the item
└── WaitTimeout               the time given to a wait is over; the work goes on
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AccessDenied",
    "AttemptTimeout",
    "AzBatchWrapError",
    "ConfigurationError",
    "Conflict",
    "DependencyFailed",
    "EndpointDown",
    "FailedRecognitionError",
    "InvalidAudioFormatError",
    "ManifestError",
    "NoEligibleNode",
    "NodeUnusable",
    "NotFound",
    "PoolError",
    "ResizeFailed",
    "RetryableError",
    "ServiceError",
    "StartTaskFailed",
    "TaskFailed",
    "Throttled",
    "Unreachable",
    "WaitTimeout",
    "WorkItemError",
    "WorkerDied",
]


class AzBatchWrapError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(AzBatchWrapError):
    """Settings are missing, unreadable or contradict each other."""


class ManifestError(AzBatchWrapError):
    """The description of the work is wrong. ``faults`` lists every fault found, in file order."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        listed = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(message + listed)


class ServiceError(AzBatchWrapError):
    """A service refused a request. ``code`` is the service's own word, ``status`` the HTTP status."""

    def __init__(self, message: str, *, code: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class NotFound(ServiceError):
    """The named thing does not exist (HTTP 404)."""


class Conflict(ServiceError):
    """The thing exists already, or its state does not allow the call (HTTP 409 or 412)."""


class AccessDenied(ServiceError):
    """The key, token or SAS was refused (HTTP 401 or 403)."""


class Throttled(ServiceError):
    """The service asked for patience (HTTP 429 or 503) longer than the retries lasted."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.retry_after = retry_after


class Unreachable(ServiceError):
    """No answer came: name not resolved, connection refused, or time-out."""


class PoolError(AzBatchWrapError):
    """The pool cannot run the work. ``pool_id`` names it; ``node_id`` the node, where one is to blame."""

    def __init__(
        self,
        message: str,
        *,
        pool_id: str = "",
        node_id: str | None = None,
        exit_code: int | None = None,
        stderr: str = "",
    ) -> None:
        tail = f"\n--- end of its stderr ---\n{stderr.rstrip()}" if stderr.strip() else ""
        super().__init__(message + tail)
        self.pool_id = pool_id
        self.node_id = node_id
        self.exit_code = exit_code
        self.stderr = stderr


class StartTaskFailed(PoolError):
    """A node's start task failed, so the node takes no tasks."""


class NodeUnusable(PoolError):
    """A node went into the state unusable, unknown or offline."""


class ResizeFailed(PoolError):
    """The pool could not get the nodes asked for. ``codes`` holds the service's resize error codes."""

    def __init__(self, message: str, *, pool_id: str = "", codes: Sequence[str] = ()) -> None:
        super().__init__(message, pool_id=pool_id)
        self.codes = tuple(codes)


class NoEligibleNode(PoolError):
    """Every node of the pool is barred from the job, as after a failed job preparation task."""


class TaskFailed(AzBatchWrapError):
    """A task failed. ``task_id``, ``exit_code``, ``node_id`` and the end of its ``stderr`` tell where."""

    def __init__(
        self,
        message: str,
        *,
        task_id: str = "",
        exit_code: int | None = None,
        node_id: str | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.exit_code = exit_code
        self.node_id = node_id
        self.stderr = stderr


class DependencyFailed(TaskFailed):
    """The task never ran, because a task it depends on did not succeed."""


class WorkItemError(AzBatchWrapError):
    """An attempt at a work item failed, and another one would fail too."""


class InvalidAudioFormatError(WorkItemError):
    """The file is no sound that can be transcribed: empty, broken, or in a format that nothing here reads."""


class RetryableError(WorkItemError):
    """An attempt at a work item failed; another one may succeed, ``retry_after`` seconds later if that is known."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EndpointDown(RetryableError):
    """An endpoint cannot be reached, or broke off. ``sent``: the request had reached it, so the attempt counts."""

    def __init__(self, message: str, *, sent: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.sent = sent


class AttemptTimeout(RetryableError):
    """An attempt at a work item took longer than it may."""


class FailedRecognitionError(RetryableError):
    """The speech service, or the Speech SDK, gave up in the middle of a file."""


class WorkerDied(RetryableError):
    """The worker process ended in the middle of a work item: a crash, or the system was out of memory."""


class WaitTimeout(AzBatchWrapError):
    """The time given to a wait is over. The work goes on; wait again or terminate it."""
