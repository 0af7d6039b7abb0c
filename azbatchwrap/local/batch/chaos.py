"""Faults on request: what a bad day of the real service looks like, at rates the user sets."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from azbatchwrap.local.batch.errors import BatchError

log = logging.getLogger(__name__)

_RATES = frozenset({"throttle", "error", "upload_error", "spot_preemption"})
_QUOTAS = frozenset({"node_quota", "job_quota"})


@dataclass(slots=True)
class Chaos:
    """Rates lie between 0 and 1. The same ``seed`` gives the same sequence of faults for the same requests."""

    #: Share of the requests that are answered with 429 TooManyRequests, and of those answered with 503 ServerBusy.
    #: Neither is carried out.
    throttle: float = 0.0
    error: float = 0.0
    #: Seconds after which a throttled client may come back (its Retry-After).
    retry_after: float = 1.0
    #: Share of the tasks with output files whose upload fails.
    upload_error: float = 0.0
    #: Share of the Spot nodes that are taken away in each minute; they come back empty.
    spot_preemption: float = 0.0
    #: Seconds until new nodes are there.
    allocation_delay: float = 0.0
    #: Seconds that task counts are behind the truth.
    counts_lag: float = 0.0
    #: How many nodes all pools together may have, and how many active jobs there may be: quotas that are soon reached.
    node_quota: int | None = None
    job_quota: int | None = None
    #: Whether jobs may limit their parallel tasks and ask for pre-emption, which on Azure needs the support's approval.
    support_approval: bool = False
    seed: int | None = None
    _random: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> Chaos:
        """From the configuration's ``chaos`` object. Raises ValueError for what is out of range.

        The object may be older than this release: names that are no more are passed over, and an instance starts.
        """
        chaos = cls()
        chaos.change({name: value for name, value in settings.items() if name in NAMES})
        for name in sorted(settings.keys() - set(NAMES)):
            log.warning("the fault %s of the configuration is none of this release", name)
        return chaos

    def change(self, given: Mapping[str, Any]) -> None:
        """Set what is named and leave the rest; all or nothing. Raises ValueError."""
        checked = {name: _checked(name, value) for name, value in _named(given).items()}
        for name, value in checked.items():
            setattr(self, name, value)
        if "seed" in checked:
            self._random.seed(self.seed)

    def view(self) -> dict[str, Any]:
        """The settings in force."""
        return {name: getattr(self, name) for name in NAMES}

    def meet(self) -> None:
        """Raises the fault that this request meets, if it meets one."""
        if not self.throttle and not self.error:
            return
        chance = self._random.random()
        if chance < self.throttle:
            raise BatchError("TooManyRequests", headers=((b"retry-after", b"%d" % round(self.retry_after)),))
        if chance < self.throttle + self.error:
            raise BatchError("ServerBusy")

    def allowed_nodes(self, wanted: int, there: int) -> int:
        """How many of ``wanted`` further nodes the quota leaves room for, beside those that are there."""
        return wanted if self.node_quota is None else max(0, min(wanted, self.node_quota - there))

    def upload_fails(self) -> bool:
        """Whether this task's upload fails."""
        return self.upload_error > 0 and self._random.random() < self.upload_error

    def takes_node(self, seconds: float) -> bool:
        """Whether a Spot node that stood for so long is taken away now."""
        if self.spot_preemption <= 0:
            return False
        stays: float = (1 - self.spot_preemption) ** (seconds / 60)
        return self._random.random() >= stays


#: Names of the settings.
NAMES = tuple(each.name for each in fields(Chaos) if not each.name.startswith("_"))


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    named = {str(name).replace("-", "_"): value for name, value in given.items()}
    unknown = sorted(named.keys() - set(NAMES))
    if unknown:
        raise ValueError(f"chaos knows {', '.join(NAMES)}, not {', '.join(unknown)}")
    return named


def _checked(name: str, value: Any) -> Any:
    if name == "support_approval":
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false, not {value!r}")
        return value
    if name == "seed":
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"seed is a whole number, not {value!r}")
        return value
    if name in _QUOTAS:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"{name} is a whole number from 0 on, or null for none, not {value!r}")
        return value
    most = 1.0 if name in _RATES else 86_400.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{name} is a number from 0 to {most:g}, not {value!r}")
    return float(value)
