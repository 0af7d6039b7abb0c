"""Long work reports here; what draws it is passed in by the caller.

The library only calls a `Progress`. `NullProgress` (the default everywhere) draws nothing,
`LineProgress` writes one plain line per step for logs, `JsonProgress` one JSON object per line,
and `rich_progress()` gives bars for a terminal. ``for_stream`` picks among them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

#: A plain log gets a line at most this often (seconds) for one piece of work, plus its first and last.
LINE_INTERVAL = 5.0


class Progress(Protocol):
    """Receives what long work has to say. ``key`` names one piece of work, for example ``upload``."""

    def start(self, key: str, text: str, total: float | None = None, unit: str = "") -> None: ...
    def advance(self, key: str, done: float = 1, text: str | None = None) -> None: ...
    def update(self, key: str, completed: float, total: float | None = None, text: str | None = None) -> None: ...
    def finish(self, key: str, text: str | None = None) -> None: ...
    def message(self, text: str) -> None: ...


class NullProgress:
    """Draws nothing."""

    def start(self, key: str, text: str, total: float | None = None, unit: str = "") -> None: ...
    def advance(self, key: str, done: float = 1, text: str | None = None) -> None: ...
    def update(self, key: str, completed: float, total: float | None = None, text: str | None = None) -> None: ...
    def finish(self, key: str, text: str | None = None) -> None: ...
    def message(self, text: str) -> None: ...


@dataclass
class _Work:
    text: str
    total: float | None
    unit: str
    completed: float = 0.0
    said_at: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        amount = f"{self.completed:g}" if self.total is None else f"{self.completed:g}/{self.total:g}"
        return f"{self.text}: {amount}{' ' + self.unit if self.unit else ''}"


class _Counting:
    """Keeps the counts for the renderers that write lines."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._works: dict[str, _Work] = {}

    def _say(self, key: str, work: _Work, event: str) -> None:
        raise AssertionError("a renderer says how a line looks")

    def start(self, key: str, text: str, total: float | None = None, unit: str = "") -> None:
        work = self._works[key] = _Work(text, total, unit)
        self._say(key, work, "start")

    def advance(self, key: str, done: float = 1, text: str | None = None) -> None:
        work = self._works.get(key)
        if work is not None:
            self.update(key, work.completed + done, None, text)

    def update(self, key: str, completed: float, total: float | None = None, text: str | None = None) -> None:
        work = self._works.get(key)
        if work is None:
            return
        work.completed = completed
        work.total = total if total is not None else work.total
        work.text = text or work.text
        now = time.monotonic()
        if now - work.said_at >= LINE_INTERVAL:
            work.said_at = now
            self._say(key, work, "progress")

    def finish(self, key: str, text: str | None = None) -> None:
        work = self._works.pop(key, None)
        if work is not None:
            work.text = text or work.text
            self._say(key, work, "finish")


class LineProgress(_Counting):
    """One plain line per step: for logs and pipes."""

    def _say(self, key: str, work: _Work, event: str) -> None:
        if event == "start":
            work.said_at = work.started
            self.message(f"{work.text} …")
        elif event == "finish":
            self.message(f"{work.line()} in {time.monotonic() - work.started:.1f} s")
        else:
            self.message(work.line())

    def message(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class JsonProgress(_Counting):
    """One JSON object per line: for programs that read along."""

    def _say(self, key: str, work: _Work, event: str) -> None:
        self._write(event=event, key=key, text=work.text, completed=work.completed, total=work.total, unit=work.unit)

    def message(self, text: str) -> None:
        self._write(event="message", text=text)

    def _write(self, **fields: object) -> None:
        self._stream.write(json.dumps(fields) + "\n")
        self._stream.flush()


class BarProgress:
    """Bars on a terminal, drawn by rich. Use as a context manager through `for_stream`."""

    def __init__(self, bars: RichBars) -> None:
        self._bars = bars
        self._ids: dict[str, TaskID] = {}

    def start(self, key: str, text: str, total: float | None = None, unit: str = "") -> None:
        self._ids[key] = self._bars.add_task(text, total=total, unit=unit)

    def advance(self, key: str, done: float = 1, text: str | None = None) -> None:
        if key in self._ids:
            self._bars.advance(self._ids[key], done)
            if text:
                self._bars.update(self._ids[key], description=text)

    def update(self, key: str, completed: float, total: float | None = None, text: str | None = None) -> None:
        if key in self._ids:
            self._bars.update(self._ids[key], completed=completed, total=total, description=text)

    def finish(self, key: str, text: str | None = None) -> None:
        task = self._ids.pop(key, None)
        if task is not None:
            self._bars.update(task, description=text, total=self._total(task))
            self._bars.stop_task(task)

    def _total(self, task: TaskID) -> float | None:
        """What was done, where nobody knew before how much there would be: else the bar would look busy for ever."""
        shown = next(shown for shown in self._bars.tasks if shown.id == task)
        return shown.completed if shown.total is None else shown.total

    def message(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


@contextlib.contextmanager
def for_stream(stream: IO[str], *, as_json: bool = False) -> Iterator[Progress]:
    """The renderer that suits ``stream``: JSON lines when asked for, bars on a terminal, plain lines otherwise."""
    if as_json:
        yield JsonProgress(stream)
    elif stream.isatty():
        with _rich_bars(stream) as bars:
            yield BarProgress(bars)
    else:
        yield LineProgress(stream)


def _rich_bars(stream: IO[str]) -> RichBars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )
