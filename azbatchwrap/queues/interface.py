"""The one interface of all queues. A new queue is one file with a class that passes tests/queues/test_contract.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from azbatchwrap.queues.records import (
    Cancelled,
    Claim,
    Code,
    DeadLetter,
    Held,
    Item,
    Page,
    Put,
    Reaped,
    Refused,
    Result,
    Retry,
    Stats,
)

if TYPE_CHECKING:
    from typing_extensions import Self

#: Reads a message that came from outside: an item, or why it is none. Passed in, for queues know nothing of formats.
Parse: TypeAlias = Callable[[bytes], Item | Refused]

#: A message that was in flight when its worker died this many times is not tried again.
MAX_CRASHES = 3
#: Results, and the memory of which ids are taken, stay this long (seconds).
RETENTION = 7 * 86_400.0
#: Ends of a history that are kept (characters); a message retried for a week must not grow without end.
HISTORY_LENGTH = 4_000
#: What one transaction clears up at most, so that claims never wait long behind it.
REAP_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that a queue itself enforces."""

    max_crashes: int = MAX_CRASHES
    retention: float = RETENTION


class Queue(ABC):
    """Messages with deadlines, each of which ends in exactly one result.

    A claim lasts until its lease (seconds) ends; whoever ends an item shows the claim's token and is refused when it
    is stale. Everything is done in batches. Every method may raise ServiceError; Unreachable and Throttled mean
    "try again". An item whose deadline has passed is never handed out: it ends with DEADLINE_EXCEEDED.
    """

    #: For logs and metrics; holds no password.
    name: str = ""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create what is missing. Raises Unreachable or ConfigurationError."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections. Claims stay claimed until their leases end."""

    @abstractmethod
    async def put(self, items: Sequence[Item]) -> list[Put]:
        """Store items durably; one answer for each, in order."""

    @abstractmethod
    async def refuse(self, refused: Sequence[Refused]) -> None:
        """Keep bytes that are no request as dead letters, each with the result INVALID_REQUEST."""

    @abstractmethod
    async def claim(self, limit: int, lease: float) -> list[Claim]:
        """Up to ``limit`` items, best first, leased for ``lease`` seconds."""

    @abstractmethod
    async def begin(self, claims: Sequence[Claim]) -> list[bool]:
        """Note that these, which have been in a dead worker's hands before, are about to be sent.

        From its second time on a message is charged with a worker's death only if it was noted here.
        """

    @abstractmethod
    async def extend(self, claims: Sequence[Claim], lease: float) -> list[Held]:
        """Heartbeat: the leases end ``lease`` seconds from now."""

    @abstractmethod
    async def complete(self, finished: Sequence[tuple[Claim, Result]]) -> list[bool]:
        """Store the results and end the items. ``False``: the token was stale and nothing was stored."""

    @abstractmethod
    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        """Give items back. ``False``: the token was stale."""

    @abstractmethod
    async def bury(self, buried: Sequence[tuple[Claim, Result]]) -> list[bool]:
        """Store the results and keep the messages as dead letters. ``False``: the token was stale."""

    @abstractmethod
    async def reap(self) -> Reaped:
        """End what expired, free what dead workers held, forget what is past retention: a bounded amount of it."""

    @abstractmethod
    async def cancel(self, ids: Sequence[str]) -> list[Cancelled]:
        """End items with the result CANCELLED: at once, or through their worker when they are in flight."""

    @abstractmethod
    async def results(self, cursor: str, limit: int) -> Page:
        """Stored results after ``cursor`` (``""``: from the first). Reading takes nothing away."""

    @abstractmethod
    async def stats(self) -> Stats: ...

    @abstractmethod
    async def dead_letters(self, ids: Sequence[str] | None = None) -> list[DeadLetter]:
        """All dead letters, or those of ``ids``."""

    @abstractmethod
    async def requeue(self, ids: Sequence[str], deadline: float | None = None) -> list[bool]:
        """Put dead letters back with fresh counts, and a new ``deadline`` if given. Their results are taken back."""

    @abstractmethod
    async def purge(self, ids: Sequence[str]) -> list[bool]:
        """Drop dead letters for good. Their results stay."""


def deadline_result(id: str, attempts: int, now: float, *, status: int | None = None, last: str = "") -> Result:  # noqa: A002
    """The result of a request whose deadline has passed."""
    tried = f"after {attempts} attempt{'s' if attempts != 1 else ''}" if attempts else "before the first attempt"
    text = f"the deadline passed {tried}" + (f"; the last one: {last}" if last else "")
    return Result(id, Code.DEADLINE_EXCEEDED, status, attempts, text, finished=now)
