"""Runs a model deployment's scoring script: init() once, run(mini_batch) for every few files. Started as a program.

It runs in the environment of the deployment: nothing but the standard library, and any Python from 3.8 on.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> int:
    """0 when no more files failed than the threshold allows."""
    parser = argparse.ArgumentParser()
    for name in ("script", "input", "output", "output-file", "output-action"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("mini-batch-size", "error-threshold", "max-retries"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    script = load(Path(given.script))
    files = found(Path(given.input))
    script.init()
    failed = 0
    rows: list[list[Any]] = []
    for start in range(0, len(files), max(1, given.mini_batch_size)):
        batch = [str(path) for path in files[start : start + max(1, given.mini_batch_size)]]
        answer = attempt(script, batch, given.max_retries)
        if answer is None:
            failed += len(batch)
            say(f"failed: {', '.join(Path(path).name for path in batch)}")
        else:
            rows += answer
            say(f"scored {len(batch)} of {len(files)} files")
        if 0 <= given.error_threshold < failed:
            say(f"{failed} files failed; the error threshold is {given.error_threshold}")
            return 1
    if given.output_action.lower() != "summaryonly":
        write(Path(given.output) / given.output_file, rows)
    if files and failed == len(files):
        say("every file failed")
        return 1
    return 0


def load(path: Path) -> Any:
    """The scoring script as a module; its folder is on the path, as where it is a program."""
    sys.path.insert(0, str(path.parent.resolve()))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None or not path.exists():
        raise SystemExit(f"there is no scoring script {path}")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def found(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in sorted(place.rglob("*")) if path.is_file()]


def attempt(script: Any, batch: list[str], retries: int) -> list[list[Any]] | None:
    """The rows of one mini-batch; ``None`` when every attempt failed."""
    for _ in range(max(0, retries) + 1):
        try:
            return as_rows(script.run(batch))
        except Exception:  # noqa: BLE001 - whatever a user's script raises is the mini-batch's failure
            traceback.print_exc()
    return None


def as_rows(answer: Any) -> list[list[Any]]:
    """A list (a row for each element) or a table with ``itertuples``."""
    if hasattr(answer, "itertuples"):
        return [list(row) for row in answer.itertuples(index=False, name=None)]
    return [list(row) if isinstance(row, (list, tuple)) else [row] for row in answer]


def write(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
