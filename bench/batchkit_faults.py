"""Endpoints that go away and come back, and files that arrive: how soon each kit, ours and the public one, acts.

Endpoints are processes that are killed; kits are processes, too. They note each attempt in a file, on
the clock that all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.batchkit_runs import ATTEMPTS
from bench.figures import Figure

SLOTS, DELAY = 8, 0.05
#: Seconds that an endpoint is away, and how long anything may take.
ABSENCE, LIMIT = 5.0, 120.0
#: Files that arrive, one after the other. The public kit needs seconds for each.
ARRIVALS, PUBLIC_ARRIVALS = 20, 4

#: Starts a kit: on an endpoint file, an input folder and an output folder, in a mode, with an environment.
Start = Callable[[Path, Path, Path, str, dict[str, str]], "subprocess.Popen[Any]"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """``at``: seconds of the machine's clock."""

    at: float
    port: int
    item: str


class Attempts:
    def __init__(self, path: Path) -> None:
        path.touch()
        self._stream = path.open()
        self._part = ""
        self.seen: list[Attempt] = []

    def read(self) -> list[Attempt]:
        """Those that were noted since the last call."""
        *lines, self._part = (self._part + self._stream.read()).split("\n")
        found = [line.split(" ", 2) for line in lines]
        fresh = [Attempt(float(at), int(port), item) for at, port, item in found]
        self.seen += fresh
        return fresh

    def first(self, condition: Callable[[Attempt], bool]) -> Attempt:
        """Waits for it."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            for attempt in self.read():
                if condition(attempt):
                    return attempt
            time.sleep(0.002)
        raise AssertionError("this attempt never came")


class Endpoint:
    """A process that can be killed, and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.batchkit", "--serve", str(DELAY), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        (self.port,) = json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(slots=True)
class Site:
    attempts: Attempts
    stays: Endpoint
    goes: Endpoint


@contextlib.contextmanager
def site(start: Start, folder: Path, inputs: Path, mode: str) -> Iterator[Site]:
    """A kit at work on two endpoints."""
    folder.mkdir()
    noted, config = folder / "attempts", folder / "endpoints.json"
    made = Site(Attempts(noted), Endpoint(), Endpoint())
    entries = {f"e{end.port}": {"host": "127.0.0.1", "port": end.port, "concurrency": SLOTS}
               for end in (made.stays, made.goes)}  # fmt: skip
    config.write_text(json.dumps(entries))
    kit = start(config, inputs, folder / "outputs", mode, {**os.environ, ATTEMPTS: str(noted)})
    try:
        yield made
    finally:
        os.killpg(kit.pid, signal.SIGKILL)  # the public kit's workers would outlive it
        kit.wait()
        made.stays.kill()
        made.goes.kill()


def recovery(start: Start, folder: Path, inputs: Path) -> tuple[float, int]:
    """Seconds until a revived endpoint gets an item, and attempts on it while it was away."""
    with site(start, folder, inputs, "ONESHOT") as there:
        port = there.goes.port
        there.attempts.first(lambda attempt: attempt.port == port)
        time.sleep(1.0)
        died = time.monotonic()
        there.goes.kill()
        time.sleep(ABSENCE)
        there.attempts.read()
        wasted = sum(attempt.port == port and attempt.at > died for attempt in there.attempts.seen)
        there.goes.start()
        revived = time.monotonic()
        first = there.attempts.first(lambda attempt: attempt.port == port and attempt.at > revived)
        return first.at - revived, wasted


def arrival(start: Start, folder: Path, count: int, *, renamed: bool) -> float:
    """The longest of ``count`` times (seconds) from the end of a file to its attempt. ``renamed``: every other file is
    moved into the folder, instead of being written there."""
    inputs = folder.with_name(f"{folder.name}-inputs")
    inputs.mkdir()
    with site(start, folder, inputs, "DAEMON") as there:
        waits = [
            _arrives(there.attempts, inputs / f"file-{number}.txt", renamed=renamed and number % 2 == 1)
            for number in range(count + 1)
        ]
        return max(waits[1:])  # without the one that waited for the kit to start


def _arrives(attempts: Attempts, path: Path, *, renamed: bool) -> float:
    beside = path.parent.with_name("beside")
    with (beside if renamed else path).open("w") as stream:
        stream.write("half")
        stream.flush()
        time.sleep(DELAY)
        stream.write(" and half")
    if renamed:
        beside.rename(path)
    ended = time.monotonic()
    return attempts.first(lambda attempt: attempt.item == str(path)).at - ended


def figures(ours: Start, public: Start, folder: Path, inputs: Path) -> Iterator[Figure]:
    waited, wasted = recovery(ours, folder / "recovery", inputs)
    their_wait, their_waste = recovery(public, folder / "public-recovery", inputs)
    yield Figure(
        "first item of a revived endpoint", f"{waited:.2f} s", f"batchkit {their_wait:.1f} s", waited, 1.0, "<="
    )
    yield Figure("attempts on an endpoint after its end", f"{wasted}", f"batchkit {their_waste}", wasted, 6.0, "<=")
    wait = arrival(ours, folder / "arrival", ARRIVALS, renamed=True)
    theirs = arrival(public, folder / "public-arrival", PUBLIC_ARRIVALS, renamed=False)
    yield Figure(
        f"DAEMON, longest of {ARRIVALS} waits from a file's end to its request", f"{wait:.2f} s",
        f"batchkit {theirs:.1f} s (of {PUBLIC_ARRIVALS})", wait, 0.5, "<=",
        note="half of ours were moved into the folder, which batchkit does not see",
    )  # fmt: skip
