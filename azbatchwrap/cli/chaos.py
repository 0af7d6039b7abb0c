"""Faults of the local Batch service: ``azbatchwrap local chaos show|set|clear``, and the same flags on ``local up``."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from azbatchwrap.cli.opening import json_option

_Command = TypeVar("_Command", bound=Callable[..., Any])

RATE = click.FloatRange(0, 1)
SECONDS = click.FloatRange(0, 86_400)
#: (flag, type, unit, help)
_FLAGS: tuple[tuple[str, Any, str, str], ...] = (
    ("--throttle", RATE, "RATE", "Answer this share of the requests with 429 and a Retry-After."),
    ("--error", RATE, "RATE", "Answer this share of the requests with 503 ServerBusy."),
    ("--retry-after", SECONDS, "SECONDS", "What the Retry-After says (default: 1)."),
    ("--upload-error", RATE, "RATE", "Let the uploads of this share of the tasks fail."),
    ("--spot-preemption", RATE, "RATE", "Take this share of the Spot nodes away in each minute."),
    ("--allocation-delay", SECONDS, "SECONDS", "Let new nodes take this long."),
    ("--node-quota", click.IntRange(0), "NODES", "Let all pools together have no more nodes than this."),
    ("--job-quota", click.IntRange(0), "JOBS", "Let there be no more active jobs than this."),
    ("--counts-lag", SECONDS, "SECONDS", "Let task counts lag this far behind."),
    (
        "--support-approval",
        click.BOOL,
        "BOOL",
        "Let jobs use what Azure's support has to approve: maxParallelTasks and allowTaskPreemption.",
    ),
    ("--seed", click.INT, "NUMBER", "Begin the sequence of faults here: the same seed, the same faults."),
)
_NAMES = tuple(flag.removeprefix("--").replace("-", "_") for flag, *_ in _FLAGS)
CALM: Mapping[str, float | None] = {
    **dict.fromkeys(("throttle", "error", "upload_error", "spot_preemption", "allocation_delay", "counts_lag"), 0.0),
    "node_quota": None,
    "job_quota": None,
}


def chaos_options(command: _Command) -> _Command:
    """The flags; the command gets those given as the mapping ``chaos``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        options["chaos"] = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, **options)

    wrapped: Any = collected
    for flag, kind, unit, text in reversed(_FLAGS):
        wrapped = click.option(flag, type=kind, metavar=unit, help=text)(wrapped)
    found: _Command = wrapped
    return found


def _data_dir(command: _Command) -> _Command:
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option("--data-dir", type=kind, help="The instance's folder (as for `local up`).")(command)


@click.group()
def chaos() -> None:
    """Let the local Batch service have a bad day, while it runs: throttling, errors, pre-empted nodes, slow counts.

    What is set stays in force until it is changed, over restarts too.

    \b
    Examples:
      azbatchwrap local chaos set --throttle 0.2 --error 0.05 --seed 1
      azbatchwrap local chaos show
      azbatchwrap local chaos clear
    """


@chaos.command()
@_data_dir
@json_option
def show(*, data_dir: Path | None, as_json: bool) -> None:
    """Show the faults in force.

    \b
    Example:
      azbatchwrap local chaos show --json
    """
    _change(data_dir, {}, as_json=as_json)


@chaos.command("set")
@_data_dir
@chaos_options
@json_option
def set_(*, data_dir: Path | None, chaos: Mapping[str, Any], as_json: bool) -> None:
    """Change the faults named; the others stay.

    \b
    Example:
      azbatchwrap local chaos set --spot-preemption 0.5
    """
    if not chaos:
        raise click.UsageError(f"name at least one of {', '.join(flag for flag, *_ in _FLAGS)}")
    _change(data_dir, chaos, as_json=as_json)


@chaos.command()
@_data_dir
@json_option
def clear(*, data_dir: Path | None, as_json: bool) -> None:
    """Take all faults back.

    \b
    Example:
      azbatchwrap local chaos clear
    """
    _change(data_dir, CALM, as_json=as_json)


def _change(data_dir: Path | None, changes: Mapping[str, Any], *, as_json: bool) -> None:
    from azbatchwrap.config import data_folder
    from azbatchwrap.local.stack import Stack

    in_force = Stack(data_dir or data_folder()).chaos(changes)
    if as_json:
        click.echo(json.dumps(dict(in_force), indent=2))
        return
    for name, value in in_force.items():
        click.echo(f"{name.replace('_', '-'):17} {'' if value is None else value}")
