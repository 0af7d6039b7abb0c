"""The values of a job's tasks in one place: ``results.json`` for programs, ``results.csv`` for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .results import TaskResult

#: The columns that every row of ``results.csv`` has, before those of the values.
FIXED_COLUMNS = ("task", "state", "seconds", "error")


def merged(results: Iterable[TaskResult]) -> list[dict[str, Any]]:
    """One JSON object per task, in submission order: its id, state, seconds, value, and why it failed."""
    return [
        {
            "task": result.task_id,
            "state": result.state,
            "seconds": seconds(result),
            "value": result.value,
            "error": str(result.error) if result.error else None,
            "outputs": list(result.outputs),
        }
        for result in results
    ]


def seconds(result: TaskResult) -> float | None:
    """How long the task ran."""
    if result.started is None or result.ended is None:
        return None
    return round(max(0.0, (result.ended - result.started).total_seconds()), 3)


def value_columns(results: Iterable[TaskResult]) -> list[str]:
    """The columns that show the values: the keys of values that are objects, and ``value`` when some are not."""
    columns: dict[str, None] = {}
    for result in results:
        if isinstance(result.value, dict):
            columns |= dict.fromkeys(map(str, result.value))
        elif result.value is not None:
            columns["value"] = None
    return list(columns)


def cells(result: TaskResult, columns: Sequence[str]) -> list[Any]:
    """The value of one task below ``columns``."""
    if isinstance(result.value, dict):
        return [result.value.get(column) for column in columns]
    return [result.value if column == "value" else None for column in columns]


def write_merged(results: Sequence[TaskResult], directory: Path) -> tuple[Path, Path]:
    """Write ``results.json`` and ``results.csv`` into ``directory``; each appears whole or not at all."""
    table, columns = io.StringIO(), value_columns(results)
    writer = csv.writer(table)
    writer.writerow([*FIXED_COLUMNS, *(f"value.{name}" if name in FIXED_COLUMNS else name for name in columns)])
    for row, result in zip(merged(results), results, strict=True):
        writer.writerow([*(row[name] for name in FIXED_COLUMNS), *map(_cell, cells(result, columns))])
    document = json.dumps(merged(results), indent=2, ensure_ascii=False, default=str)
    return (
        _write(directory / "results.json", document + "\n"),
        _write(directory / "results.csv", table.getvalue()),
    )


def _cell(value: Any) -> Any:
    """Lists and objects inside a value are written as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    beside.replace(path)
    return path
