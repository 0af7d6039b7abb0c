"""Dry sessions: a script is followed, and nothing is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from azbatchwrap.batch.plan import Plan, counted, planned_files, planned_pool, room_for
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.storage.dry import nothing_written

from .calls import Call
from .outcome import reject

if TYPE_CHECKING:
    from .session import Session

_REFUSAL = (
    "a plan sends nothing, and follows sessions only: for a driver with AzureBatch, plan its manifest "
    "(azbatchwrap plan task.json)"
)
#: While a script is planned: the sessions that it opened.
opened: ContextVar[list[Session] | None] = ContextVar("dry sessions", default=None)


def is_planning() -> bool:
    """Whether a script is being planned: its futures end at once, with nothing."""
    return opened.get() is not None


@contextlib.contextmanager
def dry_sessions() -> Iterator[list[Session]]:
    """Every session opened in this block is dry; they are in the list, and closed at its end.

    Whatever else would write is refused.
    """
    sessions: list[Session] = []
    token = opened.set(sessions)
    with nothing_written(_REFUSAL):
        try:
            yield sessions
        finally:
            opened.reset(token)
            for session in sessions:
                session.close(wait=False, cancel=False)


def take(calls: list[Call]) -> None:
    """Let whoever asks for a result hear that there is none."""
    for call in calls:
        reject(
            call.future,
            ConfigurationError("a dry session sends nothing, so there is no result; plan() tells what it would do"),
        )


def plan_of(session: Session, calls: list[Call], done: int) -> Plan:
    """What these calls would use."""
    manager = session.manager
    sources = session.jobs.sources({call.target.module for call in calls})
    files = {f"app/{name}": file for name, file in sources.items()}
    pool = planned_pool(manager, session.pool_wish())
    return Plan(
        session.name or "session",
        counted(str(call.target) for call in calls),
        planned_files(manager, {**files, **manager.storage.chosen_files()}),
        pool,
        room_for(manager, pool),
        manager.settings.is_local,
        done,
    )
