"""What was asked lately and how it was answered: tests and the curious read it through the admin route."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

#: How many requests are remembered.
LENGTH = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    method: str
    path: str
    version: str
    status: int


class Journal:
    """Kept in memory: it begins anew with the process."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=LENGTH)
        self.last = 0

    def add(self, method: str, path: str, version: str, status: int) -> None:
        self.last += 1
        self._entries.append(Entry(self.last, method, path, version, status))

    def since(self, number: int) -> list[dict[str, Any]]:
        """Requests after the one with this number, in order."""
        return [asdict(entry) for entry in self._entries if entry.number > number]
