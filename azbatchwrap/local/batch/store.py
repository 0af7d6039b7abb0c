"""Everything durable: one SQLite file, one writer, commits shared by the requests that wait for them."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

#: Changes nobody waits for (a task began, a task ended) are committed together, at most this much later. Reading
#: answers wait for the commit of what they show, so that a kill takes nothing back that a client has seen.
LAZY_COMMIT_SECONDS = 0.01
#: After a full disk, room is looked for this often.
RETRY_SECONDS = 1.0
#: Space put aside for recording the ends of what runs when the disk is full.
RESERVE_BYTES = 4 * 1024 * 1024
ROOM_AGAIN_BYTES = 2 * RESERVE_BYTES
#: The log of changes is folded into the database by a thread once it has so many pages of 4 KiB.
CHECKPOINT_PAGES = 4000
PAGE_BYTES = 4096
#: A log longer than this (64 MiB) is begun anew at the next chance.
LONGEST_LOG_PAGES = 16_000
#: Pages of the database that the process keeps: 8 MiB.
CACHE_KIB = 8192

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, key TEXT NOT NULL COLLATE NOCASE, body BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    id TEXT NOT NULL COLLATE NOCASE,
    state INTEGER NOT NULL,
    since INTEGER NOT NULL,
    previous INTEGER,
    previous_since INTEGER,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    retention INTEGER,
    display TEXT,
    body BLOB NOT NULL,
    node TEXT,
    execution BLOB,
    started INTEGER,
    ended INTEGER,
    exit_code INTEGER,
    failed INTEGER,
    pid INTEGER,
    pid_start INTEGER,
    unmet INTEGER NOT NULL DEFAULT 0,
    number INTEGER,
    satisfied INTEGER NOT NULL DEFAULT 0,
    usage BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS task_ids ON tasks (job, id);
CREATE INDEX IF NOT EXISTS task_states ON tasks (job, state, since);
CREATE INDEX IF NOT EXISTS task_failures ON tasks (job, since) WHERE failed = 1;
CREATE INDEX IF NOT EXISTS task_numbers ON tasks (job, number) WHERE number IS NOT NULL;
CREATE TABLE IF NOT EXISTS needs (
    job INTEGER NOT NULL, parent TEXT NOT NULL COLLATE NOCASE, child INTEGER NOT NULL,
    PRIMARY KEY (job, parent, child)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS needs_children ON needs (child);
CREATE TABLE IF NOT EXISTS need_ranges (
    job INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, child INTEGER NOT NULL,
    PRIMARY KEY (job, low, high, child)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS need_ranges_children ON need_ranges (child);
CREATE TABLE IF NOT EXISTS subtasks (
    task INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (task, number)
) WITHOUT ROWID;
"""


