"""Whether an endpoint may be given work, and how much: pure decisions over a clock that is passed in (seconds).

Active checks (rise/fall as in HAProxy) say whether it is there; the fate of items (consecutive failures and growing
ejection as in Envoy's outlier detection) says whether it is any good; after an absence it starts slowly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What is known about an endpoint."""

    UNKNOWN = "unknown"  # not checked yet
    UP = "up"
    DOWN = "down"  # checks fail: back with the first good ones
    EJECTED = "ejected"  # items fail although checks succeed: back after a cooldown


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """``interval``, ``down_interval``: seconds between checks of an endpoint that is up, or not. ``timeout``: of a check.

    ``rise``, ``fall``: good or bad checks in a row that change the state. ``failures``: failed items in a row that
    eject, for ``cooldown`` seconds, doubling each time up to ``cooldown_cap``. ``forgive``: items served since the
    last ejection after which the next one is short again.
    """

    interval: float = 3.0
    down_interval: float = 0.4
    timeout: float = 5.0
    rise: int = 1
    fall: int = 2
    failures: int = 3
    cooldown: float = 1.0
    cooldown_cap: float = 60.0
    forgive: int = 100


@dataclass(slots=True)
class Health:
    """The state of one endpoint with ``concurrency`` slots, ``allowed`` of which may be used now."""

    policy: HealthPolicy
    concurrency: int
    state: State = State.UNKNOWN
    allowed: int = 0
    good: int = 0
    bad: int = 0
    failures: int = 0
    losses: int = 0
    served: int = 0
    ejections: int = 0
    ejected_until: float = -math.inf
    paused_until: float = -math.inf

    def usable(self, now: float) -> bool:
        return self.state is State.UP and now >= self.paused_until

    def checked(self, ok: bool, now: float) -> bool:
        """After an active check. Returns whether the state changed."""
        before = self.state
        if ok:
            self.good, self.bad = self.good + 1, 0
            cooling = self.state is State.EJECTED and now < self.ejected_until
            if self.state is not State.UP and not cooling and (self.good >= self.policy.rise or self._is_first):
                self._come_up()
        else:
            self.good, self.bad = 0, self.bad + 1
            # Items have failed as well, so there is no need of a second opinion.
            doubted = self.failures > 0 or self.state is not State.UP
            if doubted or self.bad >= self.policy.fall:
                self.state = State.DOWN
                self.allowed = 0
        return self.state is not before

    @property
    def _is_first(self) -> bool:
        return self.state is State.UNKNOWN

    def _come_up(self) -> None:
        # All at once at the beginning; one by one after an absence, so that a server which is still warming up
        # is not thrown down again.
        self.allowed = self.concurrency if self._is_first else 1
        self.state = State.UP
        self.failures = 0

    def succeeded(self) -> None:
        """An item was served (also: refused for the item's own faults)."""
        self.failures = self.losses = 0
        self.served += 1
        if self.allowed < self.concurrency and self.state is State.UP:
            self.allowed += 1

    def unreachable(self, now: float) -> None:
        """No connection: not usable before the next good check, or for longer if checks are good each time."""
        if self.state is not State.UP:
            return  # the others that were on their way there
        self.losses += 1
        if self.losses >= self.policy.failures:
            self.eject(now)
            return
        self.state = State.DOWN
        self.allowed = 0
        self.good = 0

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """An item failed through the endpoint's fault. Returns whether that ejected it."""
        self.failures += 1
        if self.state is not State.UP or self.failures < self.policy.failures or not may_eject:
            return False
        self.eject(now)
        return True

    def broke_off(self) -> None:
        """A connection broke in the middle. Perhaps just that one, perhaps all: one item at a time will tell."""
        self.allowed = min(self.allowed, 1)

    def eject(self, now: float) -> None:
        if self.served >= self.policy.forgive:
            self.ejections = 0
        cooldown = min(self.policy.cooldown_cap, self.policy.cooldown * 2.0 ** min(self.ejections, 30))
        self.state = State.EJECTED
        self.allowed = 0
        self.ejected_until = now + cooldown
        self.ejections += 1
        self.served = 0
        self.good = 0

    def pause(self, now: float, seconds: float) -> None:
        """It asked for a rest (Retry-After)."""
        self.paused_until = max(self.paused_until, now + seconds)

    def next_check(self, now: float) -> float:
        """Seconds until the next active check."""
        if self.state is State.UP:
            return self.policy.interval
        if self.state is State.EJECTED:
            return max(0.0, min(self.policy.interval, self.ejected_until - now))
        return self.policy.down_interval
