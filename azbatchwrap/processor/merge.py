"""Merge policies: from which of several queues (or tenants) the next request is taken.

The worker keeps a few claimed requests of every lane at hand; a policy picks the lane. Source of random-robin: the
seed's "Random Robin Policy", which picks evenly among the queues that have something.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from azbatchwrap.errors import ConfigurationError

if TYPE_CHECKING:
    from azbatchwrap.processor.backlog import Flight


@dataclass(slots=True, eq=False)
class Lane:
    """Claimed requests of one queue, or of one tenant in it. ``tier``: smaller goes first. ``weight``: share."""

    name: str
    weight: float = 1.0
    tier: int = 0
    flights: deque[Flight] = field(default_factory=deque)
    credit: float = 0.0


Pick = Callable[[Sequence[Lane]], Lane]


def random_robin(lanes: Sequence[Lane]) -> Lane:
    return random.choice(lanes)


def weighted(lanes: Sequence[Lane]) -> Lane:
    """Smooth weighted round robin, as nginx does it: shares are exact over time, and no lane comes in bursts."""
    for lane in lanes:
        lane.credit += lane.weight
    chosen = max(lanes, key=lambda lane: lane.credit)
    chosen.credit -= sum(lane.weight for lane in lanes)
    return chosen


def fair(lanes: Sequence[Lane]) -> Lane:
    """Every tenant the same share, however much each has waiting."""
    for lane in lanes:
        lane.credit += 1.0
    chosen = max(lanes, key=lambda lane: lane.credit)
    chosen.credit -= len(lanes)
    return chosen


def tier_priority(lanes: Sequence[Lane]) -> Lane:
    """The lowest tier that has something; within it, each queue in turn."""
    first = min(lane.tier for lane in lanes)
    return fair([lane for lane in lanes if lane.tier == first])


def earliest_deadline(lanes: Sequence[Lane]) -> Lane:
    return min(lanes, key=lambda lane: lane.flights[0].claim.deadline)


POLICIES: dict[str, Pick] = {
    "random-robin": random_robin,
    "weighted": weighted,
    "tier-priority": tier_priority,
    "earliest-deadline": earliest_deadline,
    "fair": fair,
}


def policy(name: str) -> Pick:
    """The policy of this name. Raises ConfigurationError."""
    try:
        return POLICIES[name]
    except KeyError:
        known = ", ".join(POLICIES)
        raise ConfigurationError(f"the request merge policy {name!r} is not known; there are {known}") from None
