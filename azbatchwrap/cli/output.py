"""How facts are printed: tables for people, JSON for programs; notes and progress go to standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azbatchwrap.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a table that is not drawn on a terminal: wide enough that nothing is cut or folded.
PLAIN_WIDTH = 240

_COLOURS = {
    "succeeded": "green", "completed": "green", "idle": "green", "active": "cyan", "running": "cyan", "failed": "red",
    "lost": "red", "cancelled": "yellow", "unusable": "red", "starttaskfailed": "red", "deleting": "yellow",
}  # fmt: skip


def note(text: str) -> None:
    """A line for the person at the terminal, apart from the facts that a program may read."""
    click.echo(text, err=True)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Names the ``place`` in what goes wrong in this block: a full disk does not say where it is full."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be written: {error.strerror or error}") from error


def print_json(value: object) -> None:
    """``value`` as one JSON document; records, times and paths in the forms that JSON has for them."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table; the state in a row is coloured on a terminal. Text is shown as it is, without markup or control codes."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    listed = [tuple(row) for row in rows]
    for place, column in enumerate(columns):
        numbers = all(isinstance(row[place], int | float | None) for row in listed)
        table.add_column(column, overflow="fold", justify="right" if numbers else "left")
    for row in listed:
        table.add_row(*(Text(text, style=_COLOURS.get(text.lower(), "")) for text in map(readable, row)))
    console.print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """One thing's facts, one per line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {readable(value)}")


def readable(value: object) -> str:
    """``value`` as the cell of a table: nothing is an empty text, control characters are shown as such."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=_plain, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else "\N{MIDDLE DOT}" for letter in text)


def last_line(text: str | None) -> str:
    """The last line that says something: what went wrong usually stands there."""
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _console() -> Console:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else PLAIN_WIDTH, soft_wrap=False)


def _plain(value: Any) -> object:
    import dataclasses

    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)
