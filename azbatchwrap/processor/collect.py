"""Results from a queue to a file, each once, in the order they were stored; goes on where it was interrupted."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from azbatchwrap.errors import ConfigurationError, WaitTimeout
from azbatchwrap.processor.message import result_line
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.queues import Code, Queue, Result

#: Results read in one call.
PAGE = 500
#: Between looks at a queue that has nothing new (seconds).
LOOK_INTERVAL = 0.25
_RESULTS = "results"


@dataclass(slots=True)
class Collected:
    """``new``: lines appended now, counted by code; ``known``: results that the file had already; ``open``: messages
    without a result yet.
    """

    new: Counter[Code] = field(default_factory=Counter)
    known: int = 0
    open: int = 0

    @property
    def failed(self) -> int:
        return sum(number for code, number in self.new.items() if code is not Code.OK)


async def collect(
    queue: Queue, out: Path, *, wait: bool = False, timeout: float | None = None, progress: Progress | None = None
) -> Collected:
    """Append what is not in ``out`` yet. With ``wait``, go on until every message of the queue has its result.

    What expired while no worker ran is ended here too. Raises WaitTimeout after ``timeout`` seconds (what was
    collected stays), ConfigurationError when ``out`` is no file of results or another process writes to it.
    """
    report, progress = Collected(), progress or NullProgress()
    progress.start(_RESULTS, "collecting", None, "results")
    with _opened(out) as file:
        seen = _ids(file, out)
        report.known = len(seen)
        async for page in _pages(queue, report, wait=wait, timeout=timeout):
            new = [one for one in page if one.id not in seen]
            seen.update(one.id for one in new)
            file.writelines(result_line(one) for one in new)
            file.flush()
            report.new.update(one.code for one in new)
            progress.update(_RESULTS, len(seen), len(seen) + report.open)
        os.fsync(file.fileno())
    progress.finish(_RESULTS)
    return report


async def _pages(
    queue: Queue,
    report: Collected,
    *,
    wait: bool,
    timeout: float | None,
) -> AsyncIterator[tuple[Result, ...]]:
    until = None if timeout is None else time.monotonic() + timeout
    cursor = ""
    while True:
        await clear_up(queue)
        # Counted before reading: whatever was finished then is in what is read now.
        report.open = (await queue.stats()).open
        while (page := await queue.results(cursor, PAGE)).results:
            cursor = page.cursor
            yield page.results
        yield ()  # nothing new, but perhaps something less to wait for
        if not wait or not report.open:
            return
        if until is not None and time.monotonic() > until:
            raise WaitTimeout(f"{report.open} messages have no result yet; run collect again")
        await asyncio.sleep(LOOK_INTERVAL)


async def clear_up(queue: Queue) -> None:
    """End what expired, also while no worker runs."""
    while await queue.reap():
        pass


def _opened(out: Path) -> IO[bytes]:
    file = out.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigurationError(f"another process collects into {out}") from error
    return file


def _ids(file: IO[bytes], out: Path) -> set[str]:
    """The ids that the file has; half a line at its end, left by a crash, is cut off."""
    ids: set[str] = set()
    file.seek(0)
    end = 0
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            file.truncate(end)
            break
        end += len(line)
        try:
            ids.add(orjson.loads(line)["id"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{out}, line {number} is no result; collect into another file") from error
    file.seek(0, os.SEEK_END)
    return ids
