"""The few claimed requests that a worker has at hand, in lanes, and who takes which of them next."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azbatchwrap.processor.merge import Lane, Pick
from azbatchwrap.queues import Claim, Held

if TYPE_CHECKING:
    from azbatchwrap.processor.source import Source


@dataclass(slots=True, eq=False)
class Flight:
    """A claim in this worker's hands. ``sent``: a request may have left; ``fate``: what a heartbeat learnt."""

    claim: Claim
    source: Source
    tenant: str = ""
    sent: bool = False
    fate: Held = Held.KEPT
    task: asyncio.Task[None] | None = None


class Backlog:
    """Lanes of flights. ``pick`` is the merge policy among those that have something."""

    def __init__(self, pick: Pick, *, by_tenant: bool = False) -> None:
        self._pick = pick
        self._by_tenant = by_tenant
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._parked: defaultdict[str, deque[Flight]] = defaultdict(deque)
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return sum(len(lane.flights) for lane in self._lanes.values())

    def add(self, flights: Iterable[Flight]) -> None:
        for flight in flights:
            self._lane(flight).flights.append(flight)
            self._wake()

    def close(self) -> list[Flight]:
        """No more taking; gives back what nobody took."""
        self._closed = True
        left = [flight for lane in self._lanes.values() for flight in lane.flights]
        left += [flight for line in self._parked.values() for flight in line]
        self._lanes.clear()
        self._parked.clear()
        while self._takers:
            self._wake()
        return left

    def remove_expired(self, now: float) -> list[Flight]:
        """Takes out the flights whose deadlines have passed at ``now`` (Unix seconds)."""
        waiting = [flight for lane in self._lanes.values() for flight in lane.flights]
        waiting += [flight for line in self._parked.values() for flight in line]
        late = [flight for flight in waiting if flight.claim.deadline <= now]
        for flight in late:
            self.remove(flight)
        return late

    def remove(self, flight: Flight) -> None:
        """Takes ``flight`` out if it is here."""
        for lane in self._lanes.values():
            if flight in lane.flights:
                lane.flights.remove(flight)
                flight.source.taken()
                return
        line = self._parked.get(flight.tenant)
        if line and flight in line:
            line.remove(flight)

    @property
    def parked(self) -> int:
        return sum(len(line) for line in self._parked.values())

    def park(self, flight: Flight) -> None:
        """Set ``flight`` aside until `unpark` is called for its tenant; it takes no place in the backlog meanwhile."""
        self._parked[flight.tenant].append(flight)

    def unpark(self, tenant: str) -> None:
        """The tenant's next parked flight may be taken, before all others of its lane."""
        line = self._parked.get(tenant)
        if not line:
            return
        flight = line.popleft()
        if not line:
            del self._parked[tenant]
        self._lane(flight).flights.appendleft(flight)
        flight.source.returned()
        self._wake()

    async def take(self) -> Flight | None:
        """The next flight, or ``None`` when the backlog is closed."""
        while not self._closed:
            full = [lane for lane in self._lanes.values() if lane.flights]
            if full:
                lane = full[0] if len(full) == 1 else self._pick(full)
                flight = lane.flights.popleft()
                flight.source.taken()
                if not lane.flights and self._by_tenant:
                    del self._lanes[flight.source.name, flight.tenant]
                return flight
            await self._turn()
        return None

    async def _turn(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._takers.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._wake()
            raise
        finally:
            if not future.done():
                self._takers.remove(future)

    def _wake(self) -> None:
        while self._takers:
            future = self._takers.popleft()
            if not future.done():
                future.set_result(None)
                return

    def _lane(self, flight: Flight) -> Lane:
        key = (flight.source.name, flight.tenant if self._by_tenant else "")
        lane = self._lanes.get(key)
        if lane is None:
            source = flight.source
            lane = self._lanes[key] = Lane(source.name, source.weight, source.tier)
        return lane
