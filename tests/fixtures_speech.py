"""Fixtures: speech container stand-ins as processes of their own, and spoken sound files made by espeak-ng."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
import wave
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.real_parts import program

#: A process that has to answer, end or write something gets this long (seconds).
PATIENCE = 60.0


@dataclass
class Standin:
    """`azbatchwrap local speech`; keeps its port when it is started again."""

    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Standin:
        words = ["local", "speech", "--port", str(self.port), "--json", *self.options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "azbatchwrap.cli.main", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the stand-in ended with {self.process.wait()}"
        self.port = int(json.loads(line)["url"].rpartition(":")[2])
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        assert process.stdout is not None
        with process.stdout:
            return process.wait(PATIENCE)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked for."""
        found = self.get("/requests")
        assert isinstance(found, list)
        return found

    def entry(self, **settings: object) -> dict[str, object]:
        """Its entry in an endpoint configuration; sound is sent as fast as is allowed."""
        return {"host": "127.0.0.1", "port": self.port, "rtf": 7.0, **settings}


@dataclass
class Standins:
    """Starts stand-ins and ends them all."""

    running: list[Standin] = field(default_factory=list)

    def __call__(self, *options: str) -> Standin:
        started = Standin(options).start()
        self.running.append(started)
        return started


@pytest.fixture
def standins() -> Iterator[Standins]:
    """Stand-ins of the test's own."""
    made = Standins()
    try:
        yield made
    finally:
        for standin in made.running:
            standin.end()


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    """One for all tests of a worker that neither end it nor count its requests."""
    started = Standin().start()
    try:
        yield started
    finally:
        started.end()


def speak(text: str, path: Path) -> Path:
    """``text`` as a WAVE file: 22,050 Hz, mono, 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([program("espeak-ng"), "-v", "en-us", "-s", "140", "-w", str(path), text], check=True, timeout=60)
    return path


def write_wave(path: Path, samples: bytes, *, channels: int = 1, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(wave.open(str(path), "wb")) as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


def tone(seconds: float, rate: int = 16_000) -> bytes:
    """Something loud: the stand-in takes it for speech."""
    period = array("h", [8000] * 20 + [-8000] * 20)
    return (period * (int(seconds * rate) // 40 + 1)).tobytes()[: 2 * int(seconds * rate)]


def silence(seconds: float, rate: int = 16_000) -> bytes:
    return bytes(2 * int(seconds * rate))


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started, in whichever of its threads."""
    lists = [threads.read_text() for threads in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for text in lists for word in text.split()]


def alive(pid: int) -> bool:
    """A process that nobody has waited for yet is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
