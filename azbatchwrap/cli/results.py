"""How a job's results are shown and kept: the table, the merged files, and the exit code they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azbatchwrap.cli.output import last_line, print_json, print_table

if TYPE_CHECKING:
    from azbatchwrap.batch.results import TaskResult

#: A table of more tasks than this shows those that did not succeed, and the files hold them all.
LONGEST_TABLE = 100
#: Columns of values beside a task's own, and the characters of one cell: wider ones are for the files.
MOST_COLUMNS = 8
WIDEST_CELL = 100


def show_results(results: Sequence[TaskResult], *, as_json: bool, **facts: object) -> int:
    """Print the results; ``facts`` go with them as JSON. Returns the exit code: 1 when a task did not succeed."""
    if as_json:
        from azbatchwrap.batch.merge import merged

        print_json({**facts, "results": merged(results)})
    else:
        _print(results)
    return 0 if all(result.succeeded for result in results) else 1


def keep_results(results: Sequence[TaskResult], directory: Path) -> str:
    """Write the merged files, and say where everything is."""
    from azbatchwrap.batch.merge import write_merged

    _, table = write_merged(results, directory)
    return f"results: {directory}/<task>/, merged in {table} and results.json"


def _print(results: Sequence[TaskResult]) -> None:
    from azbatchwrap.batch.merge import cells, seconds, value_columns

    bad = [result for result in results if not result.succeeded]
    shown = results if len(results) <= LONGEST_TABLE else bad[:LONGEST_TABLE]
    if shown:
        columns = value_columns(shown)[:MOST_COLUMNS]
        error = ("error",) if any(result.error for result in shown) else ()
        rows = [
            (result.task_id, result.state, seconds(result), *map(_cell, cells(result, columns)), *_error(result, error))
            for result in shown
        ]
        print_table(("task", "state", "seconds", *columns, *error), rows)
    counts = Counter(result.state for result in results)
    summary = ", ".join(f"{number} {state}" for state, number in counts.most_common()) or "none"
    hidden = f" (shown: {len(shown)} that did not succeed)" if len(shown) < len(results) else ""
    click.echo(f"\n{len(results)} task{'' if len(results) == 1 else 's'}: {summary}{hidden}")


def _error(result: TaskResult, column: tuple[str, ...]) -> tuple[str, ...]:
    """The last line of what went wrong, in the column for it when there is one."""
    if not column:
        return ()
    return (_cell(last_line(str(result.error))) if result.error else "",)


def _cell(value: Any) -> Any:
    if isinstance(value, float | int | None):
        return value
    from azbatchwrap.cli.output import readable

    text = readable(value)
    return text if len(text) <= WIDEST_CELL else text[: WIDEST_CELL - 1] + "…"
