"""Faults on request: what a bad day of the real service looks like, at rates the user sets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from azbatchwrap.local.batch.errors import BatchError

#: Seconds after which a throttled client may come back.
RETRY_AFTER_SECONDS = 1


@dataclass(slots=True)
class Chaos:
    """Rates lie between 0 and 1. The same ``seed`` gives the same sequence of faults."""

    throttle: float = 0.0
    error: float = 0.0
    #: Seconds until new nodes are there.
    allocation_delay: float = 0.0
    #: Whether jobs may ask for task pre-emption, which on Azure needs the support's approval.
    allow_preemption: bool = False
    _random: random.Random = field(default_factory=random.Random)

    @classmethod
    def load(cls, settings: dict[str, Any]) -> Chaos:
        """From the configuration's ``chaos`` object; unknown names raise ValueError."""
        given = {name.replace("-", "_"): value for name, value in settings.items()}
        chance = random.Random(given.pop("seed", None))
        try:
            return cls(**given, _random=chance)
        except TypeError as error:
            raise ValueError(f"the setting chaos holds an unknown name: {error}") from error

    def meet(self) -> None:
        """Raises the fault that this request meets, if it meets one."""
        if not self.throttle and not self.error:
            return
        chance = self._random.random()
        if chance < self.throttle:
            raise BatchError("TooManyRequests", headers=((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),))
        if chance < self.throttle + self.error:
            raise BatchError("ServerBusy")
