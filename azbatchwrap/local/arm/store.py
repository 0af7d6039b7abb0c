"""Everything durable: documents in one SQLite file. A request's changes are committed before its answer goes out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""


class Store:
    """Used from the event loop's thread alone. Documents are JSON objects, listed in the order of their creation."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        # The change log outlives the process at every commit, and a power cut leaves a sound database.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)
        (last,) = self._database.execute("SELECT max(number) FROM documents").fetchone()
        self._number = last or 0

    def load(self, kind: str, key: str) -> dict[str, Any] | None:
        row = self._database.execute("SELECT body FROM documents WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return orjson.loads(row[0]) if row else None

    def save(self, kind: str, key: str, body: dict[str, Any]) -> None:
        """Write a document whole; one that exists keeps its place in lists."""
        self._begin()
        self._number += 1
        self._database.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
            (kind, key, self._number, orjson.dumps(body)),
        )

    def drop(self, kind: str, key: str) -> None:
        self._begin()
        self._database.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))

    def below(self, kind: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Documents whose key begins with ``prefix``."""
        rows = self._database.execute(
            "SELECT key, body FROM documents WHERE kind = ? AND key >= ? AND key < ? ORDER BY number",
            (kind, prefix, prefix + "\U0010ffff"),
        ).fetchall()
        for key, body in rows:
            yield key, orjson.loads(body)

    def keys(self, kind: str, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, in the order of their creation."""
        rows = self._database.execute(
            "SELECT key FROM documents WHERE kind = ? AND key >= ? AND key < ? ORDER BY number",
            (kind, prefix, prefix + "\U0010ffff"),
        )
        return [key for (key,) in rows]

    def commit(self) -> None:
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def roll_back(self) -> None:
        """Forget what was written since the last commit."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        self.commit()
        self._database.close()

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
