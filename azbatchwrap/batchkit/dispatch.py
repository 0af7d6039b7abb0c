"""`Dispatcher`: endpoints pull work items. One coroutine per slot; no task and no timer per item.

A slot takes the next item as soon as it is free, so fast endpoints do more. A failed item waits for its backoff without
holding a slot, and rather goes to another endpoint. Several batches share the endpoints by turns.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.endpoints.pool import EndpointPool, Fate, Member
from azbatchwrap.errors import AttemptTimeout, EndpointDown, RetryableError, ServiceError, Throttled, WorkerDied

from .batch import Batch, Work
from .types import BatchRequest, Isolation, WorkItemResult
from .workers import Processes, Threads

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

#: Seconds between looks at the time limits of running items.
TICK = 0.1
#: Seconds that a retry waits for another endpoint before it goes back to the one that failed it.
PREFERENCE = 2.0
#: How many waiting retries a slot looks through for one that it may take.
SCAN = 50
#: Attempts that do not count (the endpoint was down or busy) are limited too: ten times those that do.
FREE_FACTOR = 10
#: A worker process that dies of an item twice more will die of it again.
DEATHS = 3


class _Slot:
    """One of an endpoint's slots. ``deadline`` (loop time) of the item in hand; ``expired``: it was passed."""

    __slots__ = ("deadline", "expired", "member", "task", "work")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.deadline: float | None = None
        self.expired = False
        self.work: Work | None = None
        self.task: asyncio.Task[None]


