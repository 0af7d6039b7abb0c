"""The input folder: what is in it, and, for DAEMON, what arrives: each file as soon as its writer has closed it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.endpoints.source import folder_changes

from .types import file_fingerprint

#: Seconds between looks at files that are being written.
WRITER_INTERVAL = 0.1
#: Where the system does not tell whether a file is open for writing (network folders, other people's files), it counts
#: as whole when it has not changed for this many seconds.
STILL = 1.0


def list_folder(folder: Path, is_valid: Callable[[Path], bool], *, recursive: bool = True) -> list[Path]:
    """The valid files below ``folder``, sorted. Hidden folders are left alone. Raises OSError for ``folder`` itself."""
    found: list[str] = []
    pending = [os.fspath(folder)]
    while pending:
        place = pending.pop()
        try:
            entries = list(os.scandir(place))
        except OSError:
            if place == os.fspath(folder):
                raise
            continue  # it went away, or is not for us
        for entry in entries:
            if entry.is_dir():
                if recursive and not entry.name.startswith("."):
                    pending.append(entry.path)
            else:
                found.append(entry.path)
    # Sorted as text: comparing paths would take longer than all the rest.
    return [path for path in map(Path, sorted(found)) if is_valid(path)]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Files that have come to rest. ``again``: not those of the first look, so a known name has new content."""

    files: list[Path]
    again: bool


class Inbox:
    """Follows a folder. `arrivals` yields files once per content; `scan_soon` makes it look at everything now."""

    def __init__(
        self, folder: Path, is_valid: Callable[[Path], bool], *, recursive: bool, poll: float, notified: bool
    ) -> None:
        self._folder = folder
        self._is_valid = is_valid
        self._recursive = recursive
        self._poll = poll
        self._notified = notified
        self._given: dict[Path, str] = {}
        self._waiting: dict[Path, tuple[str, float]] = {}
        self._events: asyncio.Queue[set[Path] | None] = asyncio.Queue()
        # A lease that a writer breaks sends this signal, and by default it would end the process.
        with contextlib.suppress(ValueError, AttributeError):
            signal.signal(signal.SIGIO, signal.SIG_IGN)

    def scan_soon(self) -> None:
        self._events.put_nowait(None)

    async def arrivals(self) -> AsyncIterator[Arrival]:
        watching = asyncio.create_task(self._watch())
        self.scan_soon()
        again = False
        try:
            while True:
                files = await self._look(await self._next_paths())
                if files:
                    yield Arrival(files, again)
                again = True
        finally:
            await end_tasks([watching])

    async def _watch(self) -> None:
        every = max(1, int(self._poll * 1000))
        changes = folder_changes(self._folder, recursive=self._recursive, every=every, notified=self._notified)
        async for paths in changes:
            self._events.put_nowait(paths or None)

    async def _next_paths(self) -> set[Path] | None:
        """What to look at: changed paths, or None for everything."""
        timeout = WRITER_INTERVAL if self._waiting else None
        try:
            return await asyncio.wait_for(self._events.get(), timeout)
        except asyncio.TimeoutError:
            return set()

    async def _look(self, paths: set[Path] | None) -> list[Path]:
        settled = await asyncio.to_thread(self._settled, paths)
        self._given |= settled
        return list(settled)

    def _settled(self, paths: set[Path] | None) -> dict[Path, str]:
        """The files to give out now, with their fingerprints. Runs in a thread."""
        found = {}
        for path in self._candidates(paths):
            fingerprint = file_fingerprint(path)
            if not fingerprint:
                self._waiting.pop(path, None)
                self._given.pop(path, None)
            elif self._given.get(path) == fingerprint:
                self._waiting.pop(path, None)
            elif self._is_whole(path, fingerprint):
                self._waiting.pop(path, None)
                found[path] = fingerprint
        return found

    def _candidates(self, paths: set[Path] | None) -> Iterable[Path]:
        if paths is not None and not any(path.is_dir() for path in paths):
            mine = [path for path in paths if self._is_valid(path) and not self._is_hidden(path)]
            return sorted({*mine, *self._waiting})
        with contextlib.suppress(OSError):
            there = list_folder(self._folder, self._is_valid, recursive=self._recursive)
            self._forget_others(set(there))
            return there
        return list(self._waiting)

    def _is_hidden(self, path: Path) -> bool:
        try:
            parents = path.relative_to(self._folder).parts[:-1]
        except ValueError:
            return False
        return any(part.startswith(".") for part in parents)

    def _forget_others(self, there: set[Path]) -> None:
        """Files that were taken away need no memory, and are new when they come back."""
        for known in (self._given, self._waiting):
            for path in [path for path in known if path not in there]:
                del known[path]

    def _is_whole(self, path: Path, fingerprint: str) -> bool:
        open_for_writing = has_writer(path)
        if open_for_writing is False:
            return True
        now = time.monotonic()
        before, since = self._waiting.get(path, ("", now))
        if before != fingerprint:
            since = now
        self._waiting[path] = (fingerprint, since)
        return open_for_writing is None and now - since >= STILL


def has_writer(path: Path) -> bool | None:
    """Whether somebody has the file open for writing; None where the system does not tell.

    Linux refuses a read lease on a file that is open for writing (fcntl(2), F_SETLEASE).
    """
    set_lease = getattr(fcntl, "F_SETLEASE", None)
    if set_lease is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(descriptor, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)
