"""Dispatch: our framework beside the public batchkit 0.10.4 and beside a bare aiohttp loop, on the same endpoints.

Every run is a process of its own. The endpoints (4, of 8 slots each) are one process that counts requests and keeps the
time of the first and the last: the dispatch window. CPU and memory (PSS) are those of the whole process tree.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from bench import batchkit_faults
from bench.figures import Figure

ENDPOINTS, SLOTS = 4, 8
COUNT, MANY = 10_000, 1_000_000
ROUNDS = 3
DELAY = 0.020
PUBLIC = "batchkit==0.10.4"
PROGRAM = Path(__file__).parent / "public_kit" / "batch_request.py"
PUBLIC_ENVIRONMENT = {"PYTHONPATH": str(PROGRAM.parent)}
RUNS = [sys.executable, "-m", "bench.batchkit_runs"]
#: Seconds that the slowest run may take.
LIMIT = 900.0


# --- the endpoints ----------------------------------------------------------------------------------------------------


class Counting(asyncio.Protocol):
    """As little HTTP as a POST needs: the server should not be what is measured."""

    asked = 0
    first = last = 0.0
    delay = 0.0

    def __init__(self) -> None:
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"get /stats"):
            stats = {"asked": Counting.asked, "seconds": Counting.last - Counting.first}
            Counting.asked, Counting.first = 0, 0.0
            self._write(json.dumps(stats).encode())
            return
        Counting.asked += 1
        Counting.last = time.perf_counter()
        Counting.first = Counting.first or Counting.last
        if Counting.delay:
            asyncio.get_running_loop().call_later(Counting.delay, self._write, b'{"ok":true}')
        else:
            self._write(b'{"ok":true}')

    def _write(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def serve(delay: float, ports: list[int]) -> None:
    import uvloop

    async def main() -> None:
        Counting.delay = delay
        loop = asyncio.get_running_loop()
        made = [await loop.create_server(Counting, "127.0.0.1", port) for port in ports]
        print(json.dumps([server.sockets[0].getsockname()[1] for server in made]), flush=True)
        await asyncio.Event().wait()

    uvloop.run(main())


@dataclass(slots=True)
class Endpoints:
    ports: list[int]
    config: Path

    def stats(self) -> dict[str, float]:
        """Requests since the last call, and the seconds from the first to the last of them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/stats", timeout=10) as answer:
            found: dict[str, float] = json.loads(answer.read())
        return found


@contextlib.contextmanager
def endpoints(delay: float, folder: Path) -> Iterator[Endpoints]:
    command = [sys.executable, "-m", "bench.batchkit", "--serve", str(delay)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        entries = {
            f"e{port}": {"host": "127.0.0.1", "port": port, "concurrency": SLOTS, "url": f"http://127.0.0.1:{port}"}
            for port in ports
        }
        config = folder / f"endpoints-{delay}.json"
        config.write_text(json.dumps(entries))
        yield Endpoints(ports, config)
    finally:
        server.terminate()
        server.wait()


# --- one run ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """``wall``, ``window``: seconds; ``cpu``: seconds of all processes together; ``memory``: their highest PSS, MiB."""

    asked: int
    wall: float
    window: float
    cpu: float
    memory: float

    @property
    def rate(self) -> float:
        return self.asked / self.window


@dataclass(slots=True)
class Watch:
    """Looks at a process tree: a killed child's CPU time would be lost to `wait`."""

    pid: int
    cpu: dict[int, float] = field(default_factory=dict)
    memory: float = 0.0

    def look(self) -> None:
        total = 0.0
        for pid in self._tree():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self.cpu[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(rollup.split("Pss:")[1].split()[0]) / 1024
        self.memory = max(self.memory, total)

    def _tree(self) -> list[int]:
        found, pending = [], [self.pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pending += [int(child) for child in task.read_text().split()]
        return found


def measure(command: list[str], there: Endpoints, *, every: float = 0.1, **environment: str) -> Run:
    there.stats()
    # What pip installs is compiled; so is this, from the first run on.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**env, **environment}
    )
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    watch = Watch(process.pid)
    try:
        while process.poll() is None:
            assert time.monotonic() - began < LIMIT, "the run takes too long"
            watch.look()
            time.sleep(every)
    finally:
        process.kill()
    wall = time.monotonic() - began
    assert process.returncode == 0, "".join(errors)[-3000:]
    stats = there.stats()
    return Run(int(stats["asked"]), wall, stats["seconds"], sum(watch.cpu.values()), watch.memory)


def ours(there: Endpoints, folder: Path, inputs: Path | None, count: int = COUNT) -> Run:
    outputs = folder / "ours"
    shutil.rmtree(outputs, ignore_errors=True)
    return measure([*command_of_ours(there.config, inputs, outputs), "--count", str(count)], there)


def command_of_ours(config: Path, inputs: Path | None, outputs: Path, mode: str = "ONESHOT") -> list[str]:
    given = ["--inputs", str(inputs)] if inputs else []
    return [*RUNS, "ours", "--config", str(config), "--mode", mode, *given, "--outputs", str(outputs)]


def start_ours(config: Path, inputs: Path, outputs: Path, mode: str, env: dict[str, str]) -> subprocess.Popen[Any]:
    command = command_of_ours(config, inputs, outputs, mode)
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env, start_new_session=True)


def bare(there: Endpoints, inputs: Path) -> Run:
    return measure([*RUNS, "bare", "--config", str(there.config), "--inputs", str(inputs)], there)


def public(there: Endpoints, folder: Path, inputs: Path) -> Run:
    """The public kit takes no keys that it does not know."""
    outputs = folder / "public"
    shutil.rmtree(outputs, ignore_errors=True)
    entries = json.loads(there.config.read_text())
    config = folder / "public.json"
    config.write_text(json.dumps({k: {n: v for n, v in e.items() if n != "url"} for k, e in entries.items()}))
    return measure(command_of_public(config, inputs, outputs), there, **PUBLIC_ENVIRONMENT)


def command_of_public(config: Path, inputs: Path, outputs: Path, mode: str = "ONESHOT") -> list[str]:
    return [str(public_python()), str(PROGRAM), str(config), str(inputs), str(outputs), mode]


def start_public(config: Path, inputs: Path, outputs: Path, mode: str, env: dict[str, str]) -> subprocess.Popen[Any]:
    return subprocess.Popen(
        command_of_public(config, inputs, outputs, mode), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**env, **PUBLIC_ENVIRONMENT}, start_new_session=True,
    )  # fmt: skip


