"""Scores each line of a text file by how many of its words are positive or negative.

Called as ``python batch.py DATA OUTPUT``; OUTPUT is a folder that Azure has made already.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

POSITIVE = {"good", "great", "fast", "quiet", "friendly", "clean"}
NEGATIVE = {"bad", "slow", "loud", "broken", "late", "dirty"}


def score(line: str) -> int:
    words = [word.strip(".,!?").lower() for word in line.split()]
    return sum(word in POSITIVE for word in words) - sum(word in NEGATIVE for word in words)


def main(data: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    lines = data.read_text(encoding="utf-8").splitlines()
    with (output / "Results.txt").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["line", "score"])
        rows.writerows([number, score(line)] for number, line in enumerate(lines, 1))
    print(f"scored {len(lines)} lines of {data.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
