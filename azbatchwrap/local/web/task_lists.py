"""What the page shows of tasks, read from the database by a connection and a thread of its own.

However large a job and however odd a filter, requests to the API never wait for the page.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from azbatchwrap.local.batch.model import COMPLETED
from azbatchwrap.local.web.account import milliseconds
from azbatchwrap.local.web.query import BadQuery, whole

#: Tasks on one page of a list.
PAGE = 100
#: Bars of a timeline, and failures that are looked through for their reasons.
BARS, FAILURES = 600, 500
REASONS = 6
#: A query gives up after so many seconds.
PATIENCE_SECONDS = 3.0
#: SQLite asks whether to go on after so many of its own steps.
STEPS_BETWEEN_LOOKS = 20_000
#: Sorts after every character that an id may hold.
_LAST = "\U0010ffff"

_SHOWN = "seq, id, state, since, node, execution, started, ended, exit_code, failed, slots, display"
#: filter -> (condition, index of states in use, newest first)
_BY_STATE = {
    "waiting": ("state = 0", False),
    "blocked": ("state = 1", False),
    "preparing": ("state = 2", False),
    "running": ("state = 3", False),
    "succeeded": ("state = 4 AND failed = 0", True),
    "failed": ("state = 4 AND failed = 1", True),
}
_STATES = ("waiting", "blocked", "preparing", "running")


class TooSlow(Exception):
    """The query would take longer than anybody looking at a page waits."""


class TaskLists:
    """Reads tasks of any job, by the job's number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="page")
        self._database: sqlite3.Connection | None = None
        self._deadline = 0.0

    async def page(self, job: int, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of tasks: ``state`` (see `_BY_STATE`), ``prefix`` of the id, ``exit`` code, a part of the
        ``node``'s id, ``after`` a cursor.

        Without a state in order of ids, else by the time they entered it. Raises BadQuery, TooSlow.
        """
        where, parameters, order, by_time = _conditions(job, query)
        sql = f"SELECT {_SHOWN} FROM tasks {where} ORDER BY {order} LIMIT {PAGE + 1}"  # noqa: S608 - constants
        rows = await self._read(sql, parameters)
        shown = rows[:PAGE]
        following = None
        if len(rows) > PAGE:
            following = f"{shown[-1][3]}.{shown[-1][0]}" if by_time else shown[-1][1]
        return {"tasks": [_line(row) for row in shown], "next": following}

    async def task(self, job: int, task_id: str) -> dict[str, Any] | None:
        """Everything about one task, but what is secret; None when there is no such task."""
        rows = await self._read(
            f"SELECT {_SHOWN}, body, created FROM tasks WHERE job = ? AND id = ?",  # noqa: S608 - constants
            (job, task_id),
        )
        return _whole(rows[0]) if rows else None

    async def timeline(self, job: int) -> dict[str, Any]:
        """The bars of the tasks that run and of those that ended last, and why tasks failed lately."""
        columns = "id, state, node, started, ended, failed"
        rows = await self._read(
            f"SELECT * FROM (SELECT {columns} FROM tasks INDEXED BY task_states WHERE job = ? AND state = 3"  # noqa: S608
            f" LIMIT {BARS}) UNION ALL SELECT * FROM (SELECT {columns} FROM tasks INDEXED BY task_states"
            f" WHERE job = ? AND state = 4 ORDER BY since DESC LIMIT {BARS})",
            (job, job),
        )
        bars = [_bar(row) for row in rows if row[3] is not None and row[2]]
        failed = await self._read(
            "SELECT id, exit_code, execution FROM tasks INDEXED BY task_failures WHERE job = ? AND failed = 1"
            " ORDER BY since DESC LIMIT ?",
            (job, FAILURES),
        )
        return {"bars": bars[:BARS], "reasons": _reasons(failed)}

    async def _read(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_now, sql, parameters)

    def _read_now(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._database is None:
            self._database = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
            self._database.execute("PRAGMA query_only=1")
            self._database.set_progress_handler(self._is_late, STEPS_BETWEEN_LOOKS)
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            return self._database.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if time.monotonic() < self._deadline:
                raise
            raise TooSlow from error

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline


def _conditions(job: int, query: Mapping[str, str]) -> tuple[str, list[Any], str, bool]:
    """(FROM's rest, parameters, order, whether the order is one of time)."""
    state, prefix, exit_code, after = (query.get(name, "") for name in ("state", "prefix", "exit", "after"))
    if state and state not in _BY_STATE:
        raise BadQuery(f"there is no state {state[:32]!r}")
    index = "task_ids" if not state else "task_failures" if state == "failed" else "task_states"
    where = ["job = ?"]
    parameters: list[Any] = [job]
    newest_first = False
    if state:
        condition, newest_first = _BY_STATE[state]
        where.append(condition)
    if prefix:
        where.append("id >= ? AND id < ?")
        parameters += [prefix, prefix + _LAST]
    if exit_code:
        where.append("exit_code = ?")
        parameters.append(whole(exit_code, "the exit code"))
    if node := query.get("node", ""):
        where.append("instr(node, ?) > 0")
        parameters.append(node.lower())
    if after and state:
        since, _, seq = after.partition(".")
        where.append(f"(since, seq) {'<' if newest_first else '>'} (?, ?)")
        parameters += [whole(since, "the cursor"), whole(seq, "the cursor")]
    elif after:
        where.append("id > ?")
        parameters.append(after)
    direction = " DESC" if newest_first else ""
    order = f"since{direction}, seq{direction}" if state else "id"
    return f"INDEXED BY {index} WHERE {' AND '.join(where)}", parameters, order, bool(state)


def _line(row: tuple[Any, ...]) -> dict[str, Any]:
    _seq, task_id, state, since, node, execution, started, ended, exit_code, failed, _slots, display = row[:12]
    told = orjson.loads(execution) if execution else {}
    return {
        "id": task_id,
        "name": display,
        "state": _STATES[state] if state < COMPLETED else "failed" if failed else "succeeded",
        "since": milliseconds(since),
        "node": node or None,
        "started": milliseconds(started),
        "ended": milliseconds(ended),
        "exit": exit_code,
        "failure": told.get("failureInfo"),
        "retries": told.get("retryCount", 0),
        "requeues": told.get("requeueCount", 0),
    }


def _whole(row: tuple[Any, ...]) -> dict[str, Any]:
    body = orjson.loads(row[12])
    needs = body.get("dependsOn") or {}
    return {
        **_line(row),
        "slots": row[10],
        "created": milliseconds(row[13]),
        "command": body["commandLine"],
        "constraints": body["constraints"],
        "container": (body.get("containerSettings") or {}).get("imageName"),
        "instances": (body.get("multiInstanceSettings") or {}).get("numberOfInstances"),
        # Names alone: values may be secrets, and addresses carry signatures.
        "environment": sorted(each["name"] for each in body.get("environmentSettings") or ()),
        "resources": [_resource(each) for each in body.get("resourceFiles") or ()],
        "outputs": [each["filePattern"] for each in body.get("outputFiles") or ()],
        "needs": [
            *needs.get("taskIds", ()),
            *(f"{each['start']} to {each['end']}" for each in needs.get("taskIdRanges", ())),
        ],
    }


def _resource(file: Mapping[str, Any]) -> str:
    """Where a resource file goes, or comes from, without the signature of its address."""
    address = urlsplit(file.get("httpUrl") or file.get("storageContainerUrl") or "")
    return str(file.get("filePath") or address.path or file.get("autoStorageContainerName") or "")


def _bar(row: tuple[Any, ...]) -> list[Any]:
    """[task, node, start, end or None, state]: short, for there are many."""
    task_id, state, node, started, ended, failed = row
    name = "running" if state < COMPLETED else "failed" if failed else "succeeded"
    return [task_id, node, milliseconds(started), milliseconds(ended), name]


def _reasons(rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The commonest reasons among these failures, each with its latest task."""
    counts: Counter[tuple[str, str, int | None]] = Counter()
    latest: dict[tuple[str, str, int | None], str] = {}
    for task_id, exit_code, execution in rows:
        failure = (orjson.loads(execution) if execution else {}).get("failureInfo") or {}
        reason = (failure.get("code", "unknown"), failure.get("message", ""), exit_code)
        counts[reason] += 1
        latest.setdefault(reason, task_id)
    return [
        {"code": code, "message": message, "exit": exit_code, "count": count, "task": latest[code, message, exit_code]}
        for (code, message, exit_code), count in counts.most_common(REASONS)
    ]
