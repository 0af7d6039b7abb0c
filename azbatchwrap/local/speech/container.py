"""The stand-in's state: its engine, the faults it was told to show, and a record of what clients asked."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from azbatchwrap.local.speech.answers import Wishes
from azbatchwrap.local.speech.engines import SENTENCE, Engine, EngineName

#: Requests that ``GET /requests`` remembers.
REMEMBERED = 2000

State = Literal["open", "answered", "refused", "broken on purpose", "left"]


@dataclass(frozen=True, slots=True)
class Options:
    """``latency``: seconds that every answer comes later; ``error_rate``: share of requests that fail (0 to 1)."""

    engine: EngineName = "fixed"
    sentence: str = SENTENCE
    host: str = "127.0.0.1"
    port: int = 0
    latency: float = 0.0
    error_rate: float = 0.0


@dataclass(slots=True)
class Record:
    """One request. ``at`` is when it came (seconds since 1970), ``seconds`` how much sound it brought."""

    kind: Literal["websocket", "short audio", "fast transcription"]
    at: float
    path: str
    wishes: Wishes
    seconds: float = 0.0
    state: State = "open"

    def facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "at": self.at,
            "path": self.path,
            **asdict(self.wishes),
            "seconds": self.seconds,
            "state": self.state,
        }


@dataclass(slots=True)
class Container:
    """What all requests share."""

    engine: Engine
    options: Options
    records: deque[Record] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _busy: int = 0
    _owed: float = 0.0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def strikes(self) -> bool:
        """Whether this request has to fail. Evenly spread, not drawn: the same run fails the same way again."""
        self._owed += self.options.error_rate
        if self._owed < 1.0 - 1e-9:
            return False
        self._owed -= 1.0
        return True

    @contextmanager
    def working(self, kind: Literal["websocket", "short audio", "fast transcription"], path: str) -> Iterator[Record]:
        """A request, counted while it is being worked on."""
        record = Record(kind, time.time(), path, Wishes())
        self.records.append(record)
        self._busy += 1
        self._idle.clear()
        try:
            yield record
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
            record.state = "left" if record.state == "open" else record.state

    async def dawdle(self) -> None:
        if self.options.latency:
            await asyncio.sleep(self.options.latency)

    async def idle(self, timeout: float) -> None:
        """Wait until nothing is being worked on, but no longer than ``timeout`` seconds."""
        if self._busy:
            await asyncio.wait([asyncio.ensure_future(self._idle.wait())], timeout=timeout)
