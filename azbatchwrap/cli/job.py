"""`azbatchwrap job`: the jobs of a project, waited for, brought home, ended or tried again."""

from __future__ import annotations

from pathlib import Path

import click

from azbatchwrap.cli.opening import confirm, json_option, open_account, open_batch, project_option, yes_option
from azbatchwrap.cli.output import note, print_facts, print_json, print_table, writing
from azbatchwrap.cli.results import keep_results, show_results

EPILOG = """\b
Examples:
  azbatchwrap job list
  azbatchwrap job wait JOB
  azbatchwrap job timeline JOB --output job.svg
  azbatchwrap job download JOB --output-dir outputs
  azbatchwrap job retry JOB --failed
"""

job_argument = click.argument("job_id", metavar="JOB")
directory_option = click.option(
    "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Where to (default: outputs/JOB)."
)


@click.group(epilog=EPILOG)
def job() -> None:
    """List, show, watch, draw, wait for, download, cancel, retry and delete jobs."""


@job.command("list", epilog="\b\nExample:\n  azbatchwrap job list --all --json")
@click.option("--all", "everything", is_flag=True, help="Every job of the account, not only this project's.")
@project_option
@json_option
def list_(everything: bool, project: str | None, as_json: bool) -> None:
    """List the jobs of the project."""
    jobs = list(open_account(project).jobs.list(everything=everything))
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        note("no jobs" if everything else "no jobs in this project (--all shows every job of the account)")
        return
    print_table(("job", "state", "pool", "created", "ended", "why"), (
        (item["id"], item.get("state"), (item.get("executionInfo") or item.get("poolInfo") or {}).get("poolId"),
         item.get("creationTime", "")[:19], (item.get("executionInfo") or {}).get("endTime", "")[:19],
         (item.get("executionInfo") or {}).get("terminateReason"))
        for item in jobs
    ))  # fmt: skip


@job.command(epilog="\b\nExample:\n  azbatchwrap job show JOB")
@job_argument
@json_option
def show(job_id: str, as_json: bool) -> None:
    """Show a job and how many of its tasks are where."""
    from azbatchwrap.batch.service import at, metadata

    service = open_account().service
    found = service.get(at("jobs", job_id))
    counts = service.get(at("jobs", job_id, "taskcounts")).get("taskCounts") or {}
    if as_json:
        print_json({**found, "taskCounts": counts})
        return
    execution = found.get("executionInfo") or {}
    print_facts({
        "job": found["id"],
        "state": found.get("state"),
        "pool": execution.get("poolId") or (found.get("poolInfo") or {}).get("poolId"),
        "created": found.get("creationTime"),
        "ended": execution.get("endTime"),
        "why": execution.get("terminateReason"),
        "limit": (found.get("constraints") or {}).get("maxWallClockTime"),
        "tasks": ", ".join(f"{number} {state}" for state, number in counts.items()) + " (counts lag behind)",
        **{f"metadata {name}": value for name, value in metadata(found).items()},
    })  # fmt: skip


@job.command(epilog="\b\nExample:\n  azbatchwrap job wait JOB --timeout 3600")
@job_argument
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait at most.")
@json_option
def wait(job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until every task of a job has ended, and show what became of them."""
    with open_batch() as batch:
        batch.wait_for_tasks(job_id, timeout)
        results = batch.get_results(job_id, wait=False)
    raise click.exceptions.Exit(show_results(results, as_json=as_json, job=job_id))


@job.command(epilog="\b\nExample:\n  azbatchwrap job watch JOB")
@job_argument
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to watch at most.")
def watch(job_id: str, timeout: float | None) -> None:
    """Show a job's progress until every task that it has now has ended. The job stays open for more."""
    from azbatchwrap.batch.timeline import spans_of, utilisation

    with open_batch() as batch:
        batch.wait_for_tasks(job_id, timeout, seal=False)
        spans = spans_of(batch.service, job_id)
    failed = sum(span.state == "failed" for span in spans)
    note(f"job {job_id}: {len(spans)} tasks ran, {failed} failed, {utilisation(spans):.0%} of the slots in use")


@job.command(epilog="\b\nExample:\n  azbatchwrap job timeline JOB --output job.svg")
@job_argument
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="FILE.svg or FILE.html (default: JOB.svg)."
)
def timeline(job_id: str, output: Path | None) -> None:
    """Draw which task ran where and when, as a picture that needs nothing else."""
    from azbatchwrap.batch.timeline import html, spans_of, svg

    target = output or Path(f"{job_id}.svg")
    if target.suffix not in {".svg", ".html"}:
        raise click.UsageError(f"{target} is neither .svg nor .html")
    spans = spans_of(open_account().service, job_id)
    text = (html if target.suffix == ".html" else svg)(spans, f"job {job_id}")
    with writing(target):
        target.write_text(text, encoding="utf-8")
    note(f"{len(spans)} tasks in {target}")