class Store:
    """The database of one account. Used from the event loop's thread alone, but for the folding of the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        for pragma in (
            "journal_mode=WAL",
            # The change log outlives the process at every commit, and a power cut leaves a sound database.
            "synchronous=NORMAL",
            f"cache_size=-{CACHE_KIB}",
            "wal_autocheckpoint=0",
            "temp_store=MEMORY",
        ):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)
        self._add_columns()
        self._waiting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._folding: asyncio.Future[None] | None = None
        #: Commits so far: what has not changed since need not be read again.
        self.changes = 0
        self._journal: list[tuple[str, Any, bool]] = []
        self._reserve = path.with_name("reserve")
        self.is_open = False
        #: The disk is full: nothing new can be taken on.
        self.is_short = False
        self._make_reserve()
        #: Called before every commit, to write what is counted in memory.
        self.before_commit: list[Callable[[], None]] = []

    def _add_columns(self) -> None:
        """What a data folder of an earlier version lacks."""
        there = {row[1] for row in self._database.execute("PRAGMA table_info(tasks)")}
        if "usage" not in there:
            self._database.execute("ALTER TABLE tasks ADD COLUMN usage BLOB")

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._database.execute(sql, parameters)

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        if not self.is_open:
            self._begin()
        self._journal.append((sql, parameters, False))
        try:
            return self._database.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            return self._recover(error)

    def write_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
        if not self.is_open:
            self._begin()
        self._journal.append((sql, rows, True))
        try:
            return self._database.executemany(sql, rows)
        except sqlite3.OperationalError as error:
            return self._recover(error)

    def _begin(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self.is_open = True
        self._timer = asyncio.get_running_loop().call_later(LAZY_COMMIT_SECONDS, self.commit)

    def _recover(self, error: sqlite3.OperationalError) -> sqlite3.Cursor:
        """The disk is full and SQLite took the transaction back: give up the reserve and repeat what was written.

        New work is refused from then on, until there is room again; what runs can still be recorded.
        """
        if self._database.in_transaction:
            raise error
        log.error("the data folder cannot be written (%s); using the reserve", error)
        self._reserve.unlink(missing_ok=True)
        self.is_short = True
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_for_room)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            cursor = self._database.cursor()
            for sql, parameters, is_many in self._journal:
                cursor = (
                    self._database.executemany(sql, parameters) if is_many else self._database.execute(sql, parameters)
                )
        except sqlite3.OperationalError as problem:
            # Memory and disk have parted: only a new start, from the disk, brings them together.
            log.critical("the data folder cannot be written at all, the service ends: %s", problem)
            os._exit(4)
        return cursor

    def _look_for_room(self) -> None:
        status = os.statvfs(self.path.parent)
        if status.f_bavail * status.f_frsize < ROOM_AGAIN_BYTES:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_for_room)
            return
        self._make_reserve()

    def _make_reserve(self) -> None:
        """Put space aside for the day the disk is full."""
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            log.warning("no space for a reserve of %d bytes: %s", RESERVE_BYTES, error)
            self._reserve.unlink(missing_ok=True)
            self.is_short = True
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_for_room)
            return
        self.is_short = False

    async def committed(self) -> None:
        """Returns once every change made so far is on disk; requests of one turn of the loop share the commit."""
        if not self.is_open:
            return
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            loop.call_soon(self.commit)
        await asyncio.shield(self._waiting)

    def commit(self) -> None:
        """Commit what is open, and answer those who wait for it."""
        if not self.is_open:
            return
        for hook in self.before_commit:
            hook()
        try:
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._recover(error)
            self._database.execute("COMMIT")
        self._journal.clear()
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        self.changes += 1
        if self.changes % 256 == 0:
            self._fold()

    def _fold(self) -> None:
        """Fold the log into the database in a thread, so that no request waits for the disk."""
        if self._folding is not None or self._log_size() < CHECKPOINT_PAGES * PAGE_BYTES:
            return
        self._folding = asyncio.get_running_loop().run_in_executor(None, self._fold_now)
        self._folding.add_done_callback(self._folded)

    def _fold_now(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            connection.close()

    def _folded(self, folding: asyncio.Future[None]) -> None:
        self._folding = None
        if folding.exception() is not None:
            log.warning("folding the change log failed: %s", folding.exception())
        elif not self.is_open and self._log_size() > LONGEST_LOG_PAGES * PAGE_BYTES:
            # Little is left to fold: begin the log anew before it grows further.
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _log_size(self) -> int:
        return self.path.with_name(self.path.name + "-wal").stat().st_size

    def close(self) -> None:
        self.commit()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._database.close()

    def save(self, kind: str, key: str, body: dict[str, Any]) -> None:
        """Write a document (pool, node, job, …) whole."""
        self.write("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (kind, key, orjson.dumps(body)))

    def drop(self, kind: str, key: str) -> None:
        self.write("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))

    def load(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, body in self.read("SELECT key, body FROM documents WHERE kind = ? ORDER BY key", (kind,)).fetchall():
            yield key, orjson.loads(body)
