"""How much one endpoint may be asked to do: pure arithmetic over a clock that is passed in (seconds, any zero).

`AdaptiveLimit` finds out how many requests an endpoint takes at once (additive increase, multiplicative decrease),
`Breaker` stops sending to one that only fails and tries again with one request at a time, `EndpointLimit` joins both
with the pause that an endpoint asks for by Retry-After.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What an answer says about the endpoint, whatever it says about the request."""

    SERVED = "served"  # it did its work, even if the request was wrong
    REFUSED = "refused"  # it has no capacity to spare: 429, or 503 with Retry-After
    FAILED = "failed"  # it is broken: no connection, no answer in time, 5xx
    ABANDONED = "abandoned"  # we broke off, which says nothing


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """``start``, ``maximum``: requests in flight. ``threshold``: failures in a row that open the breaker.

    ``probe_first`` and ``probe_cap`` are the seconds until the first probe and between later ones, doubling.
    """

    start: int = 8
    maximum: int = 64
    threshold: int = 5
    probe_first: float = 0.5
    probe_cap: float = 5.0


#: Seconds in which refusals count as one: they answer requests that left together.
CUT_INTERVAL = 0.1
#: What a cut leaves. Refusals also lower the limit one by one, so this only has to make room for others.
CUT_FACTOR = 0.9
#: Growth beyond the last limit that was refused is this much slower: most attempts to pass it end in a refusal.
CAUTION = 0.05
#: Refusals in a row, without a success between, that mean "go away" rather than "full".
ROW_OF_REFUSALS = 4
#: A pause without a time given by the endpoint (seconds).
DEFAULT_PAUSE = 1.0


@dataclass(slots=True)
class AdaptiveLimit:
    """A limit on requests in flight that follows the endpoint's capacity.

    It doubles per round trip until the first refusal (slow start, as in TCP), then grows by one per round trip;
    beyond the last limit that was refused, it grows ``CAUTION`` times as fast. A refusal with ``n`` in flight says
    that ``n`` are too many, so the limit is ``n - 1`` at once.
    """

    limit: float
    maximum: int
    refused_at: float = math.inf
    cut_at: float = -math.inf

    def served(self) -> None:
        if self.limit >= self.maximum:
            return
        if math.isinf(self.refused_at):
            step = 1.0
        else:
            step = (1.0 if self.limit < self.refused_at - 1.0 else CAUTION) / self.limit
        self.limit = min(float(self.maximum), self.limit + step)

    def refused(self, in_flight: int, now: float) -> None:
        self.refused_at = max(2.0, min(self.limit, float(in_flight)))
        self.limit = min(self.limit, float(max(1, in_flight - 1)))
        if now - self.cut_at >= CUT_INTERVAL:
            self.cut_at = now
            self.limit = max(1.0, self.limit * CUT_FACTOR)


@dataclass(slots=True)
class Breaker:
    """Open after ``threshold`` failures in a row; then one probe at a time, further and further apart."""

    threshold: int
    probe_first: float
    probe_cap: float
    failures: int = 0
    probe_at: float | None = None  # set: open
    probing: bool = False
    waits: int = 0

    @property
    def is_open(self) -> bool:
        return self.probe_at is not None

    def wait(self, now: float) -> float:
        """Seconds until a request may go (0: now; infinite: when the probe in flight is back)."""
        if self.probe_at is None:
            return 0.0
        return math.inf if self.probing else max(0.0, self.probe_at - now)

    def sent(self) -> None:
        self.probing = self.is_open

    def served(self) -> None:
        self.failures, self.waits, self.probe_at, self.probing = 0, 0, None, False

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.is_open and not self.probing:
            return  # it left before the breaker opened: old news
        if self.is_open or self.failures >= self.threshold:
            self.probe_at = now + min(self.probe_cap, self.probe_first * 2.0**self.waits)
            self.waits = min(self.waits + 1, 30)
            self.probing = False

    def abandoned(self) -> None:
        self.probing = False


@dataclass(slots=True)
class EndpointLimit:
    """Asks before each request (`wait`, then `sent`), and learns from each answer (`answered`)."""

    policy: LimitPolicy
    in_flight: int = 0
    paused_until: float = -math.inf
    refusals: int = 0
    adaptive: AdaptiveLimit = field(init=False)
    breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        policy = self.policy
        self.adaptive = AdaptiveLimit(float(min(policy.start, policy.maximum)), policy.maximum)
        self.breaker = Breaker(policy.threshold, policy.probe_first, policy.probe_cap)

    @property
    def limit(self) -> int:
        """Requests that may be in flight; 1 while the breaker is open."""
        return 1 if self.breaker.is_open else int(self.adaptive.limit)

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent (0: now; infinite: when an answer comes)."""
        wait = max(self.breaker.wait(now), self.paused_until - now)
        if wait > 0:
            return wait
        if self.breaker.is_open:
            return 0.0
        return math.inf if self.in_flight >= int(self.adaptive.limit) else 0.0

    def sent(self) -> None:
        self.in_flight += 1
        self.breaker.sent()

    def answered(self, outcome: Outcome, now: float, retry_after: float | None = None) -> None:
        """``retry_after``: seconds that the endpoint asked for."""
        if outcome is Outcome.SERVED:
            self.refusals = 0
            self.breaker.served()
            self.adaptive.served()
        elif outcome is Outcome.REFUSED:
            self._refused(now, retry_after)
        elif outcome is Outcome.FAILED:
            self.breaker.failed(now)
        else:
            self.breaker.abandoned()
        self.in_flight -= 1

    def _refused(self, now: float, retry_after: float | None) -> None:
        # It answers, so it is not broken.
        self.breaker.served()
        self.refusals += 1
        self.adaptive.refused(self.in_flight, now)
        # While others are served, a refusal means "one too many", and the lower limit is the answer to that. Only
        # when nobody is served any more does the whole endpoint get the rest it asked for.
        if self.refusals >= max(ROW_OF_REFUSALS, self.in_flight):
            asked = DEFAULT_PAUSE if retry_after is None else retry_after
            self.paused_until = max(self.paused_until, now + asked)
