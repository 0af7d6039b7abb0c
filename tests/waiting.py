"""Waiting for what is to become true: tests wait for conditions, not for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

#: Seconds a condition may take, on a machine with much else to do, before a test gives up on it.
PATIENCE = 90.0
PAUSE = 0.02


def wait_until(condition: Callable[[], T], what: object = None, *, seconds: float = PATIENCE) -> T:
    """The first true value of ``condition()``; the test fails after ``seconds``, and says ``what`` it waited for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for {what or condition}")
        time.sleep(PAUSE)
    return found