def public_python() -> Path:
    """The interpreter of the public kit's own environment, made once and kept in the user's cache.

    The wheel holds its examples without their dependencies, and imports them: that folder is removed.
    """
    place = platformdirs.user_cache_path("azbatchwrap") / "bench" / f"batchkit-0.10.4-{sys.version_info.minor}"
    python = place / "bin" / "python"
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        # pyinotify needs asyncore, which Python 3.12 dropped; the kit needs pkg_resources.
        extra = ["pyasyncore"] if sys.version_info >= (3, 12) else []
        subprocess.run([str(python), "-m", "pip", "install", "-qq", PUBLIC, "setuptools<80", *extra], check=True)
        for examples in place.glob("lib/*/site-packages/batchkit_examples"):
            shutil.rmtree(examples)
        (place / "done").touch()
    return python


# --- the report -------------------------------------------------------------------------------------------------------


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-batchkit-") as name:
        folder = Path(name)
        inputs = folder / "inputs"
        inputs.mkdir()
        for number in range(COUNT):
            (inputs / f"item-{number:05d}.txt").touch()
        with endpoints(0.0, folder) as there:
            yield from _beside_others(there, folder, inputs)
            yield from _many(there, folder)
        with endpoints(DELAY, folder) as there:
            run, plain = ours(there, folder, inputs), bare(there, inputs)
            limit = ENDPOINTS * SLOTS / DELAY
            yield Figure(
                f"dispatch at {DELAY * 1000:.0f} ms", f"{run.rate:,.0f}/s", f"slot limit {limit:,.0f}/s",
                run.rate / limit, 0.8, note=f"a bare loop: {plain.rate:,.0f}/s",
            )  # fmt: skip
        yield from batchkit_faults.figures(start_ours, start_public, folder, inputs)


def _beside_others(there: Endpoints, folder: Path, inputs: Path) -> Iterator[Figure]:
    mine, plain, kit = [], [], []
    for _ in range(ROUNDS):  # in turn, as the machine's mood changes for all of them
        mine.append(ours(there, folder, inputs))
        plain.append(bare(there, inputs))
        kit.append(public(there, folder, inputs))
    best = statistics.median(run.rate for run in mine)
    theirs = statistics.median(run.rate for run in kit)
    yield Figure(
        f"dispatch window, {COUNT:,} items at 0 ms", f"{best:,.0f}/s", f"batchkit {theirs:,.0f}/s", best / theirs, 5.0
    )
    wall, their_wall = (statistics.median(run.wall for run in runs) for runs in (mine, kit))
    yield Figure("whole run", f"{wall:.2f} s", f"batchkit {their_wall:.2f} s", their_wall / wall, 8.0)
    cpu, their_cpu = (statistics.median(run.cpu for run in runs) for runs in (mine, kit))
    each = f"{cpu / COUNT * 1e6:.0f} us"
    yield Figure("CPU per item", each, f"batchkit {their_cpu / COUNT * 1e6:.0f} us", cpu / their_cpu, 1 / 8, "<=")
    memory, their_memory = (max(run.memory for run in runs) for runs in (mine, kit))
    yield Figure(
        "peak memory", f"{memory:.0f} MiB", f"batchkit {their_memory:.0f} MiB", memory / their_memory, 0.2, "<="
    )
    simple = statistics.median(run.rate for run in plain)
    yield Figure(
        "dispatch window beside a bare loop", f"{best:,.0f}/s", f"aiohttp {simple:,.0f}/s", best / simple, 0.75,
        note="no retries, health or results on disk there",
    )  # fmt: skip


def _many(there: Endpoints, folder: Path) -> Iterator[Figure]:
    before = [ours(there, folder, None).rate for _ in range(ROUNDS)]
    many = ours(there, folder, None, MANY)
    # Minutes lie between: the machine may have become slower or faster for everybody.
    few = statistics.median([*before, *(ours(there, folder, None).rate for _ in range(ROUNDS))])
    yield Figure(f"memory of {MANY:,} items", f"{many.memory:.0f} MiB", "bound 400 MiB", many.memory / 400, 1.0, "<=")
    yield Figure(f"rate at {MANY:,} items", f"{many.rate:,.0f}/s", f"at {COUNT:,}: {few:,.0f}/s", many.rate / few, 0.85)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=float)
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, [0] * ENDPOINTS if given.port is None else [given.port])
    else:
        for figure in figures():
            print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
