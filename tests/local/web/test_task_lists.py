"""Reading tasks beside the service: what is too slow is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from azbatchwrap.local.batch.store import Store
from azbatchwrap.local.web import task_lists
from azbatchwrap.local.web.query import BadQuery, whole
from azbatchwrap.local.web.task_lists import TaskLists, TooSlow


@pytest.fixture
def lists(tmp_path: Path) -> TaskLists:
    """Of an account without a task, in a folder whose name needs care in an address."""
    folder = tmp_path / "a ?b%20#c"
    folder.mkdir()
    Store(folder / "state.sqlite3").close()
    return TaskLists(folder / "state.sqlite3")


async def test_a_job_without_tasks_has_an_empty_page(lists: TaskLists) -> None:
    assert await lists.page(1, {}) == {"tasks": [], "next": None}
    assert await lists.timeline(1) == {"bars": [], "reasons": []}
    assert await lists.task(1, "none") is None


@pytest.mark.parametrize("state", ["", "waiting", "blocked", "preparing", "running", "succeeded", "failed"])
async def test_every_list_follows_an_index(lists: TaskLists, state: str) -> None:
    where, parameters, order, _ = task_lists._conditions(1, {"state": state, "after": "5.5", "prefix": "x"})
    plan = await lists._read(f"EXPLAIN QUERY PLAN SELECT id FROM tasks {where} ORDER BY {order}", parameters)
    assert len(plan) == 1, plan
    assert plan[0][3].startswith("SEARCH tasks USING")


async def test_a_query_nobody_waits_for_is_given_up(lists: TaskLists, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    monkeypatch.setattr(task_lists, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(TooSlow):
        await lists._read(endless, ())
    assert await lists._read("SELECT 1", ()) == [(1,)]


async def test_the_page_cannot_write(lists: TaskLists) -> None:
    with pytest.raises(Exception, match="readonly"):
        await lists._read("DELETE FROM tasks", ())


@pytest.mark.parametrize("text", ["", "-", "--1", "1.0", "\N{ARABIC-INDIC DIGIT ONE}", "9" * 19])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(BadQuery, match="the cursor is not a whole number"):
        whole(text, "the cursor")


def test_numbers_may_be_negative() -> None:
    assert whole("-15", "the exit code") == -15
