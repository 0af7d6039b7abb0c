"""`EndpointPool`: the endpoints in use, each with its health, and the hot-swap of what is configured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from azbatchwrap.errors import ConfigurationError

from .checker import EndpointStatusChecker
from .connections import connect
from .ending import end_tasks
from .endpoint import Endpoint
from .health import Health, HealthPolicy, State
from .spec import EndpointSpec

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

#: Seconds that items in flight on a removed endpoint may still take there.
RETIRE_LIMIT = 60.0
#: A rest without a length given by the endpoint (seconds).
DEFAULT_PAUSE = 1.0


class Fate(Enum):
    """What an attempt says about the endpoint, whatever it says about the item."""

    SERVED = "served"  # it did its work, even if the item was wrong
    FAILED = "failed"  # its fault: 5xx, time-out
    BROKEN = "broken"  # the connection broke in the middle
    UNREACHABLE = "unreachable"  # no connection
    BUSY = "busy"  # it asked for a rest
    SILENT = "silent"  # says nothing: the item's own fault that never reached it, or we broke off


@dataclass(slots=True, eq=False)
class Member:
    """One endpoint of the pool. ``in_flight``: items there now; ``retired``: configured away, no new items."""

    endpoint: Endpoint
    health: Health
    in_flight: int = 0
    retired: bool = False
    served: int = 0
    failed: int = 0
    check_now: asyncio.Event = field(default_factory=asyncio.Event)
    guard: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.endpoint.spec.name

    def has_room(self, now: float) -> bool:
        health = self.health
        return (
            self.in_flight < health.allowed
            and health.state is State.UP
            and now >= health.paused_until
            and not self.retired
        )

    def facts(self) -> dict[str, Any]:
        """For status pages."""
        return {
            "name": self.name,
            "url": self.endpoint.spec.shown_url,
            "state": "retiring" if self.retired else self.health.state.value,
            "concurrency": self.health.concurrency,
            "allowed": self.health.allowed,
            "in_flight": self.in_flight,
            "served": self.served,
            "failed": self.failed,
        }


class EndpointPool:
    """Use as ``async with``. Whoever gives out work sets ``on_change``, which is called when a member may take more."""

    def __init__(
        self,
        specs: Iterable[EndpointSpec] = (),
        *,
        checker: EndpointStatusChecker | None = None,
        policy: HealthPolicy | None = None,
        retire_limit: float = RETIRE_LIMIT,
    ) -> None:
        self._first = tuple(specs)
        self._checker = checker or EndpointStatusChecker()
        self._policy = policy or HealthPolicy()
        self._retire_limit = retire_limit
        self._members: dict[str, Member] = {}
        self._retiring: set[Member] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self.on_change: Callable[[Member], None] = lambda _member: None

    async def __aenter__(self) -> Self:
        self.apply(self._first)
        return self

    async def __aexit__(self, *_: object) -> None:
        members = [*self._members.values(), *self._retiring]
        self._members.clear()
        await end_tasks(self._ends)
        await asyncio.gather(*(self._end(member) for member in members))

    @property
    def members(self) -> list[Member]:
        """Those that are configured now."""
        return list(self._members.values())

    def facts(self) -> list[dict[str, Any]]:
        return [member.facts() for member in (*self._members.values(), *self._retiring)]

    def usable(self) -> int:
        now = asyncio.get_running_loop().time()
        return sum(member.health.usable(now) for member in self._members.values())

    def has_other(self, member: Member) -> bool:
        """Whether another endpoint than ``member`` may be given work."""
        now = asyncio.get_running_loop().time()
        return any(other.health.usable(now) for other in self._members.values() if other is not member)

    # --- what is configured ---

    def apply(self, specs: Iterable[EndpointSpec]) -> None:
        """Make ``specs`` the endpoints in use. Equal ones are left alone; those no longer named finish what they have.

        Raises ConfigurationError, and changes nothing, if one cannot be used or a name comes twice.
        """
        wanted: dict[str, EndpointSpec] = {}
        for spec in specs:
            if spec.name in wanted:
                raise ConfigurationError(f"endpoint {spec.name!r} is configured twice")
            wanted[spec.name] = spec
        fresh = {name: spec for name, spec in wanted.items() if not self._keeps(name, spec)}
        endpoints = {name: Endpoint(spec, connect(spec)) for name, spec in fresh.items()}
        for name in [name for name in self._members if name not in wanted or name in fresh]:
            self._retire(self._members.pop(name))
        for name, endpoint in endpoints.items():
            self._add(name, endpoint)
        if fresh:
            log.info("endpoints in use: %s", ", ".join(wanted))

    def _keeps(self, name: str, spec: EndpointSpec) -> bool:
        member = self._members.get(name)
        return member is not None and member.endpoint.spec == spec

    def _add(self, name: str, endpoint: Endpoint) -> None:
        member = Member(endpoint, Health(self._policy, endpoint.spec.concurrency))
        self._members[name] = member
        member.guard = asyncio.create_task(self._watch_over(member), name=f"health of {name}")

    def _retire(self, member: Member) -> None:
        member.retired = True
        self._retiring.add(member)
        log.info("endpoint %s is no longer in use; %d items finish there", member.name, member.in_flight)
        self.on_change(member)
        task = asyncio.create_task(self._see_off(member))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _see_off(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._retire_limit
        while member.in_flight and loop.time() < limit:  # noqa: ASYNC110 - an event per item would cost each of them
            await asyncio.sleep(0.05)
        self._retiring.discard(member)
        await self._end(member)

    async def _end(self, member: Member) -> None:
        if member.guard is not None:
            await end_tasks([member.guard])
        if member.endpoint.connection is not None:
            await member.endpoint.connection.close()

    # --- health ---

    async def _watch_over(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        while not member.retired:
            # Cleared before the check: a doubt that comes up during it asks for another one.
            member.check_now.clear()
            ok = await self._check(member)
            before = member.health.state
            if member.health.checked(ok, loop.time()):
                log.info("endpoint %s: %s -> %s", member.name, before.value, member.health.state.value)
                self.on_change(member)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(member.check_now.wait(), max(0.01, member.health.next_check(loop.time())))

    async def _check(self, member: Member) -> bool:
        try:
            ready = await asyncio.wait_for(self._checker.check(member.endpoint), self._policy.timeout)
        except Exception as error:  # noqa: BLE001 - a checker may raise anything; all of it means "not ready"
            log.debug("endpoint %s: check failed: %s", member.name, error or type(error).__name__)
            return False
        return ready is True

    def learned(self, member: Member, fate: Fate, *, retry_after: float | None = None, fresh: bool = True) -> None:
        """What an attempt has shown. ``fresh``: the item had not failed on another endpoint before, so that a poisoned
        item does not spoil one endpoint after the other."""
        health = member.health
        now = asyncio.get_running_loop().time()
        if fate is Fate.SERVED:
            member.served += 1
            if health.failures or health.losses or health.allowed < health.concurrency:
                health.succeeded()
                self.on_change(member)
            else:
                health.served += 1
        elif fate is Fate.BUSY:
            self._pause(member, now, DEFAULT_PAUSE if retry_after is None else retry_after)
        elif fate is Fate.UNREACHABLE:
            member.failed += 1
            health.unreachable(now)
            member.check_now.set()
        elif fate in {Fate.FAILED, Fate.BROKEN}:
            member.failed += 1
            if fate is Fate.BROKEN:
                health.broke_off()
            if fresh and health.failed(now, may_eject=self.has_other(member)):
                log.warning("endpoint %s: ejected for %.1f s", member.name, health.ejected_until - now)
            if health.failures == 1:
                member.check_now.set()

    def _pause(self, member: Member, now: float, seconds: float) -> None:
        member.health.pause(now, seconds)
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, seconds) + 0.001, self.on_change, member)
