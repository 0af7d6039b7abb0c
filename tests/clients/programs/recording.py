"""What the client programs share: each operation is tried once and leaves one JSON line. Standard library only."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds that a state may take to come about.
PATIENCE_SECONDS = 60.0
JAMMY = {"publisher": "canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts"}
AGENT = "batch.node.ubuntu 22.04"


def read_settings() -> dict[str, Any]:
    """Where the service is: ``url``, ``account``, ``key``, ``container_url`` and more, from standard input."""
    settings: dict[str, Any] = json.load(sys.stdin)
    return settings


class Recorder:
    """Writes ``{operation, api_version, ok, detail}`` for every operation tried."""

    def __init__(self, api_version: str) -> None:
        self.api_version = api_version

    @contextlib.contextmanager
    def __call__(self, operation: str, detail: str = "") -> Iterator[None]:
        """The block is the operation with the checks of its result; what it raises is recorded, and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a foreign client raises is the record
            self._write(operation, ok=False, detail=f"{detail} {type(error).__name__}: {error}".strip())
        else:
            self._write(operation, ok=True, detail=detail)

    def _write(self, operation: str, *, ok: bool, detail: str) -> None:
        line = {"operation": operation, "api_version": self.api_version, "ok": ok, "detail": detail[:600]}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of ``condition()``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s")
        time.sleep(0.05)
    return value


def check(condition: object, about: object = "") -> None:
    """As ``assert``, with what was found in its place."""
    if not condition:
        raise ValueError(f"unexpected: {about!r}")
