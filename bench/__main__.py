"""``python -m bench [NAME …]``: run every benchmark (or the named ones) and print one line per figure.

A benchmark is a module of this folder with ``def figures() -> Iterable[Figure]``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
import traceback
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_BENCHMARKS = {"__main__", "figures"}
#: Goes first: ext4 looks past every inode that was deleted in the last minutes before it makes a file, so a benchmark
#: that makes many small files must not follow one that has just removed its own.
FIRST = "local_service"


def names() -> list[str]:
    found = {m.name for m in pkgutil.iter_modules([str(FOLDER)])} - NOT_BENCHMARKS
    return sorted(found, key=lambda name: (name != FIRST, name))


def main() -> int:
    chosen = sys.argv[1:] or names()
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    failed = 0
    for name in chosen:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            for figure in importlib.import_module(f"bench.{name}").figures():
                print(figure.line(), flush=True)
        except Exception:  # noqa: BLE001 - one broken benchmark must not hide the others
            failed += 1
            traceback.print_exc()
        print(f"   ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
