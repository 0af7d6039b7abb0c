# ruff: noqa: INP001 (a program of its own, uploaded with its folder)
"""Scores a file or folder of text: one line per file with its counts. The example that batchcreate deploys by itself.

Called as ``python batch.py DATA OUTPUT``: a file or folder to read, and a folder to write into (it may exist already).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

RESULT = "Results.txt"


def score(path: Path) -> tuple[int, int, int]:
    """Lines, words and bytes of a file."""
    content = path.read_bytes()
    return len(content.splitlines()), len(content.split()), len(content)


def main(data: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    if not files:
        sys.exit(f"there is nothing to score in {data}")
    beside = output / f"{RESULT}.part"
    with beside.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "lines", "words", "bytes"])
        rows.writerows([path.name, *score(path)] for path in files)
    beside.replace(output / RESULT)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
