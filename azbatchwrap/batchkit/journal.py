"""What a batch leaves on disk: one line per result in ``results.jsonl``, written so that ``kill -9`` loses no result
that was counted, and read again to go on.

Lines are handed to the system within `FLUSH_INTERVAL`, which a crash of this process survives, and forced to the disk
once per `SYNC_INTERVAL` and at the end: a power failure costs that last second, whose items are then done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from azbatchwrap.errors import ConfigurationError

from .types import ItemRecord, WorkItemResult

log = logging.getLogger(__name__)

FLUSH_INTERVAL = 0.02
SYNC_INTERVAL = 1.0
#: Seconds between attempts to write while the disk is full, and how long the end of a batch waits for room.
FULL_DISK_INTERVAL = 1.0
FULL_DISK_PATIENCE = 30.0


class RunPaths:
    """Every file of a batch, below its output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results.jsonl"
        self.summary = folder / "run_summary.json"
        self.internal = folder / ".batchkit"
        self.state = self.internal / "run.json"
        self.entries = self.internal / "entries.jsonl"
        self.lock = self.internal / "lock"
        self.batches = self.internal / "batches"


def lock_folder(paths: RunPaths) -> IO[str]:
    """Keep other runs out of the folder while the returned file is open.

    Raises ConfigurationError if another run is using it, or if it cannot be written.
    """
    try:
        paths.internal.mkdir(parents=True, exist_ok=True)
        lock = paths.lock.open("a")
    except OSError as error:
        raise ConfigurationError(f"output folder {paths.folder}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if isinstance(error, BlockingIOError):
            raise ConfigurationError(f"output folder {paths.folder}: another run is using it") from error
        log.warning("output folder %s: locks are not supported there; start no second run on it", paths.folder)
        return paths.lock.open("a")
    return lock


def write_beside(path: Path, content: bytes) -> None:
    """Replace ``path`` by rename, so that readers see the old content or the new."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def to_json(value: Any) -> bytes:
    """``value`` as one line of JSON; what JSON cannot hold becomes its repr."""
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # whole numbers beyond 64 bits, broken surrogates
        return json.dumps(value, default=repr).encode()


def record_line(record: ItemRecord) -> bytes:
    result = record.result
    return to_json(
        {
            "id": record.id,
            "fingerprint": record.fingerprint,
            "passed": result.passed,
            "value": result.value,
            "endpoint": record.endpoint,
            "attempts": record.attempts,
            "latency": record.latency,
            "ended": record.ended,
            "cached": result.cached,
            "can_retry": result.can_retry,
            "error_type": result.error_type,
            "failed_reason": result.failed_reason,
            "details": result.details,
        }
    )


def read_record(line: bytes) -> ItemRecord | None:
    """The record of a line; None for a line that is no record (torn by a power failure)."""
    try:
        found = orjson.loads(line)
        result = WorkItemResult(
            passed=found["passed"], value=found["value"], details=found["details"], cached=found["cached"],
            error_type=found["error_type"], failed_reason=found["failed_reason"], can_retry=found["can_retry"],
        )  # fmt: skip
        return ItemRecord(
            found["id"], found["fingerprint"], result, found["endpoint"], found["attempts"], found["latency"],
            found["ended"],
        )  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def read_records(path: Path) -> Iterator[ItemRecord]:
    """All results of a file, in the order they were recorded. A missing file has none."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            record = read_record(line)
            if record is not None:
                yield record


def key_of(identity: str, fingerprint: str) -> int:
    """What a set holds of an item: eight bytes instead of its name. Differs between processes."""
    return hash(f"{identity}\0{fingerprint}")


def load_state(paths: RunPaths) -> dict[str, Any]:
    """What the last run left in ``run.json``: ``state`` running or finished, ``started`` (epoch seconds)."""
    try:
        found = json.loads(paths.state.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save_state(paths: RunPaths, state: str, started: float) -> None:
    write_beside(paths.state, to_json({"state": state, "started": started, "pid": os.getpid(), "at": time.time()}))


def drop_failed(paths: RunPaths) -> None:
    """A new run gives failed items another chance: their old results make room for the new ones."""
    if not any(not record.result.passed for record in read_records(paths.results)):
        return
    beside = paths.results.with_name(f".{paths.results.name}.tmp")
    with beside.open("wb") as stream:
        for record in read_records(paths.results):
            if record.result.passed:
                stream.write(record_line(record) + b"\n")
    beside.replace(paths.results)


class LineFile:
    """Lines appended in batches by a running event loop. `append` is as cheap as adding to a list."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._path = path
        self._sync = sync
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._dirty = False
        self._syncing: asyncio.Task[None] | None = None
        self.size = os.fstat(self._file).st_size
        self.fault: OSError | None = None
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        """A line cut short by a power failure must not swallow the next one."""
        if self.size and os.pread(self._file, 1, self.size - 1) != b"\n":
            os.write(self._file, b"\n")
            self.size += 1

    def append(self, line: bytes) -> None:
        """``line`` without its line break."""
        self._buffer.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not self._buffer:
            return
        data = b"\n".join(self._buffer) + b"\n"
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._complain(error)
            written = 0
        self.size += written
        if written == len(data):
            self._buffer.clear()
            self.fault = None
            self._dirty = True
            if self._sync and self._syncing is None:
                self._syncing = asyncio.create_task(self._sync_soon())
            return
        # The rest keeps its place; a line is whole again when the disk has room.
        self._buffer = [data[written:-1]]
        self._timer = asyncio.get_running_loop().call_later(FULL_DISK_INTERVAL, self._flush)

    def _complain(self, error: OSError) -> None:
        if self.fault is None:
            log.error("%s: cannot be written: %s; trying again", self._path, error.strerror)
        self.fault = error

    async def _sync_soon(self) -> None:
        await asyncio.sleep(SYNC_INTERVAL)
        self._dirty = False
        with contextlib.suppress(OSError):
            await asyncio.to_thread(os.fdatasync, self._file)
        self._syncing = None
        if self._dirty:
            self._syncing = asyncio.create_task(self._sync_soon())

    async def settle(self) -> None:
        """Wait until every line is written and on the disk. Raises OSError if there is no room for too long."""
        limit = time.monotonic() + FULL_DISK_PATIENCE
        while self._buffer:
            self._flush()
            if self.fault is not None and time.monotonic() > limit:
                raise self.fault
            if self._buffer:
                await asyncio.sleep(FULL_DISK_INTERVAL / 4)
        if self._sync:
            await asyncio.to_thread(os.fdatasync, self._file)

    def flush(self) -> None:
        """Hand what is buffered to the system now."""
        self._flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._syncing is not None:
            self._syncing.cancel()
        with contextlib.suppress(OSError):
            if self._buffer:
                os.write(self._file, b"\n".join(self._buffer) + b"\n")
        os.close(self._file)
