"""The types that a consumer of the framework implements, under the names of its first days.

A complete consumer::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Text(WorkItemRequest):
        words: str

    class Score(WorkItemProcessor[Text]):
        async def process(self, item: Text, endpoint: Endpoint) -> WorkItemResult:
            answer = await endpoint.request(item.words.encode(), path="/score")
            return WorkItemResult(value=answer.json())

    class Texts(BatchRequest):
        def make_work_items(self) -> Iterator[Text]:
            for path in self.files:
                yield Text(id=str(path), words=path.read_text())

        def get_work_item_processor(self) -> Score:
            return Score()
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from azbatchwrap.backoff import Backoff
from azbatchwrap.endpoints import Endpoint, EndpointStatusChecker
from azbatchwrap.endpoints.extensible import Extensible
from azbatchwrap.errors import (
    AttemptTimeout,
    ConfigurationError,
    RetryableError,
    ServiceError,
    Throttled,
    Unreachable,
    WorkItemError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

#: Ten attempts, as the public kit, but with patience between them.
DEFAULT_BACKOFF = Backoff(attempts=10, base=0.2, cap=20.0)
#: Seconds that one attempt may take where a processor does not say otherwise.
DEFAULT_TIME_LIMIT = 600.0
#: The priority of items whose size is not known: after all others.
UNKNOWN_PRIORITY = -1.0


class Isolation(Enum):
    """Where ``process`` runs."""

    LOOP = "loop"  # a coroutine function, on the event loop
    THREAD = "thread"  # a plain function, in a thread per slot
    PROCESS = "process"  # a plain function, in a worker process per slot, which may crash or be killed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemRequest(Extensible):
    """One work item. Subclass it (frozen dataclass with slots) and add what the processor needs.

    ``id`` names the item in results and summaries, usually a path. ``fingerprint`` tells contents apart: the same id
    with another fingerprint is new work. ``priority``: higher first, for example the expected seconds of work.
    """

    id: str
    fingerprint: str = ""
    priority: float = UNKNOWN_PRIORITY


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemResult:
    """The outcome of an attempt, as ``process`` returns it. An exception is an outcome too, so most need only ``value``.

    ``value``: any JSON, kept in the results. ``details``: further fields for the item's entry in the run summary.
    ``cached``: nothing had to be done. Not ``passed``: ``error_type`` and ``failed_reason`` tell why, and
    ``can_retry`` whether another attempt makes sense.
    """

    passed: bool = True
    value: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = False
    error_type: str | None = None
    failed_reason: str | None = None
    can_retry: bool = False


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """The one recorded result of an item.

    ``endpoint``: the name of the last one (None: none was asked). ``attempts``: all that counted, ``latency``: seconds
    of the last one. ``ended``: seconds since the epoch.
    """

    id: str
    fingerprint: str
    result: WorkItemResult
    endpoint: str | None
    attempts: int
    latency: float
    ended: float


ItemT = TypeVar("ItemT", bound=WorkItemRequest)


class WorkItemProcessor(Extensible, ABC, Generic[ItemT]):
    """How a work item is done with an endpoint.

    ``process`` may be ``async def`` (on the event loop), a plain function (in threads) or, with
    ``isolation = Isolation.PROCESS``, a plain function in worker processes (the processor and its items are pickled).
    """

    isolation: ClassVar[Isolation | None] = None  #: None: LOOP for a coroutine function, else THREAD
    backoff: Backoff = DEFAULT_BACKOFF

    @abstractmethod
    def process(self, item: ItemT, endpoint: Endpoint) -> Any:
        """Do ``item`` with ``endpoint``; return a `WorkItemResult` (or an awaitable of one), or raise."""

    def time_limit(self, item: ItemT, endpoint: Endpoint) -> float:
        """Seconds that this attempt may take. A worker process that needs longer is killed."""
        return DEFAULT_TIME_LIMIT

    def accepts(self, item: ItemT, endpoint: Endpoint) -> bool:
        """Whether ``endpoint`` can do ``item`` at all, for example by its language."""
        return True

    def is_retryable(self, error: BaseException) -> bool:
        """Whether another attempt may succeed after ``error``."""
        return is_retryable(error)


def is_retryable(error: BaseException) -> bool:
    """Network and operating-system errors, time-outs, 5xx, 408 and 429, and what says so itself; nothing else."""
    if isinstance(error, WorkItemError):
        return isinstance(error, RetryableError)
    if isinstance(error, ServiceError):
        busy = error.status is not None and (error.status >= 500 or error.status in {408, 425, 429})
        return busy or isinstance(error, Throttled | Unreachable)
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return False  # the item's own file: it will not come back by itself
    return isinstance(error, OSError | asyncio.TimeoutError | TimeoutError | EOFError | AttemptTimeout)


@dataclass(frozen=True, kw_only=True)
class BatchConfig(Extensible):
    """Details needed to produce the work items of a batch. Subclass it and add your own.

    ``input_folder`` is where ONESHOT looks and DAEMON watches; ``output_folder`` takes results and the run summary.
    """

    output_folder: Path
    input_folder: Path | None = None
    log_folder: Path | None = None

    @classmethod
    def from_args(cls, arguments: Mapping[str, Any]) -> Self:
        """From command-line values by field name; values without a field are for others. Raises ConfigurationError."""
        known = {name: value for name, value in arguments.items() if name in cls.__dataclass_fields__}
        try:
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{cls.__name__}: {error}") from error


#: JSON schema of the ``files`` of a submitted document.
FILES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "pattern": r"^[^\u0000]*$"},
    "description": "paths on the server",
}


class BatchRequest(Extensible, ABC):
    """A batch: some files (or whatever ``from_json`` makes of a submitted document) and how they become work items.

    ``config_type`` is what the command line fills. ``type_names``: what a submitted document may call this type in its
    field ``type``, besides the name of the class. ``json_schema`` of such a document is shown on the server's page.
    """

    config_type: ClassVar[type[BatchConfig]] = BatchConfig
    type_names: ClassVar[tuple[str, ...]] = ()
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["files"],
        "properties": {"files": FILES_SCHEMA},
    }

    def __init__(self, files: Sequence[Path], config: BatchConfig) -> None:
        self.files = files
        self.config = config

    @classmethod
    def from_config(cls, files: Sequence[Path], config: BatchConfig) -> Self:
        """The batch of these files, for ONESHOT and DAEMON."""
        return cls(files, config)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], config: BatchConfig) -> Self:
        """The batch that was submitted to the server: by default its ``files``, a list of paths on the server (relative
        ones: in the input folder, or else where the server runs).

        Raises ConfigurationError for a document that is wrong; the server answers 400 with its message.
        ``config.output_folder`` is the batch's own folder. Called again with the same document after a restart.
        """
        return cls(listed_files(document, config.input_folder), config)

    @abstractmethod
    def make_work_items(self) -> Iterable[WorkItemRequest]:
        """The items, lazily: called in a thread, read on while earlier items are being done.

        Raising for one item is wrong: yield it all the same, and let ``process`` raise, so that it gets a result.
        """

    @abstractmethod
    def get_work_item_processor(self) -> WorkItemProcessor[Any]: ...

    @classmethod
    def get_endpoint_status_checker(cls, config: BatchConfig) -> EndpointStatusChecker:  # noqa: ARG003 - for subclasses
        """One checker serves all batches of a process."""
        return EndpointStatusChecker()

    def get_batch_run_summarizer(self) -> BatchRunSummarizer:
        return BatchRunSummarizer()

    @classmethod
    def is_valid_input_file(cls, path: Path) -> bool:
        """Whether a file of the input folder is work. Hidden ones, which half-written files often are, are not."""
        return not path.name.startswith(".")

    def finish(self, *, complete: bool) -> None:
        """Called in a thread after the batch's last result was recorded (``complete``), or when the run was ended."""


