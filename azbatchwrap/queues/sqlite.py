"""A queue in one SQLite file: nothing to install, durable to the disk, shared by processes of one machine.

Every change is in a transaction that is on the disk before the caller hears of it (WAL, synchronous=FULL). One thread
per queue object takes whatever changes have gathered while the last transaction was written and commits them together.
"""

# ruff: noqa: S608  only this module's own constants are pasted into SQL, never a value from outside

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from azbatchwrap.errors import ConfigurationError, ServiceError, Throttled
from azbatchwrap.queues.interface import HISTORY_LENGTH, REAP_LIMIT, Policy, Queue, deadline_result
from azbatchwrap.queues.records import (
    LATEST_DEADLINE,
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

T = TypeVar("T")

#: States of a message row. Finished ones have no row: their id lives in ``results``.
READY, DELAYED, LEASED = 0, 1, 2

#: Other processes hold the write lock for milliseconds; a disk that stalls may take longer (seconds).
BUSY_TIMEOUT = 30.0
#: KiB of pages kept in memory: the upper levels of all indexes of a million messages.
CACHE_SIZE = 16_384
#: Pages in the log before they go to their places: a page that changes often goes there once.
CHECKPOINT_PAGES = 4_000
#: Changes that one transaction takes at most.
GROUP_LIMIT = 256
#: Delayed messages that one claim moves to the ready ones at most.
PROMOTE_LIMIT = 500
#: The first version that knows RETURNING.
OLDEST_SQLITE = (3, 35)
#: The layout of the file, in its user_version.
LAYOUT = 1

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    rank REAL NOT NULL,
    due REAL NOT NULL,
    deadline REAL NOT NULL,
    created REAL NOT NULL,
    fingerprint TEXT NOT NULL,
    meta BLOB NOT NULL,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    started INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    lease REAL,
    history TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS ready ON messages (rank, seq) WHERE state = {READY};
CREATE INDEX IF NOT EXISTS delayed ON messages (due) WHERE state = {DELAYED};
CREATE INDEX IF NOT EXISTS leased ON messages (lease) WHERE state = {LEASED};
CREATE INDEX IF NOT EXISTS deadlines ON messages (deadline) WHERE state < {LEASED};
CREATE TABLE IF NOT EXISTS results (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    code TEXT NOT NULL,
    status INTEGER,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    payload BLOB NOT NULL,
    finished REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS dead (
    id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    rank REAL NOT NULL,
    deadline REAL NOT NULL,
    meta BLOB NOT NULL,
    body BLOB NOT NULL,
    history TEXT NOT NULL,
    at REAL NOT NULL
);
PRAGMA user_version = {LAYOUT};
"""

_ADD = """INSERT INTO messages (id, state, rank, due, deadline, created, fingerprint, meta, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_PROMOTE = f"""UPDATE messages SET state = {READY} WHERE seq IN
(SELECT seq FROM messages WHERE state = {DELAYED} AND due <= ? ORDER BY due LIMIT {PROMOTE_LIMIT})"""
_CLAIM = f"""UPDATE messages SET state = {LEASED}, token = ?, lease = ?, started = (crashes = 0) WHERE seq IN
(SELECT seq FROM messages WHERE state = {READY} ORDER BY rank, seq LIMIT ?)
RETURNING rank, seq, id, body, meta, deadline, attempts, failures, crashes, created"""
_EXPIRED = f"""SELECT id, attempts, history FROM messages WHERE state < {LEASED} AND deadline <= ?
ORDER BY deadline LIMIT {REAP_LIMIT}"""
_LOST = f"""SELECT id, attempts, crashes + started, cancelled, deadline, history FROM messages
WHERE state = {LEASED} AND lease <= ? ORDER BY lease LIMIT {REAP_LIMIT}"""
_FREE = f"""UPDATE messages SET state = {READY}, token = NULL, lease = NULL, crashes = ?,
history = substr(history || ?, -{HISTORY_LENGTH}) WHERE id = ?"""
_GIVE_BACK = f"""UPDATE messages SET state = CASE WHEN ? > ? THEN {DELAYED} ELSE {READY} END, due = ?, token = NULL,
lease = NULL, attempts = ?, failures = ?, history = substr(history || ?, -{HISTORY_LENGTH})
WHERE id = ? AND token = ? AND cancelled = 0"""
_STORE = """INSERT INTO results (id, fingerprint, code, status, attempts, error, payload, finished)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_BURY = """INSERT OR REPLACE INTO dead (id, reason, fingerprint, rank, deadline, meta, body, history, at)
SELECT id, ?, fingerprint, rank, deadline, meta, body, history, ? FROM messages WHERE id = ?"""
_REVIVE = f"""INSERT INTO messages (id, state, rank, due, deadline, created, fingerprint, meta, body, history)
SELECT id, {READY}, rank + min(?, {LATEST_DEADLINE}) - min(deadline, {LATEST_DEADLINE}), 0, ?, ?, fingerprint, meta, body, history FROM dead WHERE id = ?"""


class SqliteQueue(Queue):
    """The queue in the file at ``path``, made when it is missing. ``clock`` gives Unix seconds."""

    def __init__(self, path: Path, policy: Policy | None = None, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.name = f"sqlite:///{path}"
        self._policy = policy or Policy()
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._claims = 0
        self._writer = _Writer(path)
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; queues need 3.35 or later")
        await asyncio.to_thread(self._writer.start)
        self._reader = await asyncio.to_thread(_connect, self.path)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.stop)
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def put(self, items: Sequence[Item]) -> list[Put]:
        return await self._change(lambda db: [self._put(db, item) for item in items])

    def _put(self, db: sqlite3.Connection, item: Item) -> Put:
        fingerprint = item.fingerprint
        known = db.execute(
            "SELECT fingerprint FROM messages WHERE id = ? UNION ALL SELECT fingerprint FROM results WHERE id = ?",
            (item.id, item.id),
        ).fetchone()
        if known is not None:
            return Put.SAME if known[0] == fingerprint else Put.CONFLICT
        now = self._clock()
        state = DELAYED if item.due > now else READY
        row = (item.id, state, item.rank, item.due, item.deadline, now, fingerprint, item.meta, item.body)
        db.execute(_ADD, row)
        return Put.STORED

    async def refuse(self, refused: Sequence[Refused]) -> None:
        def work(db: sqlite3.Connection) -> None:
            for one in refused:
                self._refuse(db, one)

        await self._change(work)

    def _refuse(self, db: sqlite3.Connection, refused: Refused) -> None:
        now = self._clock()
        taken = db.execute("SELECT 1 FROM messages WHERE id = ?", (refused.id,)).fetchone()
        result = Result(refused.id, Code.INVALID_REQUEST, error=refused.reason, finished=now)
        if taken or not _store(db, "", result):
            return
        row = (refused.id, refused.reason, "", 0.0, 0.0, b"", refused.raw, _line(now, refused.reason), now)
        db.execute("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    async def claim(self, limit: int, lease: float) -> list[Claim]:
        self._claims += 1
        return await self._change(lambda db: self._claim(db, limit, lease, f"{self._owner}-{self._claims}"))

    def _claim(self, db: sqlite3.Connection, limit: int, lease: float, token: str) -> list[Claim]:
        now = self._clock()
        self._expire(db, now)
        db.execute(_PROMOTE, (now,))
        rows = db.execute(_CLAIM, (token, now + lease, limit)).fetchall()
        return [
            Claim(id_, body, meta, deadline, token, attempts, failures, crashes, created)
            for _, _, id_, body, meta, deadline, attempts, failures, crashes, created in sorted(rows)
        ]

    async def begin(self, claims: Sequence[Claim]) -> list[bool]:
        change = "UPDATE messages SET started = 1 WHERE id = ? AND token = ?"
        return await self._change(lambda db: [bool(db.execute(change, (c.id, c.token)).rowcount) for c in claims])

    async def extend(self, claims: Sequence[Claim], lease: float) -> list[Held]:
        return await self._change(lambda db: [self._extend(db, claim, lease) for claim in claims])

    def _extend(self, db: sqlite3.Connection, claim: Claim, lease: float) -> Held:
        row = db.execute(
            "UPDATE messages SET lease = ? WHERE id = ? AND token = ? RETURNING cancelled",
            (self._clock() + lease, claim.id, claim.token),
        ).fetchone()
        if row is None:
            return Held.LOST
        return Held.CANCELLED if row[0] else Held.KEPT

    async def complete(self, finished: Sequence[tuple[Claim, Result]]) -> list[bool]:
        return await self._change(lambda db: [self._complete(db, claim, result) for claim, result in finished])

    @staticmethod
    def _complete(db: sqlite3.Connection, claim: Claim, result: Result) -> bool:
        row = db.execute(
            "DELETE FROM messages WHERE id = ? AND token = ? RETURNING fingerprint", (claim.id, claim.token)
        ).fetchone()
        return row is not None and _store(db, row[0], result)

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        return await self._change(lambda db: [self._retry(db, one) for one in retries])

    def _retry(self, db: sqlite3.Connection, one: Retry) -> bool:
        now, claim = self._clock(), one.claim
        line = _line(now, one.reason)
        row = (one.due, now, one.due, one.attempts, one.failures, line, claim.id, claim.token)
        if db.execute(_GIVE_BACK, row).rowcount:
            return True
        cancelled = Result(claim.id, Code.CANCELLED, None, one.attempts, "cancelled on request", finished=now)
        return self._complete(db, claim, cancelled)

    async def bury(self, buried: Sequence[tuple[Claim, Result]]) -> list[bool]:
        def work(db: sqlite3.Connection) -> list[bool]:
            return [self._bury(db, claim, result) for claim, result in buried]

        return await self._change(work)

    def _bury(self, db: sqlite3.Connection, claim: Claim, result: Result) -> bool:
        held = db.execute("SELECT 1 FROM messages WHERE id = ? AND token = ?", (claim.id, claim.token)).fetchone()
        if held is None:
            return False
        db.execute(_BURY, (result.error, self._clock(), claim.id))
        return self._complete(db, claim, result)

    async def reap(self) -> Reaped:
        return await self._change(self._reap)

    def _reap(self, db: sqlite3.Connection) -> Reaped:
        now = self._clock()
        expired = self._expire(db, now)
        reclaimed = poisoned = cancelled = 0
        for id_, attempts, crashes, unwanted, deadline, history in db.execute(_LOST, (now,)).fetchall():
            if unwanted:
                self._end(db, Result(id_, Code.CANCELLED, None, attempts, "cancelled on request", finished=now))
                cancelled += 1
            elif deadline <= now:
                self._end(db, deadline_result(id_, attempts, now, last=_last(history)))
                expired += 1
            elif crashes >= self._policy.max_crashes:
                self._poison(db, id_, attempts, crashes, now)
                poisoned += 1
            else:
                db.execute(_FREE, (crashes, _line(now, "its worker's lease ended"), id_))
                reclaimed += 1
        self._forget(db, now - self._policy.retention)
        return Reaped(expired, reclaimed, poisoned, cancelled)

    def _expire(self, db: sqlite3.Connection, now: float) -> int:
        rows = db.execute(_EXPIRED, (now,)).fetchall()
        for id_, attempts, history in rows:
            self._end(db, deadline_result(id_, attempts, now, last=_last(history)))
        return len(rows)

    @staticmethod
    def _end(db: sqlite3.Connection, result: Result) -> None:
        row = db.execute("DELETE FROM messages WHERE id = ? RETURNING fingerprint", (result.id,)).fetchone()
        _store(db, row[0], result)

    def _poison(self, db: sqlite3.Connection, id_: str, attempts: int, crashes: int, now: float) -> None:
        text = f"{crashes} workers died while they handled it"
        db.execute("UPDATE messages SET history = history || ? WHERE id = ?", (_line(now, text), id_))
        db.execute(_BURY, (text, now, id_))
        self._end(db, Result(id_, Code.POISONED, None, attempts, text, finished=now))

    @staticmethod
    def _forget(db: sqlite3.Connection, before: float) -> None:
        # Sequence numbers rise with time, so the oldest come first: this looks at one row when none is old enough.
        oldest = db.execute("SELECT seq, finished FROM results ORDER BY seq LIMIT 1").fetchone()
        if oldest is not None and oldest[1] < before:
            db.execute(
                "DELETE FROM results WHERE seq < ? AND finished < ? AND id NOT IN (SELECT id FROM dead)",
                (oldest[0] + REAP_LIMIT, before),
            )

    async def cancel(self, ids: Sequence[str]) -> list[Cancelled]:
        return await self._change(lambda db: [self._cancel(db, one) for one in ids])

    def _cancel(self, db: sqlite3.Connection, id_: str) -> Cancelled:
        row = db.execute("SELECT state, attempts FROM messages WHERE id = ?", (id_,)).fetchone()
        if row is None:
            done = db.execute("SELECT 1 FROM results WHERE id = ?", (id_,)).fetchone()
            return Cancelled.FINISHED if done else Cancelled.UNKNOWN
        state, attempts = row
        if state == LEASED:
            db.execute("UPDATE messages SET cancelled = 1 WHERE id = ?", (id_,))
            return Cancelled.REQUESTED
        self._end(db, Result(id_, Code.CANCELLED, None, attempts, "cancelled on request", finished=self._clock()))
        return Cancelled.DONE

    async def results(self, cursor: str, limit: int) -> Page:
        def read(db: sqlite3.Connection) -> Page:
            rows = db.execute(
                "SELECT seq, id, code, status, attempts, error, payload, finished FROM results WHERE seq > ? "
                "ORDER BY seq LIMIT ?",
                (int(cursor or 0), limit),
            ).fetchall()
            found = tuple(Result(row[1], Code(row[2]), *row[3:]) for row in rows)
            return Page(found, str(rows[-1][0]) if rows else cursor)

        return await self._read(read)

    async def stats(self) -> Stats:
        return await self._read(self._stats)

    def _stats(self, db: sqlite3.Connection) -> Stats:
        now = self._clock()

        def one(question: str) -> Any:
            return db.execute(question).fetchone()[0]

        ready, delayed, leased = (one(f"SELECT count(*) FROM messages WHERE state = {state}") for state in range(3))
        oldest = one(
            f"SELECT min(created) FROM (SELECT created FROM messages WHERE state < {LEASED} ORDER BY seq LIMIT 1)"
        )
        deadline = one(f"SELECT min(deadline) FROM messages WHERE state < {LEASED}")
        return Stats(
            ready,
            delayed,
            leased,
            one("SELECT count(*) FROM results"),
            one("SELECT count(*) FROM dead"),
            None if oldest is None else max(0.0, now - oldest),
            None if deadline is None else deadline - now,
        )

    async def dead_letters(self, ids: Sequence[str] | None = None) -> list[DeadLetter]:
        def read(db: sqlite3.Connection) -> list[DeadLetter]:
            columns = "SELECT id, reason, body, meta, deadline, history, at FROM dead"
            if ids is None:
                rows: Iterable[Any] = db.execute(f"{columns} ORDER BY at, id").fetchall()
            else:
                found = (db.execute(f"{columns} WHERE id = ?", (one,)).fetchone() for one in ids)
                rows = [row for row in found if row is not None]
            return [
                DeadLetter(id_, reason, body, meta, deadline, tuple(history.splitlines()), at)
                for id_, reason, body, meta, deadline, history, at in rows
            ]

        return await self._read(read)

    async def requeue(self, ids: Sequence[str], deadline: float | None = None) -> list[bool]:
        return await self._change(lambda db: [self._requeue(db, one, deadline) for one in ids])

    def _requeue(self, db: sqlite3.Connection, id_: str, deadline: float | None) -> bool:
        row = db.execute("SELECT deadline, fingerprint FROM dead WHERE id = ?", (id_,)).fetchone()
        if row is None or not row[1]:  # without a fingerprint it never was a request
            return False
        until = row[0] if deadline is None else deadline
        db.execute(_REVIVE, (until, until, self._clock(), id_))
        db.execute("DELETE FROM dead WHERE id = ?", (id_,))
        db.execute("DELETE FROM results WHERE id = ?", (id_,))
        return True

    async def purge(self, ids: Sequence[str]) -> list[bool]:
        change = "DELETE FROM dead WHERE id = ?"
        return await self._change(lambda db: [bool(db.execute(change, (one,)).rowcount) for one in ids])

    async def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._writer.submit(work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def locked() -> T:
            with self._reading, _translated(self.path):
                if self._reader is None:
                    raise ServiceError(f"the queue {self.name} is closed", code="Closed")
                return work(self._reader)

        return await asyncio.to_thread(locked)


class _Writer:
    """The thread that writes: takes all changes that wait, and commits them together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        db = _connect(self._path)
        with _translated(self._path):
            _create(db, self._path)
        self._thread = threading.Thread(target=self._serve, args=(db,), name=f"queue {self._path.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        if self._thread is None:
            future.set_exception(ServiceError(f"the queue {self._path} is closed", code="Closed"))
        else:
            self._jobs.put((work, future))
        return future

    def _serve(self, db: sqlite3.Connection) -> None:
        while (job := self._jobs.get()) is not None:
            group, last = [job], False
            while len(group) < GROUP_LIMIT and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    last = True
                    break
                group.append(more)
            self._commit(db, group)
            if last:
                break
        db.close()

    def _commit(
        self, db: sqlite3.Connection, group: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]
    ) -> None:
        try:
            with _translated(self._path), _transaction(db):
                answers = [work(db) for work, _ in group]
        except Exception as error:  # noqa: BLE001  whatever it is belongs to the one who asked
            if len(group) == 1:
                _tell(group[0][1], error=error)
            else:
                for one in group:
                    self._commit(db, [one])
            return
        for (_, future), answer in zip(group, answers, strict=True):
            _tell(future, answer)


def _tell(future: Future[Any], answer: object = None, error: Exception | None = None) -> None:
    """The one who asked may have gone away (its task was cancelled): what was done stays done."""
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Any:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _connect(path: Path) -> sqlite3.Connection:
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{CACHE_SIZE}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return db


def _create(db: sqlite3.Connection, path: Path) -> None:
    layout = db.execute("PRAGMA user_version").fetchone()[0]
    if layout not in {0, LAYOUT}:
        raise ConfigurationError(f"{path} was written by another version (layout {layout}, this one knows {LAYOUT})")
    with _transaction(db):
        for statement in SCHEMA.split(";\n"):
            db.execute(statement)


@contextlib.contextmanager
def _translated(path: Path) -> Any:
    """SQLite's errors as ours, by their codes."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Python 3.10 has no codes on its errors: there every OperationalError is worth another try.
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        text = f"the queue {path}: {error}"
        if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM"}:
            raise ConfigurationError(text) from error
        if isinstance(error, sqlite3.OperationalError):
            raise Throttled(text, code=name) from error
        raise ServiceError(text, code=name) from error
    except OSError as error:
        raise ConfigurationError(f"the queue {path}: {error.strerror or error}") from error


def _store(db: sqlite3.Connection, fingerprint: str, result: Result) -> bool:
    row = (
        result.id, fingerprint, result.code.value, result.status, result.attempts, result.error, result.payload,
        result.finished,
    )  # fmt: skip
    return bool(db.execute(_STORE, row).rowcount)


def _line(at: float, text: str) -> str:
    return f"{at:.3f} {' '.join(text.split())}\n"


def _last(history: str) -> str:
    """What happened last, without its time."""
    lines = history.splitlines()
    return lines[-1].partition(" ")[2] if lines else ""
