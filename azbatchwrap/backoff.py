"""How long to wait before the next attempt: pure arithmetic, never sleeps.

Full jitter after Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015):
the delay is drawn evenly from zero to the capped exponential.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Literal

#: A server may ask for patience, but not for more than this many seconds: a wrong date must not stop work for a day.
RETRY_AFTER_CEILING = 300.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """A retry policy.

    ``base`` and ``cap`` are seconds; ``attempts`` counts the first try too (``None``: no limit but the deadline).
    """

    attempts: int | None = 6
    base: float = 0.5
    cap: float = 30.0
    kind: Literal["exponential", "fixed"] = "exponential"
    jitter: bool = True

    def exhausted(self, attempt: int) -> bool:
        """Whether attempt number ``attempt`` (from 1) was the last one."""
        return self.attempts is not None and attempt >= self.attempts

    def delay(
        self,
        attempt: int,
        *,
        retry_after: float | None = None,
        draw: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait after the failed attempt number ``attempt`` (from 1).

        ``retry_after`` (seconds, as the server asked) is a lower bound, clamped to `RETRY_AFTER_CEILING`.
        ``draw`` gives a number from 0 to 1 and is a parameter so that tests need no luck.
        """
        ceiling = self.base if self.kind == "fixed" else min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        wait = ceiling * draw() if self.jitter else ceiling
        if retry_after is not None:
            # Spread callers over a tenth of the time asked for, so that they do not come back all at once.
            asked = min(max(retry_after, 0.0), RETRY_AFTER_CEILING)
            return asked + min(wait, asked * 0.1)
        return wait

    def next_attempt_at(
        self, attempt: int, now: float, deadline: float, *, retry_after: float | None = None
    ) -> float | None:
        """When (same clock as ``now``) the next attempt may start, or ``None`` if none fits before ``deadline``."""
        if self.exhausted(attempt):
            return None
        at = now + self.delay(attempt, retry_after=retry_after)
        return at if at < deadline else None


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds asked for by a Retry-After header: a number of seconds or an HTTP date (RFC 9110, 10.2.3).

    Returns ``None`` for an absent or unreadable header, 0.0 for a date that has passed.
    """
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        return _seconds_until(text, now)
    return seconds if 0.0 <= seconds < float("inf") else None


def _seconds_until(text: str, now: datetime | None) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - (now or datetime.now(timezone.utc))).total_seconds())
