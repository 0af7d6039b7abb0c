"""The node's shared folder as this product uses it: deployments, blobs, virtual environments and leases.

<shared>/azbatchwrap/
    <deployment>/           laid out once, renamed into place whole: engine/ tasks/ inputs/ app/ run layout.json
    blobs/<sha256>          every file's content once, read-only; deployments hold hard links to them
    venvs/<sha256>/         one virtual environment per requirements.txt
    leases/<deployment>/<job>   a job that may still start tasks from the deployment; touched by prepare
    lock                    held by whoever prepares or releases
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

from .facts import LAYOUT_FILE
from .record import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Ids of deployments and jobs become folder and file names.
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
RESERVED_NAMES = frozenset({"blobs", "venvs", "leases", "lock"})
#: Blobs get this time, so that a file some task has written to is known by another one. (Zip files begin in 1980.)
BLOB_TIME = 946_684_800
#: Readable and executable by all, writable by none: many tasks share the file, and it may be a program.
BLOB_MODE = 0o555
#: A job lives at most as long as its wall-clock limit; a lease older than this many seconds was left by a crash.
LEASE_LIFE = 60 * 86_400


class NodeFolder:
    """Paths and upkeep below ``shared``, the folder that all tasks of a node see."""

    def __init__(self, shared: Path) -> None:
        self.root = shared / "azbatchwrap"
        self.blobs = self.root / "blobs"
        self.venvs = self.root / "venvs"
        self.leases = self.root / "leases"
        #: Where the pool's start task installed packages, if it did.
        self.pool_environment = shared / "azbatchwrap-pool" / "python"

    def deployment(self, name: str) -> Path:
        return self.root / name

    def blob(self, sha256: str) -> Path:
        return self.blobs / sha256

    def venv(self, sha256: str) -> Path:
        return self.venvs / sha256

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process of the node is in here at a time; the kernel frees the lock of one that dies."""
        for folder in (self.blobs, self.venvs, self.leases):
            folder.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another preparation on this node")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def lease(self, deployment: str, job: str) -> None:
        """Keep the deployment on the node until the job releases it."""
        path = self.leases / deployment / job
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path)

    def release(self, deployment: str, job: str) -> None:
        """End a job's lease; the files stay until some preparation needs the room or the names."""
        try:
            (self.leases / deployment / job).unlink()
            (self.leases / deployment).rmdir()
        except OSError:
            # Released before, or leased by other jobs too.
            return

    def sweep(self, needed_blobs: set[str], needed_venv: str | None) -> None:
        """Remove what no lease holds: deployments, blobs and environments, and what a killed preparation left."""
        leased = self._leased()
        blobs, venvs = set(needed_blobs), {needed_venv}
        for path in list(self.root.iterdir()):
            if path.name in RESERVED_NAMES:
                continue
            if path.name not in leased:
                _remove(path)
                continue
            try:
                layout = json.loads((path / LAYOUT_FILE).read_text())
                blobs.update(layout["blobs"])
                venvs.add(layout["venv"])
            except (OSError, ValueError, KeyError):
                # Damaged by a task; whoever needs it lays it out anew.
                continue
        for folder, kept in ((self.blobs, blobs), (self.venvs, venvs)):
            for path in list(folder.iterdir()):
                if path.name not in kept:
                    _remove(path)

    def _leased(self) -> set[str]:
        oldest = time.time() - LEASE_LIFE
        leased = set()
        for lease in self.leases.glob("*/*"):
            if lease.stat().st_mtime >= oldest:
                leased.add(lease.parent.name)
            else:
                self.release(lease.parent.name, lease.name)
        return leased


def is_whole(path: Path, size: int) -> bool:
    """Whether a blob, or a hard link to it, is as it was laid out."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and int(found.st_mtime) == BLOB_TIME


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
