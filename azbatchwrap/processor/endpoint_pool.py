"""Which endpoint takes the next request: the least busy of those that may be asked; waits when none may."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from azbatchwrap.endpoints.limits import Outcome
from azbatchwrap.processor.sending import Endpoint


class EndpointPool:
    """Hands out endpoints one request at a time. ``clock`` is monotonic seconds."""

    def __init__(self, endpoints: Sequence[Endpoint], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = tuple(endpoints)
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def take(self, patience: float) -> Endpoint | None:
        """An endpoint to send one request to now, or ``None`` after ``patience`` seconds."""
        if not self._waiting:
            endpoint = self._try()
            if endpoint is not None:
                return endpoint
        until = self._clock() + patience
        while (left := until - self._clock()) > 0:
            await self._turn(left)
            endpoint = self._try()
            if endpoint is not None:
                self._wake()  # there may be room for the next one too
                return endpoint
        return None

    def give_back(self, endpoint: Endpoint, outcome: Outcome, retry_after: float | None = None) -> None:
        """The request that ``endpoint`` was taken for has ended."""
        endpoint.limit.answered(outcome, self._clock(), retry_after)
        if self._waiting:
            self._wake()

    def wait(self) -> float:
        """Seconds until some endpoint may be asked (0: now; infinite: when an answer comes)."""
        now = self._clock()
        return min(endpoint.limit.wait(now) for endpoint in self.endpoints)

    def _try(self) -> Endpoint | None:
        now = self._clock()
        best: Endpoint | None = None
        load = math.inf
        for endpoint in self.endpoints:
            limit = endpoint.limit
            if limit.wait(now) <= 0 and (share := limit.in_flight / max(1, limit.limit)) < load:
                best, load = endpoint, share
        if best is not None:
            best.limit.sent()
        return best

    async def _turn(self, patience: float) -> None:
        """Wait until it may be worth asking again, first come first served, but no longer than ``patience``."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append(future)
        self._set_alarm()
        timer = loop.call_later(patience, _turn_up, future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self._wake()  # it was this one's turn
            raise
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)

    def _wake(self) -> None:
        """Let the next in line look, if there is something to be had."""
        if self.wait() > 0:
            self._set_alarm()
            return
        while self._waiting:
            if _turn_up(self._waiting.popleft()):
                return

    def _set_alarm(self) -> None:
        """Pauses and probes end by time, not by an answer."""
        wait = self.wait()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not math.isinf(wait) and self._waiting:
            self._alarm = asyncio.get_running_loop().call_later(wait, self._wake)


def _turn_up(future: asyncio.Future[None]) -> bool:
    """Whether ``future`` was still waited for."""
    if future.done():
        return False
    future.set_result(None)
    return True
