"""One OpenAI batch file through a queue, without a server: puts its requests, writes output and errors as they come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from itertools import islice
from pathlib import Path

from azbatchwrap.errors import WaitTimeout
from azbatchwrap.processor.collect import clear_up
from azbatchwrap.processor.files import BatchFile, BatchOutput
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.queues import Queue

PAGE = 500
LOOK_INTERVAL = 0.25
_LINES = "lines"


async def run_batch_file(
    queue: Queue,
    source: Path,
    output: Path,
    errors: Path,
    *,
    window: float,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> BatchOutput:
    """Go on until every line has its answer in ``output`` or ``errors``. ``window``: seconds that the lines have.

    The ids follow from the file's content: run again after an interruption, it goes on where it was.
    Raises ManifestError for a faulty file, WaitTimeout after ``timeout`` seconds.
    """
    prefix = await asyncio.to_thread(_prefix, source)
    batch = BatchFile(source, prefix, time.time() + window)
    total = batch.check()
    written = BatchOutput(output, errors, prefix)
    written.load()
    progress = progress or NullProgress()
    progress.start(_LINES, f"answers to {source.name}", total, "lines")
    items = batch.items()
    while chunk := list(islice(items, PAGE)):
        await queue.put(chunk)
    cursor, until = "", None if timeout is None else time.monotonic() + timeout
    while True:
        await clear_up(queue)
        while (page := await queue.results(cursor, PAGE)).results:
            cursor = page.cursor
            written.add(page.results)
        progress.update(_LINES, len(written.done))
        if len(written.done) >= total:
            progress.finish(_LINES)
            return written
        if until is not None and time.monotonic() > until:
            raise WaitTimeout(f"{total - len(written.done)} of {total} lines have no answer yet; run it again")
        await asyncio.sleep(LOOK_INTERVAL)


def _prefix(source: Path) -> str:
    """Tells this file's ids from those of others. A batch file is small enough to be read whole."""
    return f"{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}:"
