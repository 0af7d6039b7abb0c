"""The command line's start beside the bare import of its library."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure

RUNS, WARM_UP = 20, 2


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
