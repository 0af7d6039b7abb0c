"""`azbatchwrap run`: a manifest from its check to the table of its results."""

from __future__ import annotations

import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azbatchwrap import names
from azbatchwrap.cli.main import INTERRUPTED
from azbatchwrap.cli.opening import Account, json_option, load_settings, open_batch, project_option
from azbatchwrap.cli.output import duration, note, print_json
from azbatchwrap.cli.results import keep_results, show_results
from azbatchwrap.errors import ConfigurationError, NotFound, PoolError, WaitTimeout

if TYPE_CHECKING:
    from azbatchwrap.batch import AzureBatch, TaskResult
    from azbatchwrap.batch.reuse import PoolChoice
    from azbatchwrap.config import Settings
    from azbatchwrap.manifest import Manifest

EPILOG = """\b
Examples:
  azbatchwrap run task.json --input data.csv --output-dir outputs
  azbatchwrap run sweep.csv --tasks-dir tasks --input "data/*.csv" --nodes 4
  azbatchwrap run task.json --detach
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The words of the command line. ``timeout`` is in seconds."""

    manifest_path: Path
    inputs: tuple[str, ...]
    applications: tuple[str, ...]
    tasks_dir: Path | None
    pool_id: str | None
    new_pool: bool
    nodes: int | None
    keep_nodes: bool
    output_dir: Path | None
    timeout: float | None
    patience: str | None
    detach: bool
    on_interrupt: str
    project: str | None
    as_json: bool


@dataclass(slots=True)
class Attempt:
    """One run, as far as it has come: what an interruption has to decide about."""

    job_id: str
    directory: Path
    pool: PoolChoice | None = None


_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)


@click.command(epilog=EPILOG)
@click.argument("manifest_path", metavar="MANIFEST", type=_file)
@click.option(
    "--input", "inputs", multiple=True, metavar="PATH", help="Input file, folder or pattern; may be repeated."
)
@click.option("--app", "applications", multiple=True, metavar="PATH", help="Application file, such as a jar.")
@click.option("--tasks-dir", type=_folder, help="Where the task files are, instead of what the manifest says.")
@click.option("--pool", "pool_id", metavar="POOL", help="Use this pool.")
@click.option("--new-pool", is_flag=True, help="Make a pool, even if one that would do is there.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes that the pool is to have at least.")
@click.option("--keep-nodes", is_flag=True, help="On Azure: leave the nodes that came for this run (they cost).")
@click.option("--output-dir", type=_folder, help="Where results go (default: outputs/JOB).")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait at most; the job goes on.")
@click.option(
    "--patience", metavar="DURATION", help="How long to wait for room, such as 2h (default: 30m; 0: not at all)."
)
@click.option("--detach", is_flag=True, help="Submit and leave: the job ends by itself.")
@click.option("--on-interrupt", type=click.Choice(["ask", "leave", "terminate"]), default="ask", show_default=True,
              help="What Ctrl-C does with the job.")  # fmt: skip
@project_option
@json_option
def run(**words: Any) -> None:
    """Run the tasks of MANIFEST and bring their results.

    MANIFEST is a task.json, or the same as YAML, or a table of entries (.csv, .tsv, .jsonl). It is checked whole before
    anything is uploaded. The project's pool of the same configuration is used again; without one, a pool is made.
    """
    from azbatchwrap import manifest

    options = Options(**words)
    if options.pool_id and (options.new_pool or options.nodes):
        raise click.UsageError("--pool uses a pool as it is: leave out --new-pool and --nodes")
    work = manifest.read(options.manifest_path, modules_directory=options.tasks_dir)
    job_id = names.new_id("job")
    attempt = Attempt(job_id, options.output_dir or Path("outputs") / job_id)
    settings = load_settings(project=options.project, node_count=options.nodes)
    try:
        if options.detach:
            _detach(options, work, settings, attempt)
            return
        results = _run(options, work, settings, attempt)
    except PoolError:
        _give_back(options, settings, attempt)
        raise
    except KeyboardInterrupt:
        _interrupted(options, settings, attempt)
        raise click.exceptions.Exit(INTERRUPTED) from None
    code = show_results(results, as_json=options.as_json, job=job_id, output_dir=str(attempt.directory))
    raise click.exceptions.Exit(code)


def _run(options: Options, work: Manifest, settings: Settings, attempt: Attempt) -> list[TaskResult]:
    from azbatchwrap.batch.reuse import empty_pool

    started = time.monotonic()
    job_id, directory = attempt.job_id, attempt.directory
    _make_folder(directory)
    with open_batch(settings=settings, patience=options.patience) as batch:
        pool = _submit(batch, options, work, attempt)
        _wait(batch, job_id, options.timeout)
        results = batch.get_results(job_id, wait=False)
        container = batch.jobs.facts(job_id).output_container
        batch.storage.download_results(job_id, directory, container=container)
        if pool.ours and not settings.is_local and not options.keep_nodes and empty_pool(batch, pool.pool_id):
            batch.progress.message(
                f"pool {pool.pool_id}: its nodes go, nothing is paid for; the next run gets new ones"
            )
    note(keep_results(results, directory))
    note(f"job {job_id} took {duration(time.monotonic() - started)}\n")
    return results


