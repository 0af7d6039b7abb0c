"""One queue as a worker sees it: claims come in, heartbeats go out, endings are handed back in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import AzBatchWrapError
from azbatchwrap.processor.backlog import Backlog, Flight
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.metrics import Metrics
from azbatchwrap.processor.spool import Spool
from azbatchwrap.queues import Claim, Code, Held, Queue, Reaped, Result, Retry

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A flight and the result that ends it.
Ending: TypeAlias = tuple[Flight, Result]

#: An empty queue is asked again after the first of these, then less and less often (seconds).
IDLE_FIRST, IDLE_CAP = 0.01, 0.25
#: For how long the claims at hand are to last at the present rate (seconds).
AHEAD = 0.1
#: What one claim asks for at most, and one call of complete or retry takes.
CLAIM_LIMIT = 200
FLUSH_LIMIT = 500
#: Endings that may wait for a queue that does not take them, before no more is claimed.
ENDINGS_LIMIT = 2_000
#: With more than this in its hands a worker lets endings gather for a moment (seconds): one call, one write to the disk.
GATHER_ABOVE, GATHER_TIME = 16, 0.005
#: Heartbeats: a third of the lease, but often enough to hear of cancellations soon (seconds).
BEAT_CAP = 2.0
#: How often expired messages and dead workers are looked for (seconds).
REAP_INTERVAL = 1.0
#: Between calls of a queue that does not answer.
QUEUE_BACKOFF = Backoff(attempts=None, base=0.2, cap=5.0)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """``lease``: seconds that a claim outlives its worker. ``least``, ``most``: claims at hand beyond those in flight;
    so many as end within `AHEAD` seconds, for a slow worker must not keep messages from others.
    """

    lease: float = 30.0
    least: int = 8
    most: int = 8
    weight: float = 1.0
    tier: int = 0
    by_tenant: bool = False


class Source:
    """Feeds ``backlog`` from ``queue`` and keeps what is claimed alive until its ending is stored."""

    def __init__(
        self, name: str, queue: Queue, backlog: Backlog, *, options: SourceOptions, metrics: Metrics, spool: Spool
    ) -> None:
        self.name, self.queue = name, queue
        self.weight, self.tier = options.weight, options.tier
        self.flights: set[Flight] = set()
        self.reachable = False
        self._backlog, self._options, self._metrics, self._spool = backlog, options, metrics, spool
        self._closing = False
        self._waiting = 0  # flights in the backlog
        self._depth = options.least  # how many there should be
        self._ended, self._looked_at = 0, time.monotonic()
        self._room = asyncio.Event()
        self._room.set()
        self._dirty = asyncio.Event()
        self._endings: list[Ending] = []
        self._burials: list[Ending] = []
        self._retries: list[tuple[Flight, Retry]] = []
        self._spooled: set[Flight] = set()
        self._stored = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()

    # What the worker calls

    def close(self) -> None:
        """Claim no more."""
        self._closing = True
        self._room.set()
        self._stored.set()

    def is_closing(self) -> bool:
        return self._closing

    def taken(self) -> None:
        """A flight has left the backlog."""
        self._waiting -= 1
        if self._waiting <= self._depth // 2:
            self._room.set()

    def returned(self) -> None:
        """A flight is in the backlog again."""
        self._waiting += 1

    def finish(self, flight: Flight, result: Result, *, bury: bool = False) -> None:
        (self._burials if bury else self._endings).append((flight, result))
        self._changed()

    def give_back(
        self, flight: Flight, due: float, reason: str, *, attempts: int | None = None, failures: int | None = None
    ) -> None:
        """Uncharged, unless new counts are given. ``due`` is Unix seconds."""
        claim = flight.claim
        counts = (
            claim.attempts if attempts is None else attempts,
            claim.failures if failures is None else failures,
        )
        self._retries.append((flight, Retry(claim, due, *counts, reason)))
        self._changed()

    def _changed(self) -> None:
        self._ended += 1
        self._dirty.set()
        self._flushed.clear()

    async def begin(self, flight: Flight) -> bool:
        """Note that a suspect is about to be sent. ``False``: it is lost."""
        [held] = await self._patiently(lambda: self.queue.begin([flight.claim]), "begin")
        return held

    def forget(self, flight: Flight) -> None:
        """Somebody else has it now."""
        self.flights.discard(flight)

    @property
    def is_flushed(self) -> bool:
        return self._flushed.is_set()

    async def flushed(self) -> None:
        """Wait until the queue has all endings."""
        await self._flushed.wait()

    # What runs beside

    async def feed(self) -> None:
        """Claim whenever there is room, until `close`. Not to be cancelled in the middle of a claim, if it can be helped:
        what was claimed then stays claimed until the lease ends.
        """
        idle = IDLE_FIRST
        await self.flushed()  # what a dead worker has left goes first
        while not self.is_closing():
            await self._room.wait()
            if len(self._endings) > ENDINGS_LIMIT:
                self._stored.clear()
                await self._stored.wait()
                continue
            self._adapt()
            wanted = min(CLAIM_LIMIT, self._depth - self._waiting)
            if wanted <= 0:
                self._room.clear()
                continue
            if self.is_closing():
                return
            claims = await self._patiently(lambda n=wanted: self.queue.claim(n, self._options.lease), "claim")  # type: ignore[misc]
            self._add(claims)
            if len(claims) == wanted:
                idle = IDLE_FIRST
                continue
            await asyncio.sleep(idle)
            idle = IDLE_FIRST if claims else min(IDLE_CAP, idle * 2)

    def _adapt(self) -> None:
        now = time.monotonic()
        needed = int(self._ended / max(now - self._looked_at, 1e-6) * AHEAD)
        self._ended, self._looked_at = 0, now
        # A pause shall not undo at once what a rush has taught.
        self._depth = min(self._options.most, max(self._options.least, needed, self._depth // 2))

    def _add(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        by_tenant = self._options.by_tenant
        flights = [Flight(claim, self, Meta.decoded(claim.meta).tenant if by_tenant else "") for claim in claims]
        self.flights.update(flights)
        self._waiting += len(flights)
        if self._waiting >= self._depth:
            self._room.clear()
        self._metrics.claimed.add(self.name, len(flights))
        self._backlog.add(flights)

    async def flush(self) -> None:
        """Hand endings to the queue as they gather."""
        while True:
            await self._dirty.wait()
            if len(self.flights) > GATHER_ABOVE and len(self._endings) < FLUSH_LIMIT:
                await asyncio.sleep(GATHER_TIME)
            self._dirty.clear()
            self._endings = await self._flush_endings(self._endings, self.queue.complete)
            self._stored.set()
            self._burials = await self._flush_endings(self._burials, self.queue.bury)
            await self._flush_retries()
            if self._endings or self._burials or self._retries:
                self._dirty.set()
                continue
            if self._spooled:
                self._spooled.clear()
                await asyncio.to_thread(self._spool.clear)
            if not self._dirty.is_set():
                self._flushed.set()

    async def _flush_endings(
        self, endings: list[Ending], call: Callable[[Sequence[tuple[Claim, Result]]], Awaitable[list[bool]]]
    ) -> list[Ending]:
        """Hand the first of ``endings`` to the queue; returns the rest. They stay in the list until it has them."""
        batch = endings[:FLUSH_LIMIT]
        if not batch:
            return endings
        pairs = [(flight.claim, result) for flight, result in batch]
        answers = await self._patiently(lambda: call(pairs), "complete", keep=True)
        metrics, now = self._metrics, time.time()
        self.flights.difference_update(flight for flight, _ in batch)
        for (flight, result), stored in zip(batch, answers, strict=True):
            if stored:
                metrics.results.add(result.code.value)
                if flight.claim.created:  # unknown for what another worker has left
                    metrics.residence.observe(max(0.0, now - flight.claim.created))
            else:
                self._stale(flight.claim, result.code.value)
        return endings[len(batch) :]

    async def _flush_retries(self) -> None:
        batch, self._retries = self._retries[:FLUSH_LIMIT], self._retries[FLUSH_LIMIT:]
        if not batch:
            return
        answers = await self._patiently(lambda: self.queue.retry([one for _, one in batch]), "retry")
        for (flight, _), taken in zip(batch, answers, strict=True):
            self.flights.discard(flight)
            if not taken:
                self._stale(flight.claim, "retry")

    def _stale(self, claim: Claim, what: str) -> None:
        self._metrics.stale.add()
        log.warning("message %s: %s refused, the claim was lost meanwhile", claim.id, what)

    async def beat(self, lost: Callable[[Flight], None]) -> None:
        """Keep the claims alive; tell ``lost`` about those that are not wanted any more."""
        interval = min(self._options.lease / 3, BEAT_CAP)
        while True:
            await asyncio.sleep(interval)
            for flight in self._backlog.remove_expired(time.time()):
                flight.source.expired(flight)
            held = [flight for flight in self.flights if flight.fate is Held.KEPT]
            if not held:
                continue
            claims = [flight.claim for flight in held]
            answers = await self._patiently(lambda c=claims: self.queue.extend(c, self._options.lease), "heartbeat")  # type: ignore[misc]
            for flight, fate in zip(held, answers, strict=True):
                if fate is not Held.KEPT and flight in self.flights:
                    self._unwanted(flight, fate, lost)

    def _unwanted(self, flight: Flight, fate: Held, lost: Callable[[Flight], None]) -> None:
        if any(flight is one[0] for line in (self._endings, self._burials, self._retries) for one in line):
            return  # it has ended here; the queue decides about that
        flight.fate = fate
        if fate is Held.LOST:
            self._metrics.lost.add()
            log.warning("message %s: the claim is lost", flight.claim.id)
        lost(flight)

    def expired(self, flight: Flight) -> None:
        """A flight that waited in the backlog has reached its deadline."""
        claim = flight.claim
        error = f"the deadline passed while it waited to be sent, after {claim.attempts} attempts"
        self.finish(flight, Result(claim.id, Code.DEADLINE_EXCEEDED, None, claim.attempts, error, finished=time.time()))

    async def reap(self) -> None:
        """End what expired and free what dead workers held, now and then."""
        await self.flushed()  # a dead worker's claims may have lapsed, and yet its results count until they are freed
        while True:
            found = await self._patiently(self.queue.reap, "reap")
            self._count(found)
            if not found:
                await asyncio.sleep(REAP_INTERVAL)

    def _count(self, found: Reaped) -> None:
        metrics = self._metrics
        metrics.expired.add(amount=found.expired)
        metrics.reclaimed.add(amount=found.reclaimed)
        metrics.poisoned.add(amount=found.poisoned)
        if found:
            log.info("%s: %s", self.name, found)

    async def take_over_spool(self) -> None:
        """Offer the results that dead workers of this machine could not store."""
        for claim, result in await asyncio.to_thread(self._spool.adopt):
            flight = Flight(claim, self)
            self._spooled.add(flight)
            self.finish(flight, result)

    async def _patiently(self, call: Callable[[], Awaitable[T]], what: str, *, keep: bool = False) -> T:
        """``call`` until the queue answers. ``keep``: meanwhile all endings are safe on the disk."""
        attempt = 0
        while True:
            try:
                answer = await call()
            except AzBatchWrapError as error:
                attempt += 1
                self.reachable = False
                self._metrics.queue_errors.add(self.name)
                log.warning("%s: %s failed (%d in a row): %s", self.name, what, attempt, error)
                if keep:
                    await self._keep([*self._endings, *self._burials])
                await asyncio.sleep(QUEUE_BACKOFF.delay(attempt))
            else:
                self.reachable = True
                return answer

    async def _keep(self, endings: Sequence[Ending]) -> None:
        new = [(flight, result) for flight, result in endings if flight not in self._spooled]
        if not new:
            return
        try:
            kept = await asyncio.to_thread(self._spool.write, [(flight.claim, result) for flight, result in new])
        except OSError as error:
            log.error("%s: results cannot be kept on the disk either: %s", self.name, error)  # noqa: TRY400  one line
            return
        self._spooled.update(flight for flight, _ in new[:kept])
        if kept < len(new):
            log.error("%s: %d results cannot be kept on the disk either: it is full", self.name, len(new) - kept)
