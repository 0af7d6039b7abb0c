"""The tasks of all jobs, in SQLite: rows in, rows out. What the states mean is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from azbatchwrap.local.batch import odata
from azbatchwrap.local.batch.model import TaskRow
from azbatchwrap.local.batch.store import Store

#: What an answer about a task is made of, in this order.
SHOWN = (
    "seq, id, display, modified, created, state, since, previous, previous_since, body, node, execution, started,"
    " ended, exit_code, failed, usage"
)
#: Rows fetched at a time for the scheduler.
WINDOW = 128
#: Rows deleted at a time, so that other requests get their turn.
DELETE_CHUNK = 1000

#: Where the properties of ``$filter`` lie.
COLUMNS = {
    "id": odata.Column("id", "nocase"),
    "state": odata.Column("max(state, 1)", "enum", {"active": 1, "preparing": 2, "running": 3, "completed": 4}),
    "stateTransitionTime": odata.Column("since", "ticks"),
    "creationTime": odata.Column("created", "ticks"),
    "lastModified": odata.Column("modified", "ticks"),
    "executionInfo/startTime": odata.Column("started", "ticks"),
    "executionInfo/endTime": odata.Column("ended", "ticks"),
    "executionInfo/exitCode": odata.Column("exit_code", "int"),
    "executionInfo/result": odata.Column("failed", "enum", {"success": 0, "failure": 1}),
}
_INSERT = (
    "INSERT INTO tasks (job, id, state, since, created, modified, slots, retention, display, body, unmet, number)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class TaskTable:
    """Queries over the tasks table."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def insert(self, rows: Sequence[Sequence[Any]]) -> None:
        self._store.write_many(_INSERT, rows)

    def existing(self, job: int, ids: Sequence[str]) -> set[str]:
        """Which of these ids are taken, lower-case."""
        marks = ",".join("?" * len(ids))
        found = self._store.read(f"SELECT id FROM tasks WHERE job = ? AND id IN ({marks})", (job, *ids))  # noqa: S608
        return {row[0].lower() for row in found}

    def shown(self, job: int, task_id: str) -> tuple[Any, ...] | None:
        """The `SHOWN` columns of one task."""
        row: tuple[Any, ...] | None = self._store.read(
            f"SELECT {SHOWN} FROM tasks WHERE job = ? AND id = ?",  # noqa: S608 - constants
            (job, task_id),
        ).fetchone()
        return row

    def page(self, where: str, parameters: Sequence[Any], order: str, limit: int) -> list[tuple[Any, ...]]:
        sql = f"SELECT {SHOWN} FROM tasks WHERE {where} ORDER BY {order} LIMIT {limit}"  # noqa: S608 - ours
        return self._store.read(sql, parameters).fetchall()

    def ready(self, job: int, widest: int, passed_over: set[int]) -> list[TaskRow]:
        """The next tasks to place, those longest ready first, none that needs more slots than a node has."""
        found = self._store.read(
            "SELECT seq, id, slots, body, execution, created FROM tasks WHERE job = ? AND state = 0 AND slots <= ?"
            " ORDER BY since, seq LIMIT ?",
            (job, widest, WINDOW + len(passed_over)),
        )
        return [TaskRow(*row) for row in found if row[0] not in passed_over]

    def began(
        self,
        seq: int,
        state: int,
        now: int,
        *,
        node: str,
        execution: bytes,
        started: int | None,
        process: tuple[int, int],
    ) -> None:
        """Enter PREPARING or RUNNING on a node."""
        self._store.write(
            "UPDATE tasks SET previous = state, previous_since = since, state = ?, since = ?, node = ?,"
            " execution = ?, started = ?, ended = NULL, exit_code = NULL, failed = NULL, pid = ?, pid_start = ?"
            " WHERE seq = ?",
            (state, now, node, execution, started, *process, seq),
        )

    def attempted(self, seq: int, execution: bytes, started: int | None, process: tuple[int, int]) -> None:
        """Another attempt of a running task."""
        self._store.write(
            "UPDATE tasks SET execution = ?, started = ?, pid = ?, pid_start = ? WHERE seq = ?",
            (execution, started, *process, seq),
        )

    def ended(
        self,
        seq: int,
        now: int,
        execution: bytes,
        exit_code: int | None,
        *,
        failed: bool,
        satisfied: bool,
        started: int | None,
        usage: bytes | None = None,
    ) -> None:
        self._store.write(
            "UPDATE tasks SET previous = state, previous_since = since, state = 4, since = ?, execution = ?,"
            " started = ?, ended = ?, exit_code = ?, failed = ?, satisfied = ?, usage = ?, pid = NULL,"
            " pid_start = NULL, node = COALESCE(node, '') WHERE seq = ?",
            (now, execution, started, now, exit_code, failed, satisfied, usage, seq),
        )

    def again(self, seq: int, now: int, execution: bytes | None) -> None:
        """Back to READY."""
        self._store.write(
            "UPDATE tasks SET previous = state, previous_since = since, state = 0, since = ?, execution = ?,"
            " node = NULL, started = NULL, ended = NULL, exit_code = NULL, failed = NULL, satisfied = 0,"
            " usage = NULL, pid = NULL, pid_start = NULL WHERE seq = ?",
            (now, execution, seq),
        )

    def in_flight(self, job: int) -> list[tuple[int, int, int, bytes | None, int | None, int | None]]:
        """Tasks that the database holds as preparing or running: (seq, state, slots, execution, pid, start)."""
        return self._store.read(
            "SELECT seq, state, slots, execution, pid, pid_start FROM tasks WHERE job = ? AND state IN (2, 3)",
            (job,),
        ).fetchall()

    def delete(self, seq: int) -> None:
        for sql in (
            "DELETE FROM needs WHERE child = ?",
            "DELETE FROM need_ranges WHERE child = ?",
            "DELETE FROM subtasks WHERE task = ?",
            "DELETE FROM tasks WHERE seq = ?",
        ):
            self._store.write(sql, (seq,))

    def delete_some(self, job: int) -> bool:
        """Delete some rows of a job that goes away; False once there are none."""
        rows = self._store.read("SELECT seq FROM tasks WHERE job = ? LIMIT ?", (job, DELETE_CHUNK)).fetchall()
        if not rows:
            self._store.write("DELETE FROM needs WHERE job = ?", (job,))
            self._store.write("DELETE FROM need_ranges WHERE job = ?", (job,))
            return False
        self._store.write_many("DELETE FROM subtasks WHERE task = ?", rows)
        self._store.write_many("DELETE FROM tasks WHERE seq = ?", rows)
        return True

    def require(self, job: int, seq: int, parents: Iterable[str], ranges: Iterable[tuple[int, int]]) -> int:
        """Record what a new task depends on; the number of those not satisfied yet."""
        unmet = 0
        for parent in dict.fromkeys(parent.lower() for parent in parents):
            self._store.write("INSERT INTO needs VALUES (?, ?, ?)", (job, parent, seq))
            found = self._store.read("SELECT satisfied FROM tasks WHERE job = ? AND id = ?", (job, parent)).fetchone()
            unmet += 0 if found and found[0] else 1
        for low, high in dict.fromkeys(ranges):
            self._store.write("INSERT INTO need_ranges VALUES (?, ?, ?, ?)", (job, low, high, seq))
            (met,) = self._store.read(
                "SELECT COUNT(DISTINCT number) FROM tasks WHERE job = ? AND number BETWEEN ? AND ? AND satisfied",
                (job, low, high),
            ).fetchone()
            unmet += high - low + 1 - met
        return unmet

    def release(self, job: int, seq: int, task_id: str, number: int | None) -> list[tuple[int, int]]:
        """A task is satisfied: count it off from its dependents. Returns (seq, slots) of those now READY."""
        children = [row[0] for row in self._store.read(
            "SELECT child FROM needs WHERE job = ? AND parent = ?", (job, task_id)
        )]  # fmt: skip
        if number is not None and not self._is_counted(job, seq, number):
            children += [row[0] for row in self._store.read(
                "SELECT child FROM need_ranges WHERE job = ? AND low <= ? AND high >= ?", (job, number, number)
            )]  # fmt: skip
        if not children:
            return []
        self._store.write_many("UPDATE tasks SET unmet = unmet - 1 WHERE seq = ?", [(child,) for child in children])
        freed = []
        for child in dict.fromkeys(children):
            row = self._store.read(
                "SELECT slots FROM tasks WHERE seq = ? AND state = 1 AND unmet <= 0", (child,)
            ).fetchone()
            if row:
                self._store.write("UPDATE tasks SET state = 0 WHERE seq = ?", (child,))
                freed.append((child, row[0]))
        return freed

    def _is_counted(self, job: int, seq: int, number: int) -> bool:
        """Whether another task with the same number ("4" and "04") is satisfied already."""
        found = self._store.read(
            "SELECT 1 FROM tasks WHERE job = ? AND number = ? AND satisfied AND seq <> ?", (job, number, seq)
        ).fetchone()
        return found is not None