def listed_files(document: Mapping[str, Any], folder: Path | None) -> list[Path]:
    """The ``files`` of a submitted document; relative ones may be below ``folder``. Raises ConfigurationError."""
    files = document.get("files")
    if not isinstance(files, list) or not all(isinstance(name, str) and name for name in files):
        raise ConfigurationError("files: expected a list of paths on the server")
    if any("\0" in name for name in files):
        raise ConfigurationError("files: no path has a NUL in it")
    return [_found(Path(name), folder) for name in files]


def _found(path: Path, folder: Path | None) -> Path:
    if folder is None or path.is_absolute():
        return path
    below = folder / path
    return below if os.path.exists(below) else path  # noqa: PTH110 - Path.exists raises for names that are too long


@dataclass(slots=True)
class Counts:
    """How many items of a batch are where. ``total`` grows while they are being listed; cached ones are passed, too."""

    total: int = 0
    queued: int = 0
    running: int = 0
    in_retry: int = 0
    passed: int = 0
    failed: int = 0
    cached: int = 0

    @property
    def done(self) -> int:
        return self.passed + self.failed


class BatchRunSummarizer(Extensible):
    """Builds ``run_summary.json`` of one batch. Holds sums only: a million items must not weigh anything here."""

    def add(self, record: ItemRecord) -> None:
        """Called once per recorded result, also for those of before a restart."""

    def entry(self, record: ItemRecord) -> dict[str, Any]:
        """The item's entry in ``processed_files``."""
        result = record.result
        return {
            "filepath": record.id,
            "passed": result.passed,
            "endpoint": record.endpoint,
            "latency": round(record.latency, 6),
            "retries": max(0, record.attempts - 1),
            "can_retry": result.can_retry,
            "thread": None,
            "cached": result.cached,
            "error_type": result.error_type,
            "failed_reason": result.failed_reason,
            **result.details,
        }

    def overall(self, counts: Counts, *, elapsed: float, endpoints: int) -> dict[str, Any]:
        """``overall_summary``. ``elapsed``: seconds since the batch started; ``endpoints``: how many are in use."""
        done = counts.passed + counts.failed
        return {
            "run_stats": {
                "time_elapsed_seconds": round(elapsed, 3),
                "num_endpoints": endpoints,
                "items_per_second": round(done / elapsed, 3) if elapsed > 0 else 0.0,
            },
            "file_stats": file_stats(counts),
        }


def file_stats(counts: Counts) -> dict[str, int]:
    """The counts under the names of the public schema."""
    return {
        "passed": counts.passed,
        "failed": counts.failed,
        "in_retry": counts.in_retry,
        "queued": counts.queued,
        "running": counts.running,
        "cached": counts.cached,
        "total": counts.total,
    }


def file_fingerprint(path: Path) -> str:
    """Tells a file's contents apart without reading them: size and time of the last change. Empty: it is not there."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - called for a million files: Path.stat is slower
    except OSError:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}"
