"""What to do when an account has no room: wait for it, for a while, or say so at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from azbatchwrap.errors import Conflict
from azbatchwrap.manifest import parse_duration
from azbatchwrap.progress import NullProgress, Progress

_Result = TypeVar("_Result")

#: Seconds to wait for room unless somebody says otherwise: an autoscaled pool tries six times in them.
DEFAULT_PATIENCE = 1800.0
#: Refusals that the end of some pool or job takes away.
PASSING_CODES = frozenset({"ActiveJobAndScheduleQuotaReached", "PoolQuotaReached", "PoolBeingDeleted"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for room, in ``seconds`` (0: not at all), looking every ``interval`` seconds.

    ``clock`` and ``sleep`` are parameters so that tests need no time.
    """

    seconds: float = DEFAULT_PATIENCE
    interval: float = 15.0
    progress: Progress = field(default_factory=NullProgress)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait_out(self, create: Callable[[], _Result]) -> _Result:
        """Call ``create`` until no quota, and nothing that is being deleted, stands in its way.

        Raises its Conflict when patience ends, at once for any other.
        """
        deadline = self.clock() + self.seconds
        told = False
        while True:
            try:
                return create()
            except Conflict as error:
                if error.code not in PASSING_CODES or self.clock() >= deadline:
                    raise
                if not told:
                    self.progress.message(f"waiting for room, {self.seconds:g} s at most: {error}")
                    told = True
            self.sleep(self.interval)


def seconds_of(given: float | str) -> float:
    """A patience as a user writes it: seconds, or ``"30m"``; 0 for none. Raises ManifestError."""
    return 0.0 if given in {0, "0"} else parse_duration(given)