@job.command(epilog="\b\nExample:\n  azbatchwrap job download JOB --output-dir outputs")
@job_argument
@directory_option
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task's files; may be repeated.")
def download(job_id: str, output_dir: Path | None, tasks: tuple[str, ...]) -> None:
    """Bring the results that are there. A repeat fetches only what is new."""
    directory = output_dir or Path("outputs") / job_id
    with open_batch() as batch:
        container = batch.jobs.facts(job_id).output_container
        paths = batch.storage.download_results(job_id, directory, container=container, tasks=tasks or None)
    note(f"{len(paths)} files in {directory}")


@job.command(epilog="\b\nExample:\n  azbatchwrap job cancel JOB --yes")
@job_argument
@yes_option
def cancel(job_id: str, yes: bool) -> None:
    """End a job and its running tasks. What they have left so far is kept."""
    confirm(f"End job {job_id}?", yes=yes)
    account = open_account()
    account.jobs.terminate(job_id)
    note(f"job {job_id}: ending")


@job.command(epilog="\b\nExample:\n  azbatchwrap job delete JOB --yes")
@click.argument("job_ids", metavar="JOB...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every job of the project.")
@project_option
@yes_option
def delete(job_ids: tuple[str, ...], everything: bool, project: str | None, yes: bool) -> None:
    """Delete jobs with their tasks. Results in storage stay."""
    if bool(job_ids) == everything:
        raise click.UsageError("name the jobs, or use --all")
    jobs = open_account(project).jobs
    doomed = [item["id"] for item in jobs.list()] if everything else list(job_ids)
    if not doomed:
        note("no jobs in this project")
        return
    confirm(f"Delete {', '.join(doomed)}?", yes=yes)
    there = {job_id: jobs.delete(job_id) for job_id in doomed}
    for job_id, was_there in there.items():
        note(f"job {job_id}: {'deleting' if was_there else 'there is none'}")
    if not all(there.values()):
        raise click.exceptions.Exit(1)


@job.command(epilog="\b\nExample:\n  azbatchwrap job retry JOB --failed --output-dir outputs")
@job_argument
@click.option("--failed", is_flag=True, required=True, expose_value=False, help="The tasks that failed or were ended.")
@click.option("--pool", "pool_id", metavar="POOL", help="Another pool than the job's own.")
@click.option("--detach", is_flag=True, help="Do not wait.")
@directory_option
@json_option
def retry(job_id: str, pool_id: str | None, detach: bool, output_dir: Path | None, as_json: bool) -> None:
    """Run a job's failed tasks again, as a new job with the same files and the same task ids."""
    from azbatchwrap.batch.retry import retry_failed

    with open_batch() as batch:
        new_job = retry_failed(batch, job_id, pool_id=pool_id)
        if new_job is None:
            note(f"job {job_id}: no task failed")
            return
        note(f"job {new_job}: the failed tasks of {job_id}")
        if detach:
            click.echo(new_job)
            return
        batch.wait_for_tasks(new_job)
        results = batch.get_results(new_job, wait=False)
        directory = output_dir or Path("outputs") / new_job
        batch.storage.download_results(new_job, directory, container=batch.jobs.facts(new_job).output_container)
        note(keep_results(results, directory))
    raise click.exceptions.Exit(show_results(results, as_json=as_json, job=new_job))
