"""What the service asks a node to run, and what the node answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

USER_ERROR = "UserError"
SERVER_ERROR = "ServerError"


class Stage(Enum):
    """Where a task was when it failed. Only a failed command counts against ``maxTaskRetryCount``."""

    PREPARATION = "preparation"  # resource files, folders: the command never ran
    COMMAND = "command"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Failure:
    """A task's ``failureInfo``. ``details`` are name and value pairs."""

    category: str
    code: str
    message: str
    details: tuple[tuple[str, str], ...] = ()

    def wire(self) -> dict[str, Any]:
        """The JSON object of the service."""
        body: dict[str, Any] = {"category": self.category, "code": self.code, "message": self.message}
        if self.details:
            body["details"] = [{"name": name, "value": value} for name, value in self.details]
        return body


class TaskFailure(Exception):
    """Raised inside the node where a task cannot go on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt of a task: everything a node needs to run it."""

    command_line: str
    #: Task folder; ``wd``, ``stdout.txt`` and ``stderr.txt`` come below it.
    folder: Path
    #: The whole environment of the process, as :func:`~.environment.task_environment` makes it.
    environment: Mapping[str, str]
    #: ``resourceFiles`` and ``outputFiles`` as on the wire.
    resource_files: Sequence[Mapping[str, Any]] = ()
    output_files: Sequence[Mapping[str, Any]] = ()
    #: Resource ids of the node's managed identities, in lower case: what ``identityReference`` may name.
    identities: frozenset[str] = frozenset()
    #: Seconds that downloads and command may take together; None for no limit.
    wall_clock: float | None = None
    #: ``containerSettings`` as on the wire.
    container: Mapping[str, Any] | None = None
    #: Whether the process counts against the host's limit and waits for its turn.
    is_queued: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process took, with the children it waited for. Times in microseconds, sizes in bytes."""

    wall: int
    user: int
    kernel: int
    #: From and to disk.
    read: int
    written: int
    #: The largest resident size of one process.
    memory: int

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.wall + other.wall,
            self.user + other.user,
            self.kernel + other.kernel,
            self.read + other.read,
            self.written + other.written,
            max(self.memory, other.memory),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. All times are UTC.

    ``failure`` is what the task reports. When the command failed and the upload failed too, it is the
    command's, and ``upload_failure`` tells of the upload (``exitConditions.fileUploadError`` needs both).
    """

    started: datetime
    ended: datetime
    #: 128 + n when signal n ended the process, as a shell reports it; None when it never ran.
    exit_code: int | None = None
    failure: Failure | None = None
    stage: Stage | None = None
    upload_failure: Failure | None = field(default=None)
    #: None when it never ran.
    usage: Usage | None = None

    @property
    def succeeded(self) -> bool:
        return self.failure is None
