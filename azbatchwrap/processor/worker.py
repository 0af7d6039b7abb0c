"""The worker: takes requests from its queues, sends them to the endpoints, and answers every one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from azbatchwrap.backoff import Backoff
from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.endpoints.limits import Outcome
from azbatchwrap.errors import ConfigurationError, ServiceError
from azbatchwrap.processor.answers import Answer, Verdict
from azbatchwrap.processor.backlog import Backlog, Flight
from azbatchwrap.processor.endpoint_pool import EndpointPool
from azbatchwrap.processor.gates import GO, Decision, Gate
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.metrics import Metrics
from azbatchwrap.processor.sending import Sender
from azbatchwrap.processor.source import Source
from azbatchwrap.queues import Code, Held, Result

log = logging.getLogger(__name__)

#: With less time than this to its deadline (seconds) a request is not sent another time.
LAST_CHANCE = 0.2
#: A gate that is shut is looked at this often (seconds).
GATE_INTERVAL = 0.1
#: Requests set aside for their tenants' limits, for each one that may be in flight; more go back to the queue.
PARKED_PER_SLOT = 8
#: A message that two workers died with is sent alone: if a third dies, it is known which message did it.
ALONE_AFTER = 2
#: At the end, a claim under way is given this long (seconds).
CLAIM_PATIENCE = 5.0
#: At the end, a queue that does not answer is given this long to take the last endings (seconds).
FLUSH_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """``concurrency``: requests in flight. ``max_failures``: attempts that the endpoint worked on and failed, after
    which a request is given up. ``drain``: seconds that requests in flight get at the end.
    """

    concurrency: int = 8
    backoff: Backoff = field(default_factory=lambda: Backoff(attempts=None, base=1.0, cap=60.0))
    max_failures: int = 20
    drain: float = 120.0
    until_empty: bool = False


def retry_policy(kind: Literal["exponential", "fixed"], base: float, cap: float) -> Backoff:
    """How long requests wait between attempts (seconds); their deadlines end the attempts.

    Raises ConfigurationError for waits that are none.
    """
    if not 0 < base <= cap:
        raise ConfigurationError(
            f"retries wait from {base:g} to {cap:g} seconds: the first must be above 0, the second no less"
        )
    return Backoff(attempts=None, base=base, cap=cap, kind=kind)


class Worker:
    """Runs until `stop` is called; the second call does not wait for what is in flight."""

    def __init__(
        self,
        sources: Sequence[Source],
        backlog: Backlog,
        endpoints: EndpointPool,
        sender: Sender,
        options: WorkerOptions,
        *,
        gates: Sequence[Gate] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.metrics = metrics or Metrics()
        self.endpoints = endpoints
        self.gates = tuple(gates)
        self._backlog, self._sender, self._options = backlog, sender, options
        self._flying = 0
        self._alone = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._dispatchers: list[asyncio.Task[None]] = []
        self._stops = 0

    @property
    def ready(self) -> bool:
        """Whether the queues answer and it is not ending."""
        return not self._stopping.is_set() and all(source.reachable for source in self.sources)

    @property
    def in_flight(self) -> int:
        return self._flying

    def stop(self) -> None:
        """Claim no more, finish what is in flight, hand back the rest; at the second call hand back everything."""
        self._stops += 1
        self._stopping.set()
        if self._stops > 1:
            for task in self._dispatchers:
                task.cancel()

    async def run(self) -> None:
        """Raises what made a part of the worker fail for good; what was claimed is handed back before."""
        for source in self.sources:
            await source.take_over_spool()
        for gate in self.gates:
            await gate.start()
        loops = [self._start(source.feed()) for source in self.sources]
        keepers = [self._start(source.beat(self._break_off)) for source in self.sources]
        keepers += [self._start(loop) for source in self.sources for loop in (source.flush(), source.reap())]
        if self._options.until_empty:
            keepers.append(self._start(self._watch_for_the_end()))
        self._dispatchers = [self._start(self._dispatch()) for _ in range(self._options.concurrency)]
        stopping = self._start(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*loops, *keepers, stopping], return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await self._drain(loops)
            for task in done - {stopping}:
                task.result()
        finally:
            await end_tasks([*loops, *keepers, *self._dispatchers, stopping])
            for gate in self.gates:
                await gate.stop()

    @staticmethod
    def _start(work: object) -> asyncio.Task[None]:
        return asyncio.ensure_future(work)  # type: ignore[call-overload, no-any-return]

    async def _watch_for_the_end(self) -> None:
        while True:
            await asyncio.sleep(GATE_INTERVAL)
            if any(source.flights or not source.is_flushed or not source.reachable for source in self.sources):
                continue
            # A queue that does not answer now is not known to be empty.
            with contextlib.suppress(ServiceError):
                if not any([(await source.queue.stats()).open for source in self.sources]):
                    self.stop()
                    return

    async def _drain(self, loops: Sequence[asyncio.Task[None]]) -> None:
        for source in self.sources:
            source.close()
        await asyncio.wait(loops, timeout=CLAIM_PATIENCE)
        await end_tasks(loops)
        for flight in self._backlog.close():
            flight.source.give_back(flight, 0.0, "handed back: its worker ends")
        for source in self.sources:
            for flight in source.flights:
                if not flight.sent and flight.task is not None:
                    flight.task.cancel()
        _, late = await asyncio.wait(self._dispatchers, timeout=self._options.drain)
        await end_tasks(late)
        flushed = [self._start(source.flushed()) for source in self.sources]
        _, late = await asyncio.wait(flushed, timeout=FLUSH_PATIENCE)
        await end_tasks(late)

    # One request

    async def _dispatch(self) -> None:
        me = asyncio.current_task()
        while True:
            flight = await self._backlog.take()
            if flight is None:
                return
            flight.task = me
            try:
                await self._handle(flight)
            except asyncio.CancelledError:
                if not self._broken_off(flight):
                    raise
            except Exception as error:
                log.exception("message %s: this is a defect of the processor", flight.claim.id)
                self._retry(flight, Answer(Verdict.RETRY, Outcome.ABANDONED, error=repr(error), reason="defect"))
            finally:
                flight.task = None

    async def _pass_gates(self, deadline: float) -> None:
        """Wait while a gate is shut for everything, but not beyond ``deadline`` (Unix seconds)."""
        while (left := deadline - time.time()) > 0:
            wait = max(gate.wait() for gate in self.gates)
            allowed = int(self._options.concurrency * min(gate.budget() for gate in self.gates) + 1e-9)
            if wait <= 0 and self._flying < allowed:
                return
            # Another one that is let through, or an answer, may change it at any time.
            await asyncio.sleep(min(wait if wait > 0 else GATE_INTERVAL / 10, GATE_INTERVAL, left))

    async def _handle(self, flight: Flight) -> None:
        claim = flight.claim
        if self.gates:
            await self._pass_gates(claim.deadline)
        if claim.deadline <= time.time():
            self._expire(flight)
            return
        self._flying += 1
        try:
            if self.gates or claim.crashes:
                await self._admitted(flight)
            else:
                await self._attempt(flight)
        finally:
            self._flying -= 1

    async def _admitted(self, flight: Flight) -> None:
        """An attempt that gates have a say in, or of a message that workers died with."""
        claim = flight.claim
        if self.gates:
            flight.tenant = flight.tenant or Meta.decoded(claim.meta).tenant
            decision = self._admit(flight)
            if decision is not GO:
                self._put_off(flight, decision)
                return
        try:
            if not claim.crashes:
                await self._attempt(flight)
            elif claim.crashes < ALONE_AFTER:
                await self._noted_attempt(flight)
            else:
                async with self._alone:
                    await self._noted_attempt(flight)
        finally:
            for gate in self.gates:
                gate.release(flight.tenant)
            if self.gates:
                self._backlog.unpark(flight.tenant)

    def _admit(self, flight: Flight) -> Decision:
        for index, gate in enumerate(self.gates):
            decision = gate.admit(flight.tenant)
            if decision is not GO:
                self.metrics.deferred.add(gate.name)
                for passed in self.gates[:index]:
                    passed.release(flight.tenant)
                return decision
        return GO

    def _put_off(self, flight: Flight, decision: Decision) -> None:
        if decision.drop:
            error = f"a gate dropped it: {decision.reason}"
            self._finish(flight, Code.GATE_DROPPED, error)
        elif decision.park and self._backlog.parked < PARKED_PER_SLOT * self._options.concurrency:
            self._backlog.park(flight)
        else:
            flight.source.give_back(flight, time.time() + decision.defer, f"put off: {decision.reason}")

    async def _noted_attempt(self, flight: Flight) -> None:
        if await flight.source.begin(flight):
            await self._attempt(flight)
        else:
            flight.source.forget(flight)

    async def _attempt(self, flight: Flight) -> None:
        claim = flight.claim
        endpoint = await self.endpoints.take(claim.deadline - time.time())
        if endpoint is None:
            self._expire(flight)
            return
        flight.sent = True
        self.metrics.attempts.add(endpoint.url)
        began = time.monotonic()
        outcome, wait = Outcome.ABANDONED, None
        try:
            left = max(0.001, claim.deadline - time.time())
            answer = await self._sender.send(endpoint, claim, claim.attempts + 1, left)
            outcome, wait = answer.outcome, answer.retry_after
        finally:
            self.endpoints.give_back(endpoint, outcome, wait)
        self.metrics.latency.observe(time.monotonic() - began)
        self._settle(flight, answer)

    def _settle(self, flight: Flight, answer: Answer) -> None:
        if answer.verdict is Verdict.RETRY:
            self._retry(flight, answer)
            return
        code = Code.OK if answer.verdict is Verdict.DONE else Code.INFERENCE_ERROR
        attempts = flight.claim.attempts + 1
        self._finish(flight, code, answer.error, attempts=attempts, status=answer.status, payload=answer.payload)

    def _retry(self, flight: Flight, answer: Answer) -> None:
        claim, now = flight.claim, time.time()
        attempts, failures = claim.attempts + 1, claim.failures + answer.charged
        left = claim.deadline - now
        if left < LAST_CHANCE:
            self._expire(flight, attempts, answer)
        elif failures >= self._options.max_failures:
            error = f"given up after {failures} failed attempts; the last one: {answer.error}"
            self._finish(flight, Code.INFERENCE_ERROR, error, attempts=attempts, status=answer.status, bury=True)
        else:
            self.metrics.retries.add(answer.reason)
            delay = self._options.backoff.delay(attempts, retry_after=answer.retry_after)
            # However long the endpoint wants to be left alone, there is one more try before the deadline.
            due = now + min(delay, left / 2)
            flight.source.give_back(flight, due, answer.error, attempts=attempts, failures=failures)

    def _expire(self, flight: Flight, attempts: int | None = None, answer: Answer | None = None) -> None:
        count = flight.claim.attempts if attempts is None else attempts
        error = f"the deadline passed after {count} attempts"
        if answer is None:
            self._finish(flight, Code.DEADLINE_EXCEEDED, error, attempts=count)
        else:
            error += f"; the last one: {answer.error}"
            self._finish(flight, Code.DEADLINE_EXCEEDED, error, attempts=count, status=answer.status)

    @staticmethod
    def _finish(
        flight: Flight,
        code: Code,
        error: str,
        *,
        attempts: int | None = None,
        status: int | None = None,
        payload: bytes = b"",
        bury: bool = False,
    ) -> None:
        claim = flight.claim
        count = claim.attempts if attempts is None else attempts
        result = Result(claim.id, code, status, count, error, payload, time.time())
        flight.source.finish(flight, result, bury=bury)

    # Claims that are not wanted any more

    def _break_off(self, flight: Flight) -> None:
        """A heartbeat learnt that ``flight`` is lost or cancelled."""
        if flight.task is not None:
            flight.task.cancel()
        else:
            self._backlog.remove(flight)
            self._accept_fate(flight)

    def _broken_off(self, flight: Flight) -> bool:
        """The dispatcher was cancelled: because of its flight (then it goes on) or to end."""
        if flight.fate is not Held.KEPT:
            self._accept_fate(flight)
            _uncancel()
            return True
        if flight.sent:
            reason, attempts = "handed back: its worker ended during the attempt", flight.claim.attempts + 1
        else:
            reason, attempts = "handed back: its worker ends", flight.claim.attempts
        flight.source.give_back(flight, 0.0, reason, attempts=attempts)
        return False

    def _accept_fate(self, flight: Flight) -> None:
        if flight.fate is Held.LOST:
            flight.source.forget(flight)
            return
        error = "cancelled on request" + (" while it was in flight" if flight.sent else "")
        self._finish(flight, Code.CANCELLED, error, attempts=flight.claim.attempts + flight.sent)


def _uncancel() -> None:
    """From Python 3.11 on, a task that goes on after its cancellation must say so."""
    task = asyncio.current_task()
    uncancel = getattr(task, "uncancel", None)
    if uncancel is not None:
        uncancel()
