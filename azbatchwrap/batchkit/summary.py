"""``run_summary.json``: rewritten by rename every 30 s and on change, at a cost that does not grow with every item.

The entries of finished items are encoded once and appended to a file; a summary is its head and a copy, made by the
system, of that file. So a million entries cost no memory and, seldom enough, little time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from .journal import LineFile, RunPaths, to_json

log = logging.getLogger(__name__)

#: Seconds between rewrites while nothing changes, as the public kit promises.
QUIET_INTERVAL = 30.0
#: At most one rewrite per this many seconds while items end.
BUSY_INTERVAL = 1.0
#: Rewriting takes at most this part of the time: at a million entries, it becomes rarer.
TIME_SHARE = 0.05


class Summary:
    """The summary of one batch; ``head`` gives ``overall_summary`` when it is written."""

    def __init__(self, paths: RunPaths, head: Callable[[], dict[str, Any]]) -> None:
        self._paths = paths
        self._head = head
        # What is there is of an earlier process; the results are read again to fill it.
        paths.entries.unlink(missing_ok=True)
        self._entries = LineFile(paths.entries, sync=False)
        self._changed = asyncio.Event()
        self._cost = 0.0

    def add(self, entry: dict[str, Any]) -> None:
        self._entries.append(to_json(entry) + b",")
        self._changed.set()

    async def keep(self) -> None:
        """Rewrite it as long as this runs."""
        while True:
            self._changed.clear()
            await self.write()
            await asyncio.sleep(min(QUIET_INTERVAL, max(BUSY_INTERVAL, self._cost / TIME_SHARE)))
            try:
                await asyncio.wait_for(self._changed.wait(), QUIET_INTERVAL - BUSY_INTERVAL)
            except asyncio.TimeoutError:
                continue

    async def write(self) -> None:
        """Rewrite it now. A full disk leaves the last one in place."""
        self._entries.flush()
        if self._entries.fault is not None:
            return
        head, size = to_json(self._head()), self._entries.size
        began = time.monotonic()
        try:
            await asyncio.to_thread(_write, self._paths, head, size)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._paths.summary, error.strerror)
        self._cost = time.monotonic() - began

    def close(self) -> None:
        self._entries.close()
        self._paths.entries.unlink(missing_ok=True)


def _write(paths: RunPaths, head: bytes, size: int) -> None:
    beside = paths.summary.with_name(f".{paths.summary.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as out:
            out.write(b'{"overall_summary": ' + head + b',\n"processed_files": [\n')
            if size:
                out.flush()
                with paths.entries.open("rb") as entries:
                    _copy(entries, out, size - 2)  # without the last comma and line break
            out.write(b"\n]}\n")
        beside.replace(paths.summary)
    finally:
        beside.unlink(missing_ok=True)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copied by the system where it can, so that other threads run on."""
    offset = 0
    while offset < size:
        try:
            sent = os.sendfile(target.fileno(), source.fileno(), offset, min(size - offset, 1 << 24))
        except OSError:
            sent = 0
        if not sent:
            break
        offset += sent
    source.seek(offset)
    target.seek(0, os.SEEK_END)
    while offset < size:
        chunk = source.read(min(1 << 20, size - offset))
        target.write(chunk)
        offset += len(chunk)


def read_summary(path: Path) -> dict[str, Any]:
    """``overall_summary`` of a summary, without reading its entries. Raises OSError or ValueError."""
    with path.open("rb") as stream:
        line = stream.readline().rstrip()
    found: dict[str, Any] = json.loads(line.removesuffix(b",") + b"}")["overall_summary"]
    return found