def _wait(batch: AzureBatch, job_id: str, timeout: float | None) -> None:
    try:
        batch.wait_for_tasks(job_id, timeout)
    except (PoolError, WaitTimeout):
        batch.progress.message(f"job {job_id} is still there: azbatchwrap job wait {job_id}, or job cancel {job_id}")
        raise


def _detach(options: Options, work: Manifest, settings: Settings, attempt: Attempt) -> None:
    job_id = attempt.job_id
    with open_batch(settings=settings, patience=options.patience) as batch:
        pool = _submit(batch, options, work, attempt)
        batch.seal_job(job_id)
    note(f"next: azbatchwrap job wait {job_id}, azbatchwrap job download {job_id}")
    if pool.ours and not settings.is_local:
        note(f"the pool's nodes stay and cost until: azbatchwrap pool delete {pool.pool_id}")
    if options.as_json:
        print_json({"job": job_id, "pool": pool.pool_id, "tasks": len(work.records)})
    else:
        click.echo(job_id)


def _submit(batch: AzureBatch, options: Options, work: Manifest, attempt: Attempt) -> PoolChoice:
    """Everything up to the last task: files, pool, job, tasks."""
    from azbatchwrap.batch.reuse import PoolChoice, choose_pool
    from azbatchwrap.manifest import check_inputs

    storage = batch.storage
    for pattern in (*work.input_paths, *options.inputs):
        storage.add_input_file_path(pattern)
    for pattern in options.applications:
        storage.add_application_file_path(pattern)
    for path in work.module_paths:
        storage.add_task_file_path(path)
    check_inputs(work, storage.input_names())
    inputs, tasks = storage.get_application_input_files(), storage.get_batch_task_files()
    if options.pool_id:
        pool = PoolChoice(batch.use_existing_pool(options.pool_id), "used as asked", ours=False)
    else:
        pool = choose_pool(batch, always_new=options.new_pool)
    attempt.pool = pool
    job_id = attempt.job_id
    batch.progress.message(f"pool {pool.pool_id}: {pool.how}")
    batch.create_a_job(
        job_id=job_id,
        output_container=work.output_container,
        app_resources=storage.get_application_files(),
        input_resources=inputs,
        task_files=tasks,
    )
    batch.progress.message(f"job {job_id}: {len(work.records)} tasks from {work.source}")
    batch.add_tasks_to_job(job_id, work.records)
    return pool


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"results cannot go to {directory}: {error.strerror}") from error


def _interrupted(options: Options, settings: Settings, attempt: Attempt) -> None:
    """Leave the job or end it, as asked for or as answered; without anybody to ask it is left."""
    account, job_id, choice = Account(settings), attempt.job_id, options.on_interrupt
    try:
        over = account.jobs.facts(job_id).ended
    except NotFound:
        note("\ninterrupted before there was a job; what is uploaded is used by the next run")
        over, choice = True, "terminate"
    else:
        if over:
            note(f"\njob {job_id} has ended: azbatchwrap job download {job_id}")
        elif choice == "ask":
            choice = _ask(job_id)
    if choice == "leave" and not over:
        note(f"job {job_id} goes on: azbatchwrap job wait {job_id}, or azbatchwrap job cancel {job_id}")
        return
    if not over:
        account.jobs.terminate(job_id)
        note(f"job {job_id}: ending; what is done so far: azbatchwrap job download {job_id}")
    _give_back(options, settings, attempt)


def _give_back(options: Options, settings: Settings, attempt: Attempt) -> None:
    """Nodes that came for a run that is off cost as long as they are there. On this machine they cost nothing."""
    if attempt.pool is None or settings.is_local or options.keep_nodes:
        return
    from azbatchwrap.batch.reuse import give_back

    note(give_back(Account(settings).pools, attempt.pool))


def _ask(job_id: str) -> str:
    if not sys.stdin.isatty():
        return "leave"
    note(f"\nJob {job_id} is running.")
    try:
        while True:
            click.echo("Leave it running, or terminate it? (leave, terminate) [leave]: ", nl=False, err=True)
            answer = _typed_line().strip().lower() or "leave"
            for choice in ("leave", "terminate"):
                if choice.startswith(answer):
                    return choice
    except KeyboardInterrupt:
        note("")
        return "leave"


def _typed_line() -> str:
    """A line of standard input; empty at its end.

    Looked for in short turns: a Ctrl-C that comes a moment before a blocking read would be heard only after it.
    """
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline()
