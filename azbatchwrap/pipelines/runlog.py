"""The log of a run as JSON: each step with its start, time and outcome; written anew after every step."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azbatchwrap.progress import NullProgress, Progress

#: What kind of log it is, for those who collect several.
TYPE = "batch-scoring"


@dataclass(slots=True)
class RunLog:
    """``file`` is written beside and renamed, so that a killed run leaves a whole log; ``None``: nothing is written."""

    command: str
    settings: Mapping[str, Any]
    file: Path | None = None
    progress: Progress = field(default_factory=NullProgress)
    info: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    _started: float = field(default_factory=time.time)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def step(self, key: str, label: str, action: str) -> Iterator[None]:
        """One step: recorded when it is over, whatever its end."""
        began, clock = time.time(), time.monotonic()
        outcome, error = "interrupted", None
        try:
            yield
            outcome = "done"
        except Exception as failure:
            outcome, error = "failed", str(failure)
            raise
        finally:
            seconds = round(time.monotonic() - clock, 3)
            entry = {
                "step": key, "name": label, "action": action, "started": _iso(began), "seconds": seconds,
                "outcome": outcome, "error": error,
            }  # fmt: skip
            with self._lock:
                self.steps.append(entry)
                self._write("running")
            self.progress.message(f"  {action:<9} {key} ({label}): {outcome} in {seconds:.1f} s")

    def finish(self, outcome: str, **info: Any) -> None:
        with self._lock:
            self.info |= info
            self._write(outcome)

    def _write(self, outcome: str) -> None:
        if self.file is None:
            return
        content = {
            "type": TYPE,
            "command": self.command,
            "started": _iso(self._started),
            "total_runtime": round(time.time() - self._started, 3),
            "outcome": outcome,
            "info": self.info,
            "configuration": dict(self.settings),
            "steps": self.steps,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.file.with_name(f"{self.file.name}.part")
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        beside.replace(self.file)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
