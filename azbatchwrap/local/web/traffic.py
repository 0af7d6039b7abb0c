"""What the service answered lately: requests and refusals of every second, and the last refusals themselves."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

#: Seconds that are remembered.
WINDOW = 120
#: Refusals that are remembered.
KEPT_REFUSALS = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of 400 and above. ``moment`` is in milliseconds since 1970."""

    moment: int
    method: str
    path: str
    status: int
    code: str

    def view(self) -> dict[str, Any]:
        return {
            "time": self.moment,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "code": self.code,
        }


class Traffic:
    """A ring of seconds. Counting costs a fraction of a microsecond and never waits."""

    __slots__ = ("_failed", "_requests", "_second", "refusals", "total")

    def __init__(self) -> None:
        self._requests = [0] * WINDOW
        self._failed = [0] * WINDOW
        self._second = int(time.monotonic())
        self.total = 0
        self.refusals: deque[Refusal] = deque(maxlen=KEPT_REFUSALS)

    def count(self, status: int) -> None:
        """One request was answered."""
        second = int(time.monotonic())
        if second != self._second:
            self._turn(second)
        self._requests[second % WINDOW] += 1
        self.total += 1
        if status >= 400:
            self._failed[second % WINDOW] += 1

    def refused(self, method: str, path: str, status: int, code: str) -> None:
        """Remember a refusal; ``path`` comes without its query, which may hold filters of any length."""
        if status >= 400:
            self.refusals.append(Refusal(time.time_ns() // 1_000_000, method, path[:512], status, code))

    @property
    def is_quiet(self) -> bool:
        """Whether nothing came for so long that the picture stands still."""
        return int(time.monotonic()) - self._second >= WINDOW

    def _turn(self, second: int) -> None:
        """Empty the seconds in which nothing came."""
        for passed in range(self._second + 1, min(second, self._second + WINDOW) + 1):
            self._requests[passed % WINDOW] = self._failed[passed % WINDOW] = 0
        self._second = second

    def view(self) -> dict[str, Any]:
        """Requests and refusals of the last complete seconds, the oldest first."""
        second = int(time.monotonic())
        if second != self._second:
            self._turn(second)
        order = [index % WINDOW for index in range(second + 1, second + WINDOW)]
        return {
            "requests": [self._requests[index] for index in order],
            "failed": [self._failed[index] for index in order],
            "total": self.total,
        }
