"""`Submitted`: a batch as the REST mode knows it, from its submission on, over restarts of the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from .batch import Batch
from .journal import RunPaths, load_state, write_beside
from .summary import read_summary
from .types import file_stats

#: States of a batch in the order of the public kit, where they are the numbers 0 to 3.
WAITING, RUNNING, DONE, DELETED = "waiting", "running", "done", "deleted"
STATES = (WAITING, RUNNING, DONE, DELETED)
#: Seconds that a caller may wait for a state.
MAX_WAIT = 86_400.0
#: What was submitted, in the batch's folder.
REQUEST_FILE = "request.json"
#: Why the batch as a whole could not be done, for people.
FAULT_FILE = "fault.txt"


class Submitted:
    """A batch's state, and, while it runs, the batch itself."""

    def __init__(self, batch_id: str, folder: Path, submitted: float) -> None:
        self.id = batch_id
        self.paths = RunPaths(folder)
        self.submitted = submitted
        self.state = WAITING
        self.fault: str | None = None
        self.batch: Batch | None = None
        self.last_counts: dict[str, Any] = {}
        self._changed = asyncio.Event()

    @classmethod
    def kept(cls, folder: Path) -> tuple[Submitted, dict[str, Any]]:
        """What `keep` left in ``folder``, with the document. Raises OSError, ValueError, KeyError or TypeError."""
        found = orjson.loads((folder / REQUEST_FILE).read_bytes())
        known = cls(folder.name, folder, float(found["submitted"]))
        if load_state(known.paths).get("state") == "finished":
            known.state = DONE
            known.last_counts = _kept_counts(known.paths)
            known.fault = _kept_fault(folder / FAULT_FILE)
        return known, found["document"]

    def keep(self, document: bytes) -> None:
        """``document``: as it came, which was read as JSON."""
        self.paths.folder.mkdir(parents=True)
        content = b'{"submitted": %r, "document": %b}' % (self.submitted, document)
        write_beside(self.paths.folder / REQUEST_FILE, content)

    def keep_fault(self, fault: str) -> None:
        """Raises OSError."""
        self.fault = fault
        write_beside(self.paths.folder / FAULT_FILE, fault.encode(errors="replace"))

    def enter(self, state: str) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def reaches(self, target: str, seconds: float) -> None:
        """Wait until the batch is at least as far as ``target``, or for ``seconds``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while STATES.index(self.state) < STATES.index(target) and loop.time() < end:
            try:
                await asyncio.wait_for(self._changed.wait(), end - loop.time())
            except asyncio.TimeoutError:
                return

    def facts(self) -> dict[str, Any]:
        combined = self.paths.folder / "results.json"
        return {
            "batch_id": self.id,
            "status": self.state,
            "status_code": STATES.index(self.state),
            "submitted": self.submitted,
            "run_summary_path": str(self.paths.summary),
            "results_dir": str(self.paths.folder),
            "combined_results_file": str(combined) if combined.exists() else None,
            "file_stats": file_stats(self.batch.counts) if self.batch is not None else self.last_counts,
            "fault": self.fault,
        }


def _kept_counts(paths: RunPaths) -> dict[str, Any]:
    try:
        counts = read_summary(paths.summary).get("file_stats", {})
    except (OSError, ValueError):
        return {}
    return counts if isinstance(counts, dict) else {}


def _kept_fault(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None
