"""`Batch`: one batch while it runs. Its queue, its counts, its results on disk and its summary."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from azbatchwrap.endpoints import Endpoint
from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.errors import ConfigurationError

from .journal import (
    LineFile,
    RunPaths,
    drop_failed,
    key_of,
    load_state,
    lock_folder,
    read_records,
    record_line,
    save_state,
)
from .listing import Listing
from .summary import Summary
from .types import (
    BatchRequest,
    BatchRunSummarizer,
    Counts,
    Isolation,
    ItemRecord,
    WorkItemProcessor,
    WorkItemRequest,
    WorkItemResult,
)

log = logging.getLogger(__name__)

#: Items listed ahead: the priority order holds among these. Listing goes on when half of them are done.
LOOKAHEAD = 50_000


class Work:
    """An item on its way. ``attempts``: those that count; ``tries``: all; ``last``: the endpoint that failed it last."""

    __slots__ = ("attempts", "batch", "item", "last", "ready_at", "tries")

    def __init__(self, batch: Batch, item: WorkItemRequest) -> None:
        self.batch = batch
        self.item = item
        self.attempts = 0
        self.tries = 0
        self.last: str | None = None
        self.ready_at = 0.0


class Batch:
    """Made by `Dispatcher.submit`. ``done`` is set when every listed item has its result (and nothing more will come).

    ``fault``: why the batch could not be done properly although its items may have results, for people.
    """

    def __init__(self, request: BatchRequest, folder: Path, *, open_end: bool, reuse: bool) -> None:
        self.request = request
        self.paths = RunPaths(folder)
        self._lock: IO[str] = lock_folder(self.paths)
        self.processor: WorkItemProcessor[Any] = request.get_work_item_processor()
        self.isolation = isolation_of(self.processor)
        self.is_choosy = type(self.processor).accepts is not WorkItemProcessor.accepts
        self.summarizer = request.get_batch_run_summarizer()
        self.counts = Counts()
        self.started = time.time()
        self.fault: str | None = None
        self.done = asyncio.Event()
        self.on_work: Callable[[Batch, int], None] = lambda _batch, _count: None
        self.endpoints_in_use: Callable[[], int] = lambda: 0
        self.open_end = open_end
        self._reuse = reuse
        self._queue: list[tuple[float, int, Work]] = []
        self._sequence = 0
        self._listings: list[Listing] = []
        self._is_full = False
        self._closed = False
        self._known: set[int] = set()
        self._earlier: set[int] = set()
        self._results: LineFile
        self._summary: Summary
        self._keeper: asyncio.Task[None] | None = None

    # --- what an earlier process left ---

    async def open(self) -> None:
        """Read what is there, and go on from it: a run that was cut off is continued, one that ended is begun anew,
        with the items that passed taken as done. Raises ConfigurationError when the output folder cannot be used."""
        try:
            await self._take_up()
        except OSError as error:
            raise ConfigurationError(f"output folder {self.paths.folder}: cannot be used: {error.strerror}") from error

    async def _take_up(self) -> None:
        state = await asyncio.to_thread(load_state, self.paths)
        continued = state.get("state") == "running"
        if continued:
            self.started = float(state.get("started", self.started))
        elif self.paths.results.exists():
            await asyncio.to_thread(drop_failed, self.paths)
        self._summary = Summary(self.paths, self.overall)
        await asyncio.to_thread(save_state, self.paths, "running", self.started)
        self._results = LineFile(self.paths.results, sync=True)
        for number, record in enumerate(read_records(self.paths.results)):
            self._recall(record, continued=continued)
            if number % 1000 == 999:
                await asyncio.sleep(0)
        if continued and self.counts.done:
            log.info("going on after %d results of the last run", self.counts.done)
        self._keeper = asyncio.create_task(self._summary.keep())

    def _recall(self, record: ItemRecord, *, continued: bool) -> None:
        key = key_of(record.id, record.fingerprint)
        if not continued:
            if self._reuse:
                self._earlier.add(key)
            return
        if key in self._known:
            return
        self._known.add(key)
        self.counts.total += 1
        self._count_result(record)

    # --- items come in ---

    def feed(self, request: BatchRequest, *, again: bool = False) -> None:
        """Add the items of ``request``; they are given out while the rest is still being listed.

        ``again``: the files are new or have changed, so items without a fingerprint are new work, whatever their name.
        """
        listing = Listing(request, lambda items: self._enqueue(items, again=again))
        self._listings.append(listing)
        listing.ended.add_done_callback(lambda ended: self._listed(listing, ended))

    def _listed(self, listing: Listing, ended: asyncio.Future[Exception | None]) -> None:
        self._listings.remove(listing)
        if not ended.cancelled() and (error := ended.result()) is not None:
            self.fault = f"the items could not all be listed: {type(error).__name__}: {error}"
            log.error("listing of work items ended early", exc_info=error)
        self._end_if_done()

    def _enqueue(self, items: list[WorkItemRequest], *, again: bool) -> bool:
        """Returns whether more are welcome now."""
        added = 0
        for item in items:
            key = key_of(item.id, item.fingerprint)
            # A fingerprint knows better than a name whether this is new work.
            is_new = again and not item.fingerprint
            if key in self._known and not is_new:
                continue
            self._known.add(key)
            self.counts.total += 1
            if key in self._earlier and not is_new:
                self._count_result(_earlier_record(item))
                continue
            self._sequence += 1
            heapq.heappush(self._queue, (-item.priority, self._sequence, Work(self, item)))
            added += 1
        self.counts.queued += added
        if added:
            self.on_work(self, added)
        self._is_full = len(self._queue) >= LOOKAHEAD
        return not self._is_full

    # --- items go out ---

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    def take(self, endpoint: Endpoint) -> Work | None:
        """The next item that ``endpoint`` may do."""
        if not self._queue:
            return None
        work = self._take_acceptable(endpoint) if self.is_choosy else heapq.heappop(self._queue)[2]
        if work is None:
            return None
        self.counts.queued -= 1
        if self._is_full and len(self._queue) < LOOKAHEAD // 2:
            self._is_full = False
            for listing in self._listings:
                listing.more()
        return work

    def _take_acceptable(self, endpoint: Endpoint) -> Work | None:
        skipped: list[tuple[float, int, Work]] = []
        found = None
        while self._queue and len(skipped) < 1000:
            entry = heapq.heappop(self._queue)
            if self.accepts(entry[2], endpoint):
                found = entry[2]
                break
            skipped.append(entry)
        for entry in skipped:
            heapq.heappush(self._queue, entry)
        return found

    def accepts(self, work: Work, endpoint: Endpoint) -> bool:
        """Whether ``endpoint`` can do the item. A processor that fails to say is asked to do it, and fails there."""
        if not self.is_choosy:
            return True
        try:
            return self.processor.accepts(work.item, endpoint)
        except Exception:  # noqa: BLE001 - the consumer's code may raise anything
            return True

    def take_unacceptable(self, endpoints: list[Endpoint]) -> Iterator[Work]:
        """Items at the head of the queue that none of ``endpoints`` would ever do."""
        while self.is_choosy and self._queue:
            work = self._queue[0][2]
            if not endpoints or any(self.accepts(work, endpoint) for endpoint in endpoints):
                return
            self.counts.queued -= 1
            yield heapq.heappop(self._queue)[2]

    def put_back(self, work: Work) -> None:
        """Undo `take`: nothing has happened."""
        self._sequence += 1
        heapq.heappush(self._queue, (-work.item.priority, self._sequence, work))
        self.counts.queued += 1

    # --- results ---

    def record(
        self, work: Work, result: WorkItemResult, *, endpoint: str | None, latency: float, ended: float | None = None
    ) -> None:
        """The item's one result."""
        item = work.item
        at = time.time() if ended is None else ended
        record = ItemRecord(item.id, item.fingerprint, result, endpoint, max(1, work.attempts), latency, at)
        self._results.append(record_line(record))
        self._count_result(record)
        if not result.passed:
            log.warning("%s: failed: %s: %s", item.id, result.error_type, result.failed_reason)
        if not self._queue and not self._listings:
            self._end_if_done()

    def _count_result(self, record: ItemRecord) -> None:
        result = record.result
        if result.passed:
            self.counts.passed += 1
            self.counts.cached += result.cached
        else:
            self.counts.failed += 1
        try:
            self.summarizer.add(record)
            entry = self.summarizer.entry(record)
        except Exception:
            log.exception("the summarizer failed on %s", record.id)
            entry = BatchRunSummarizer().entry(record)
        self._summary.add(entry)

    def overall(self) -> dict[str, Any]:
        elapsed = max(0.0, time.time() - self.started)
        return self.summarizer.overall(self.counts, elapsed=elapsed, endpoints=self.endpoints_in_use())

    # --- the end ---

    def no_more(self) -> None:
        """Nothing will be fed any more: the batch is done when what was fed is."""
        self.open_end = False
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closed or self.open_end or self._listings or self.counts.done < self.counts.total:
            return
        self.done.set()

    async def close(self) -> None:
        """Write everything down. A batch that is not done goes on here with the next process."""
        self._closed = True
        for listing in self._listings:
            listing.stop()
        if self._keeper is not None:
            await end_tasks([self._keeper])
        complete = self.done.is_set()
        try:
            await self._results.settle()
        except OSError as error:
            complete = False
            self.fault = f"results could not be written: {error.strerror}"
        finally:
            self._results.close()
        await self._finish_request(complete=complete)
        await self._summary.write()
        self._summary.close()
        if complete:
            await asyncio.to_thread(save_state, self.paths, "finished", self.started)
        self._lock.close()

    async def _finish_request(self, *, complete: bool) -> None:
        try:
            await asyncio.to_thread(self.request.finish, complete=complete)
        except Exception as error:
            self.fault = f"the batch could not be finished: {type(error).__name__}: {error}"
            log.exception("finish of the batch failed")


def isolation_of(processor: WorkItemProcessor[Any]) -> Isolation:
    """Where the processor's ``process`` runs: as it says, or by its kind."""
    if processor.isolation is not None:
        return processor.isolation
    return Isolation.LOOP if inspect.iscoroutinefunction(processor.process) else Isolation.THREAD


def _earlier_record(item: WorkItemRequest) -> ItemRecord:
    result = WorkItemResult(cached=True)
    return ItemRecord(item.id, item.fingerprint, result, None, 0, 0.0, time.time())
