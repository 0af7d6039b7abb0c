"""What files hashed to before, kept between runs so that a repeat reads no file.

The cache may be lost or broken at any time: then files are read again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: A file changed this recently (seconds) may change again within the clock tick of its file system, unseen.
UNSETTLED = 2.0
#: Entries not used for this long (seconds) are dropped when the cache is opened.
LIFE = 90 * 24 * 3600
#: Seconds one process waits for another's write.
_PATIENCE = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
  path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, sha256 TEXT, used INTEGER
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is still the one that was hashed."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Stamp:
        return cls(facts.st_size, facts.st_mtime_ns, facts.st_ino)

    def settled(self) -> bool:
        return time.time() - self.mtime_ns / 1e9 > UNSETTLED


class HashCache:
    """SHA-256 by path and `Stamp`, in one SQLite file that processes share. Safe between threads."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._learned: dict[bytes, tuple[Stamp, str]] = {}
        self._used: set[bytes] = set()
        self._base = _open(file)

    def known(self, path: Path, stamp: Stamp) -> str | None:
        """The hash of the file, if it is still the file that was hashed."""
        if self._base is None:
            return None
        key = os.fsencode(path)
        with self._lock:
            try:
                row = self._base.execute(
                    "SELECT size, mtime_ns, inode, sha256 FROM hashes WHERE path = ?", (key,)
                ).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
            if row is None or Stamp(*row[:3]) != stamp:
                return None
            self._used.add(key)
            return str(row[3])

    def learn(self, path: Path, stamp: Stamp, sha256: str) -> None:
        """Remembers a hash, to be written by `save`."""
        if stamp.settled():
            with self._lock:
                self._learned[os.fsencode(path)] = (stamp, sha256)

    def save(self) -> None:
        """Writes what was learned, in one transaction."""
        now = int(time.time())
        with self._lock:
            if self._base is None:
                return
            rows = [(k, s.size, s.mtime_ns, s.inode, sha256, now) for k, (s, sha256) in self._learned.items()]
            used = [(now, key) for key in self._used]
            try:
                with self._base:
                    self._base.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)
                    self._base.executemany("UPDATE hashes SET used = ? WHERE path = ?", used)
            except sqlite3.Error as error:
                self._give_up(error)
            self._learned.clear()
            self._used.clear()

    def close(self) -> None:
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def _give_up(self, error: sqlite3.Error) -> None:
        log.warning("the cache of file hashes cannot be used (%s): files are read each time", error)
        if self._base is not None:
            self._base.close()
            self._base = None


def _open(file: Path) -> sqlite3.Connection | None:
    for again in (True, False):
        try:
            return _prepared(file)
        except sqlite3.OperationalError as error:
            log.warning("the cache of file hashes %s cannot be used (%s): files are read each time", file, error)
            return None
        except sqlite3.DatabaseError as error:
            # Not a database: damaged, or another file. It holds nothing that cannot be found out again.
            log.warning("the cache of file hashes %s is damaged (%s): made anew", file, error)
            _remove(file)
            if not again:
                return None
        except OSError as error:
            log.warning("the cache of file hashes %s cannot be made (%s): files are read each time", file, error)
            return None
    return None


def _prepared(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.touch(mode=0o600)  # it lists the user's paths
    base = sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        # Losing the last entries in a power cut costs a second reading, so no write waits for the disk.
        base.execute("PRAGMA synchronous = OFF")
        with base:
            base.execute(_SCHEMA)
            base.execute("DELETE FROM hashes WHERE used < ?", (int(time.time()) - LIFE,))
    except sqlite3.Error:
        base.close()
        raise
    return base


def _remove(file: Path) -> None:
    siblings: Iterable[Path] = (file, file.with_name(file.name + "-wal"), file.with_name(file.name + "-shm"))
    for path in siblings:
        path.unlink(missing_ok=True)
