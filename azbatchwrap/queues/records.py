"""What queues hold and hand out: frozen records. Times are Unix seconds, durations seconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

#: Deadlines sort up to here (year 2286, the seed's "never"); later ones count as equal to it.
LATEST_DEADLINE = 9_999_999_999.0
#: One step of priority outweighs every difference between deadlines.
PRIORITY_STEP = 100_000_000_000.0
#: Priorities beyond this would cost the deadlines their fractions of a second in a double.
PRIORITY_LIMIT = 100


class Code(str, Enum):
    """How a request ended."""

    OK = "OK"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    INVALID_REQUEST = "INVALID_REQUEST"
    INFERENCE_ERROR = "INFERENCE_ERROR"
    GATE_DROPPED = "GATE_DROPPED"
    POISONED = "POISONED"


class Put(Enum):
    """What became of an item that was put."""

    STORED = "stored"
    SAME = "same"  # this id with this body is known already: nothing was done
    CONFLICT = "conflict"  # this id is taken by another body


class Held(Enum):
    """What a heartbeat learnt about a claim."""

    KEPT = "kept"
    LOST = "lost"  # reclaimed, expired or finished by somebody else
    CANCELLED = "cancelled"  # still ours, but nobody wants the answer


class Cancelled(Enum):
    """What a cancellation did."""

    DONE = "cancelled"
    REQUESTED = "requested"  # in flight: its worker ends it at its next heartbeat
    FINISHED = "finished"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Item:
    """A request to put. ``body`` is posted as it is; ``meta`` says how (see processor.message)."""

    id: str
    body: bytes
    deadline: float
    priority: int = 0
    meta: bytes = b""
    due: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Tells whether an id came again with the same request. Deadline and priority are no part of it."""
        return hashlib.blake2b(self.meta + b"\0" + self.body, digest_size=16).hexdigest()

    @property
    def rank(self) -> float:
        """Smaller goes first: priority, then deadline."""
        priority = max(-PRIORITY_LIMIT, min(PRIORITY_LIMIT, self.priority))
        return min(self.deadline, LATEST_DEADLINE) - priority * PRIORITY_STEP


@dataclass(frozen=True, slots=True)
class Claim:
    """An item in a worker's hands until its lease ends. ``token`` must come back with whatever ends it.

    ``attempts`` counts requests sent, ``failures`` those of them that may have been worked on, ``crashes`` workers
    that died with it in their hands.
    """

    id: str
    body: bytes
    meta: bytes
    deadline: float
    token: str
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """The one end of a request. ``payload`` is the answer's JSON text; ``status`` the last HTTP status seen."""

    id: str
    code: Code
    status: int | None = None
    attempts: int = 0
    error: str = ""
    payload: bytes = b""
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Give ``claim`` back, to be claimed from ``due`` on, with its new counts."""

    claim: Claim
    due: float
    attempts: int
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message nobody will try again by itself: its raw bytes, and one line of history per thing that happened."""

    id: str
    reason: str
    body: bytes
    meta: bytes
    deadline: float
    history: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes from outside that are no request. ``id`` is made up from the content when none could be read."""

    id: str
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some results in the order they were stored, and where to go on."""

    results: tuple[Result, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one round of clearing up found."""

    expired: int = 0
    reclaimed: int = 0
    poisoned: int = 0
    cancelled: int = 0

    def __bool__(self) -> bool:
        return any((self.expired, self.reclaimed, self.poisoned, self.cancelled))


@dataclass(frozen=True, slots=True)
class Stats:
    """How a queue stands. ``oldest`` and ``slack`` are seconds (``None``: nothing waits): the age of the oldest
    waiting message, and the time left until the earliest deadline of those waiting (negative: it has passed).
    """

    ready: int
    delayed: int
    leased: int
    results: int
    dead: int
    oldest: float | None = None
    slack: float | None = None

    @property
    def open(self) -> int:
        """Messages without a result yet."""
        return self.ready + self.delayed + self.leased


def refused_id(raw: bytes) -> str:
    """The id under which bytes without a readable id are kept: the same bytes get the same id."""
    return f"invalid-{hashlib.blake2b(raw, digest_size=8).hexdigest()}"
