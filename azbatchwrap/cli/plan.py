"""`azbatchwrap plan`: what a manifest or a script would do and use, before anything is paid for."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from azbatchwrap.cli.opening import json_option, load_settings, open_batch, project_option
from azbatchwrap.cli.output import note, print_json
from azbatchwrap.errors import ConfigurationError

if TYPE_CHECKING:
    from azbatchwrap.batch.plan import Plan

EPILOG = """\b
Examples:
  azbatchwrap plan task.json --input data.csv
  azbatchwrap plan driver.py --task-seconds 90 --price 0.096
"""


@click.command(epilog=EPILOG)
@click.argument("source", metavar="MANIFEST|SCRIPT", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--input", "inputs", multiple=True, metavar="PATH", help="Input file, folder or pattern; may be repeated."
)
@click.option("--tasks-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the task files are.")
@click.option("--task-seconds", type=click.FloatRange(0, min_open=True), help="How long a task takes, for the cost.")
@click.option("--price", type=click.FloatRange(0), help="What a node costs per hour.")
@project_option
@json_option
def plan(
    *,
    source: Path,
    inputs: tuple[str, ...],
    tasks_dir: Path | None,
    task_seconds: float | None,
    price: float | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Say what MANIFEST or SCRIPT would upload, make and use again. Nothing is sent.

    A script runs with its sessions dry: up to where it wants a result.
    """
    plans = _of_script(source) if source.suffix == ".py" else [_of_manifest(source, inputs, tasks_dir, project)]
    if as_json:
        print_json([dataclasses.asdict(one) for one in plans])
        return
    for one in plans:
        click.echo("\n".join([*one.lines(task_seconds=task_seconds, price=price), *_sizes(one)]))


def _of_manifest(path: Path, inputs: tuple[str, ...], tasks_dir: Path | None, project: str | None) -> Plan:
    from azbatchwrap import manifest
    from azbatchwrap.batch.plan import Plan, counted, planned_files, planned_pool
    from azbatchwrap.batch.reuse import find_pool
    from azbatchwrap.manifest import check_inputs

    work = manifest.read(path, modules_directory=tasks_dir)
    settings = load_settings(project=project)
    with open_batch(settings=settings) as batch:
        for pattern in (*work.input_paths, *inputs):
            batch.storage.add_input_file_path(pattern)
        for module in work.module_paths:
            batch.storage.add_task_file_path(module)
        check_inputs(work, batch.storage.input_names())
        pool_id = find_pool(batch) or "a new pool"
        return Plan(
            str(path),
            counted(record.module for record in work.records),
            planned_files(batch, batch.storage.chosen_files()),
            planned_pool(batch, pool_id, nodes=settings.pool.node_count),
            settings.is_local,
        )


def _of_script(path: Path) -> list[Plan]:
    from azbatchwrap.batch.sessions.dry import dry_sessions

    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    with dry_sessions() as sessions:
        try:
            runpy.run_path(str(path), run_name="__main__")
        except ConfigurationError as error:
            if not sessions:
                raise
            note(f"the script was followed up to here: {error}")
        finally:
            sys.path.remove(folder)
        if not sessions:
            raise ConfigurationError(f"{path} opens no Session, so there is nothing to plan")
        return [session.plan() for session in sessions]


def _sizes(one: Plan) -> list[str]:
    """What the pool's formula comes to when the run begins, and when all its tasks are waiting."""
    if not one.pool.formula:
        return []
    from azbatchwrap.local.batch.autoscale import SAMPLE_PERIOD, PoolNow, SampleHistory, evaluate

    now, found = datetime.now(timezone.utc), []
    for words, pending in (("at the beginning", None), (f"with {one.count} tasks pending", one.count)):
        history = SampleHistory()
        for age in range(120, 1, -1) if pending else ():
            history.record({"$PendingTasks": float(pending or 0)}, now - SAMPLE_PERIOD * age)
        metrics = {"$TaskSlotsPerNode": float(one.pool.slots)}
        sizes = evaluate(one.pool.formula, history, now, PoolNow(one.pool.nodes, 0, metrics))
        found.append(f"formula {words}: {sizes.dedicated} dedicated and {sizes.low_priority} spot nodes")
    return found
