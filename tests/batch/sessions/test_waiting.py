"""What waiting costs: requests for what changed, however many tasks there are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from azbatchwrap.batch.sessions import Session
from azbatchwrap.batch.sessions.watcher import READERS
from tests.waiting import wait_until

DEADLINE = 60.0
#: Tasks, more than one page of a list holds, and looks at them.
WAITING, LOOKS = 1_100, 10
Open = Callable[..., Session]


def test_waiting_costs_what_changed(
    open_session: Open, work: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")

    def asked(part: str) -> list[str]:
        """The requests whose address has this part, as the HTTP client logs them."""
        return [line for line in caplog.messages if " HTTP/1.1" in line and part in line]

    one_slot = open_session().manager.create_pool(node_count=1, slots_per_node=1)
    session = open_session(pool=one_slot)
    blocking = session.submit(work.wait_for, str(tmp_path / "go"))
    wait_until(blocking.running, "the task that holds up the others")
    waiting = session.map(work.square, range(WAITING))
    wait_until(lambda: all(future.job_id for future in waiting), "all tasks to be sent")

    caplog.clear()
    wait_until(lambda: len(asked("/tasks?")) >= LOOKS, "looks at the tasks")
    assert asked("skiptoken") == []
    assert asked("result.json") == []

    caplog.clear()
    (tmp_path / "go").touch()
    assert blocking.result(DEADLINE) == "went"
    assert [future.result(DEADLINE) for future in waiting[:5]] == [0, 1, 4, 9, 16]
    assert asked("skiptoken") == []
    # What is being read at this moment has not settled its future yet.
    assert 5 < len(asked("result.json")) <= sum(future.done() for future in (blocking, *waiting)) + READERS
    session.manager.delete_pool(one_slot)
