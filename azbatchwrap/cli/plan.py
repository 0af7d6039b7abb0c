"""`azbatchwrap plan`: what a manifest or a script would do and use, before anything is paid for."""

from __future__ import annotations

import dataclasses
import runpy
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from azbatchwrap.cli.opening import json_option, load_settings, open_batch, project_option
from azbatchwrap.cli.output import note, print_json
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError

if TYPE_CHECKING:
    from azbatchwrap.batch.plan import Plan
    from azbatchwrap.batch.prices import Price

EPILOG = """\b
Examples:
  azbatchwrap plan task.json --input data.csv
  azbatchwrap plan driver.py --task-seconds 90 --price 0.096
  azbatchwrap plan driver.py --task-seconds 90 --prices prices.json --json
"""


@click.command(epilog=EPILOG)
@click.argument("source", metavar="MANIFEST|SCRIPT", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--input", "inputs", multiple=True, metavar="PATH", help="Input file, folder or pattern; may be repeated."
)
@click.option("--tasks-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the task files are.")
@click.option("--task-seconds", type=click.FloatRange(0, min_open=True), help="How long a task takes, for the cost.")
@click.option("--price", type=click.FloatRange(0), help="What a node costs per hour.")
@click.option(
    "--prices", type=click.Path(path_type=Path, dir_okay=False), help="A table of what nodes cost, by VM size."
)
@project_option
@json_option
def plan(
    *,
    source: Path,
    inputs: tuple[str, ...],
    tasks_dir: Path | None,
    task_seconds: float | None,
    price: float | None,
    prices: Path | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Say what MANIFEST or SCRIPT would upload, make and use again. Nothing is sent.

    A script runs with its sessions dry: up to where it wants a result.
    """
    if price is not None and prices is not None:
        raise click.UsageError("--price and --prices say the same twice")
    plans = _of_script(source) if source.suffix == ".py" else [_of_manifest(source, inputs, tasks_dir, project)]
    table = _price_table(price, prices, plans)
    if as_json:
        print_json([_facts(one, task_seconds, table.get(one.pool.vm_size)) for one in plans])
        return
    for one in plans:
        lines = one.lines(task_seconds=task_seconds, price=table.get(one.pool.vm_size))
        click.echo("\n".join([*lines, *(str(size) for size in _sizes(one))]))


def _price_table(price: float | None, prices: Path | None, plans: list[Plan]) -> dict[str, Price]:
    """VM size -> price, of the pools in these plans. Raises ConfigurationError for a size that the table lacks."""
    from azbatchwrap.batch.prices import Price, read_prices

    sizes = {one.pool.vm_size for one in plans}
    if prices is None:
        return {} if price is None else dict.fromkeys(sizes, Price(price, price))
    table = read_prices(prices)
    found = {size: table.of(size) for size in sizes}
    if missing := sorted(size for size, known in found.items() if known is None):
        raise ConfigurationError(f"{prices} has no price of {', '.join(missing)}")
    return {size: known for size, known in found.items() if known is not None}


def _facts(one: Plan, task_seconds: float | None, price: Price | None) -> dict[str, object]:
    """The plan for programs: as it is, with what follows from it."""
    facts = dataclasses.asdict(one)
    facts["room"]["shares"] = [{**dataclasses.asdict(share), "fits": share.fits} for share in one.room.shares]
    facts["formula_sizes"] = [dataclasses.asdict(size) for size in _sizes(one)]
    if task_seconds is not None:
        facts["node_hours"] = one.node_hours(task_seconds)
        if price is not None:
            facts["cost"] = {"amount": one.cost(task_seconds, price), "currency": price.currency}
    return facts


def _of_manifest(path: Path, inputs: tuple[str, ...], tasks_dir: Path | None, project: str | None) -> Plan:
    from azbatchwrap import manifest
    from azbatchwrap.batch.plan import Plan, PoolWish, counted, planned_files, planned_pool, room_for
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
        pool = planned_pool(batch, PoolWish(find_pool(batch) or "a new pool", settings.pool.node_count))
        return Plan(
            str(path),
            counted(record.module for record in work.records),
            planned_files(batch, batch.storage.chosen_files()),
            pool,
            room_for(batch, pool),
            settings.is_local,
        )


def _of_script(path: Path) -> list[Plan]:
    from azbatchwrap.batch.sessions.dry import dry_sessions

    with dry_sessions() as sessions:
        try:
            _follow(path)
        except ConfigurationError as error:
            if not sessions:
                raise
            note(f"the script was followed up to here: {error}")
        if not sessions:
            raise ConfigurationError(f"{path} opens no Session, so there is nothing to plan")
        return [session.plan() for session in sessions]


def _follow(path: Path) -> None:
    """Run the script as Python would. Raises UsageError with the script's own traceback when it fails."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        runpy.run_path(str(path), run_name="__main__")
    except AzBatchWrapError:
        raise
    except SystemExit as end:
        if isinstance(end.code, str):
            raise click.UsageError(f"{path} ended with: {end.code}") from None
    except Exception as error:  # noqa: BLE001 - the script may raise anything
        raise click.UsageError(f"{path} failed:\n{_own_traceback(error, path)}") from None
    finally:
        sys.path.remove(folder)


def _own_traceback(error: Exception, path: Path) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


@dataclasses.dataclass(frozen=True)
class FormulaSize:
    """What a pool's formula comes to with so many tasks pending all the time."""

    pending: int
    dedicated: int
    spot: int

    def __str__(self) -> str:
        when = f"with {self.pending} tasks pending" if self.pending else "at the beginning"
        return f"formula {when}: {self.dedicated} dedicated and {self.spot} spot nodes"


def _sizes(one: Plan) -> list[FormulaSize]:
    """Of the pool's formula, when the run begins and when all its tasks are waiting."""
    if not one.pool.formula:
        return []
    from azbatchwrap.local.batch.autoscale import SAMPLE_PERIOD, AutoscaleError, PoolNow, SampleHistory, evaluate

    now = datetime.now(timezone.utc)
    found: list[FormulaSize] = []
    for pending in (0, one.count):
        history = SampleHistory()
        for age in range(120, 1, -1) if pending else ():
            history.record({"$PendingTasks": float(pending)}, now - SAMPLE_PERIOD * age)
        metrics = {"$TaskSlotsPerNode": float(one.pool.slots)}
        try:
            sizes = evaluate(one.pool.formula, history, now, PoolNow(one.pool.nodes, one.pool.spot_nodes, metrics))
        except AutoscaleError as error:
            # A formula of somebody else's may need samples that nobody has before a run.
            note(f"the formula of pool {one.pool.pool_id} cannot be evaluated here: {error}")
            return found
        found.append(FormulaSize(pending, sizes.dedicated, sizes.low_priority))
    return found
