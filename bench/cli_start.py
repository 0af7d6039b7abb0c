"""The command line's start beside the bare import of its library, and how soon the local services answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure

RUNS, WARM_UP = 20, 2
UPS = 6


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def figures() -> Iterator[Figure]:
    script = str(Path(sys.executable).with_name("azbatchwrap"))
    pairs = [
        (seconds([script, "--help"]), seconds([sys.executable, "-c", "import click"])) for _ in range(RUNS + WARM_UP)
    ][WARM_UP:]
    ours, theirs = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    yield Figure("azbatchwrap --help", f"{ours:.0f} ms", f"import click: {theirs:.0f} ms", ratio, 1.3, "<=")
    yield up()


def up() -> Figure:
    """From starting the command to its end, which is when everything answers; keys and ports exist by the second."""
    script = str(Path(sys.executable).with_name("azbatchwrap"))
    with tempfile.TemporaryDirectory() as home:
        command = [script, "local", "{verb}", "--data-dir", home]
        start, stop = ([word.format(verb=verb) for word in command] for verb in ("up", "down"))
        times = []
        for _ in range(UPS):
            times.append(seconds(start))
            seconds(stop)
    median = statistics.median(times[1:])
    return Figure("local up to ready", f"{median:.2f} s", "1.5 s", median, 1.5, "<=", "seconds; Azurite installed")