class Dispatcher:
    """Use as ``async with Dispatcher(pool) as dispatcher``, with the pool already entered."""

    def __init__(self, pool: EndpointPool, *, max_in_flight: int | None = None) -> None:
        """``max_in_flight``: items at once on all endpoints together, where the system allows fewer than their slots."""
        self.pool = pool
        self._limit = max_in_flight
        self.batches: list[Batch] = []
        self._turns: deque[Batch] = deque()
        self._slots: dict[Member, list[_Slot]] = {}
        self._idle: dict[Member, list[asyncio.Future[None]]] = {}
        self._delayed: list[tuple[float, int, Work]] = []
        self._ready: deque[Work] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = 0
        self._draining = False
        self.in_flight = 0
        self._threads = Threads()
        self._processes = Processes()
        self._ticker: asyncio.Task[None]
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.pool.on_change = self._member_changed
        for member in self.pool.members:
            self._member_changed(member)
        self._ticker = asyncio.create_task(self._tick(), name="time limits")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        await end_tasks([self._ticker, *(slot.task for slots in self._slots.values() for slot in slots)])
        self._threads.close()
        await self._processes.close()
        for batch in list(self.batches):
            await self.end(batch)
        self.pool.on_change = lambda _member: None

    # --- batches ---

    async def submit(self, request: BatchRequest, folder: Path, *, open_end: bool = False, reuse: bool = True) -> Batch:
        """Start a batch whose results, summary and journal are in ``folder``, or go on with the one that is there.

        ``open_end``: more will be fed. ``reuse``: items that passed in an earlier, finished run are taken as done.
        Raises ConfigurationError if the folder cannot be used.
        """
        batch = Batch(request, folder, open_end=open_end, reuse=reuse)
        batch.on_work = self._work_came
        batch.endpoints_in_use = lambda: len(self.pool.members)
        await batch.open()
        self.batches.append(batch)
        batch.feed(request)
        return batch

    async def end(self, batch: Batch) -> None:
        """Close a batch, done or not. Items of it in flight are given up."""
        if batch not in self.batches:
            return
        self.batches.remove(batch)
        if batch in self._turns:
            self._turns.remove(batch)
        self._delayed = [entry for entry in self._delayed if entry[2].batch is not batch]
        heapq.heapify(self._delayed)
        self._ready = deque(work for work in self._ready if work.batch is not batch)
        for slots in self._slots.values():
            for slot in slots:
                if slot.work is not None and slot.work.batch is batch:
                    slot.task.cancel()
        await asyncio.sleep(0)
        await batch.close()

    async def drain(self, limit: float) -> None:
        """Give out nothing more, and leave items in flight up to ``limit`` seconds."""
        self._draining = True
        until = self._loop.time() + limit
        while self.in_flight and self._loop.time() < until:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)

    # --- who works when ---

    def _member_changed(self, member: Member) -> None:
        if member not in self._slots and not member.retired:
            self._idle[member] = []
            self._slots[member] = [self._new_slot(member) for _ in range(member.endpoint.spec.concurrency)]
        waiters = self._idle.get(member, [])
        room = len(waiters) if member.retired else member.health.allowed - member.in_flight
        while waiters and room > 0:
            waiter = waiters.pop()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1

    def _new_slot(self, member: Member) -> _Slot:
        slot = _Slot(member)
        slot.task = asyncio.create_task(self._serve(slot), name=f"slot of {member.name}")
        return slot

    def _work_came(self, batch: Batch, count: int) -> None:
        if batch not in self._turns:
            self._turns.append(batch)
        self._wake(count)

    def _wake(self, count: int) -> None:
        """Wake up to ``count`` idle slots that may take work, by turns of the endpoints."""
        now = self._loop.time()
        free = [waiters for member, waiters in self._idle.items() if waiters and member.has_room(now)]
        while count > 0 and free:
            for waiters in free:
                waiter = waiters.pop()
                if not waiter.done():
                    waiter.set_result(None)
                    count -= 1
            free = [waiters for waiters in free if waiters]

    async def _serve(self, slot: _Slot) -> None:
        """The life of a slot."""
        member = slot.member
        try:
            while not member.retired:
                work = self._take(member)
                if work is None:
                    waiter = self._loop.create_future()
                    self._idle[member].append(waiter)
                    await waiter
                else:
                    await self._attempt(slot, work)
        except Exception:
            log.exception("a slot of %s failed and is replaced", member.name)
        finally:
            self._slot_ended(slot)

    def _slot_ended(self, slot: _Slot) -> None:
        slots = self._slots.get(slot.member, [])
        if slot in slots:
            slots.remove(slot)
        if not slots:
            self._slots.pop(slot.member, None)
            self._idle.pop(slot.member, None)
        elif not slot.member.retired and not self._draining:
            slots.append(self._new_slot(slot.member))  # it was cancelled with the batch it worked for

    def _take(self, member: Member) -> Work | None:
        if self._draining or not member.has_room(self._loop.time()):
            return None
        if self._limit is not None and self.in_flight >= self._limit:
            return None
        work = self._take_ready(member) if self._ready else None
        if work is None:
            work = self._take_new(member)
        if work is not None:
            self.in_flight += 1
            member.in_flight += 1
            work.batch.counts.running += 1
        return work

    def _take_ready(self, member: Member) -> Work | None:
        now = self._loop.time()
        only = not self.pool.has_other(member)
        for place, work in enumerate(self._ready):
            if place >= SCAN:
                break
            elsewhere = only or work.last != member.name or now - work.ready_at > PREFERENCE
            if elsewhere and work.batch.accepts(work, member.endpoint):
                del self._ready[place]
                work.batch.counts.in_retry -= 1
                return work
        return None

    def _take_new(self, member: Member) -> Work | None:
        for _ in range(len(self._turns)):
            batch = self._turns[0]
            work = batch.take(member.endpoint)
            if not batch.has_work:
                self._turns.popleft()
            else:
                self._turns.rotate(-1)
            if work is not None:
                return work
        return None

    def _drop_unacceptable(self) -> None:
        """Items that no configured endpoint would ever do end as failed, instead of holding their batch for ever."""
        endpoints = [member.endpoint for member in self.pool.members]
        refused = [work for batch in self.batches for work in batch.take_unacceptable(endpoints)]
        for work in [work for work in self._ready if work.batch.is_choosy and endpoints]:
            if not any(work.batch.accepts(work, endpoint) for endpoint in endpoints):
                self._ready.remove(work)
                work.batch.counts.in_retry -= 1
                refused.append(work)
        for work in refused:
            reason = "no configured endpoint takes this item"
            failed = WorkItemResult(passed=False, error_type="NoSuitableEndpoint", failed_reason=reason)
            work.batch.record(work, failed, endpoint=None, latency=0.0)

    # --- one attempt ---

    async def _attempt(self, slot: _Slot, work: Work) -> None:
        member, batch = slot.member, work.batch
        endpoint = member.endpoint
        slot.work = work
        # The loop's own clock may be as coarse as a millisecond.
        started = time.perf_counter()
        outcome: WorkItemResult | Exception
        limit = 0.0
        try:
            limit = batch.processor.time_limit(work.item, endpoint)
            slot.deadline = self._loop.time() + limit
            if batch.isolation is Isolation.LOOP:
                found = await batch.processor.process(work.item, endpoint)
            elif batch.isolation is Isolation.THREAD:
                found = await self._threads.call(batch.processor, work.item, endpoint)
            else:
                found = await self._processes.call(batch.processor, work.item, endpoint)
            outcome = found if type(found) is WorkItemResult else _checked(found)
        except asyncio.CancelledError:
            if not slot.expired:
                # The run is ending, or the batch was taken away: nothing has happened.
                if batch in self.batches:
                    batch.put_back(work)
                raise
            _forget_cancellation(slot.task)
            outcome = AttemptTimeout(f"no result within {limit:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it raises is the attempt's outcome
            outcome = error
        finally:
            slot.deadline, slot.expired, slot.work = None, False, None
            self.in_flight -= 1
            member.in_flight -= 1
            batch.counts.running -= 1
        self._settle(work, member, outcome, time.perf_counter() - started)

    def _settle(self, work: Work, member: Member, outcome: WorkItemResult | Exception, latency: float) -> None:
        work.tries += 1
        if type(outcome) is WorkItemResult and outcome.passed:
            work.attempts += 1
            self.pool.learned(member, Fate.SERVED)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s on %s: done in %.3f s", work.item.id, member.name, latency)
            work.batch.record(work, outcome, endpoint=member.name, latency=latency)
            return
        fate, free = _fate_of(outcome)
        work.attempts += not free
        retry_after = _seconds_asked(outcome)
        fresh = work.last is None or work.last == member.name
        self.pool.learned(member, fate, retry_after=retry_after, fresh=fresh)
        result = _failure(work, outcome)
        log.debug("%s on %s, attempt %d: %s", work.item.id, member.name, work.tries, result.failed_reason)
        if result.can_retry and not _is_exhausted(work, outcome):
            # The endpoint itself rests when it asked for that; the item may go elsewhere meanwhile.
            asked = retry_after if fate is not Fate.BUSY else None
            self._again(work, member, free=free, retry_after=asked)
        else:
            work.batch.record(work, result, endpoint=member.name, latency=latency)

    def _again(self, work: Work, member: Member, *, free: bool, retry_after: float | None) -> None:
        work.last = member.name
        work.batch.counts.in_retry += 1
        if free and self.pool.has_other(member):
            delay = 0.0
        else:
            delay = work.batch.processor.backoff.delay(max(1, work.attempts), retry_after=retry_after)
        work.ready_at = self._loop.time() + delay
        self._sequence += 1
        heapq.heappush(self._delayed, (work.ready_at, self._sequence, work))
        self._set_timer()

    def _set_timer(self) -> None:
        """One timer for all waiting items: for the one that is ready first."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._delayed[0][0], self._release) if self._delayed else None

    def _release(self) -> None:
        now = self._loop.time() + 0.001
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        self._set_timer()
        self._wake(len(self._ready))

    async def _tick(self) -> None:
        """Ends attempts that take too long, and offers waiting retries again."""
        while True:
            await asyncio.sleep(TICK)
            now = self._loop.time()
            for slots in self._slots.values():
                for slot in slots:
                    if slot.deadline is not None and now > slot.deadline and not slot.expired:
                        slot.expired = True
                        slot.task.cancel()
            self._drop_unacceptable()
            if self._ready:
                self._wake(len(self._ready))
            if self._limit is not None and self._turns:
                self._wake(self._limit - self.in_flight)


def _checked(found: Any) -> WorkItemResult | Exception:
    if isinstance(found, WorkItemResult):
        return found
    return TypeError(f"process returned {type(found).__name__}, not WorkItemResult")


def _forget_cancellation(task: asyncio.Task[None]) -> None:
    forget: Callable[[], int] | None = getattr(task, "uncancel", None)  # Python >= 3.11
    if forget is not None:
        forget()


def _fate_of(outcome: WorkItemResult | Exception) -> tuple[Fate, bool]:
    """What the outcome says about the endpoint, and whether the attempt was free: not of the item's making."""
    if isinstance(outcome, WorkItemResult):
        return (Fate.FAILED, False) if outcome.can_retry else (Fate.SERVED, False)
    if isinstance(outcome, ConnectionRefusedError) or (isinstance(outcome, EndpointDown) and not outcome.sent):
        return Fate.UNREACHABLE, True
    if isinstance(outcome, EndpointDown | ConnectionError):
        return Fate.BROKEN, False
    if isinstance(outcome, Throttled):
        asked = outcome.retry_after is not None or outcome.status == 429
        return (Fate.BUSY, True) if asked else (Fate.FAILED, False)
    if isinstance(outcome, ServiceError):
        at_fault = outcome.status is None or outcome.status >= 500 or outcome.status == 408
        return (Fate.FAILED if at_fault else Fate.SERVED), False
    at_fault = not isinstance(outcome, WorkerDied) and isinstance(
        outcome, RetryableError | TimeoutError | asyncio.TimeoutError
    )
    return (Fate.FAILED if at_fault else Fate.SILENT), False


def _seconds_asked(outcome: object) -> float | None:
    """What the error asks for, in seconds, when that is a number: errors are the consumer's, and so is the attribute."""
    asked = getattr(outcome, "retry_after", None)
    return float(asked) if isinstance(asked, int | float) else None


def _failure(work: Work, outcome: WorkItemResult | Exception) -> WorkItemResult:
    if isinstance(outcome, WorkItemResult):
        return outcome
    try:
        retryable = work.batch.processor.is_retryable(outcome)
    except Exception:  # the consumer's code: were it to end the slot, the item would be lost
        log.exception("is_retryable of %s failed", type(work.batch.processor).__name__)
        retryable = False
    try:
        reason = str(outcome) or type(outcome).__name__
    except Exception:  # noqa: BLE001 - an error of the consumer's whose text cannot be had
        reason = type(outcome).__name__
    return WorkItemResult(passed=False, error_type=type(outcome).__name__, failed_reason=reason, can_retry=retryable)


def _is_exhausted(work: Work, outcome: WorkItemResult | Exception) -> bool:
    backoff = work.batch.processor.backoff
    if isinstance(outcome, WorkerDied) and work.attempts >= DEATHS:
        return True
    if backoff.attempts is not None and work.tries >= FREE_FACTOR * backoff.attempts:
        return True
    return work.attempts > 0 and backoff.exhausted(work.attempts)
