"""`azbatchwrap task`: the tasks of a job, their logs and files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from azbatchwrap.cli.opening import Account, json_option, open_account
from azbatchwrap.cli.output import print_facts, print_json, print_table
from azbatchwrap.errors import ConfigurationError, Conflict, NotFound

if TYPE_CHECKING:
    from azbatchwrap.batch.service import Json

#: What `--state` takes, and the filter it stands for.
STATES = {
    "active": "state eq 'active'",
    "running": "state eq 'running' or state eq 'preparing'",
    "completed": "state eq 'completed'",
    "failed": "state eq 'completed' and executionInfo/result eq 'failure'",
    "succeeded": "state eq 'completed' and executionInfo/result eq 'success'",
}
FIELDS = ("id", "state", "executionInfo", "nodeInfo", "creationTime")

EPILOG = """\b
Examples:
  azbatchwrap task list JOB --state failed
  azbatchwrap task logs JOB TASK --follow
  azbatchwrap task files JOB TASK
"""


@click.group(epilog=EPILOG)
def task() -> None:
    """List and show tasks, follow their logs, list their files."""


@task.command("list", epilog="\b\nExample:\n  azbatchwrap task list JOB --state failed --json")
@click.argument("job_id", metavar="JOB")
@click.option("--state", type=click.Choice(list(STATES)), help="Only the tasks in this state.")
@json_option
def list_(job_id: str, state: str | None, as_json: bool) -> None:
    """List the tasks of a job."""
    from azbatchwrap.batch.service import at

    listed = open_account().service.list(at("jobs", job_id, "tasks"), filter=STATES.get(state or "", ""), select=FIELDS)
    tasks = list(listed)
    if as_json:
        print_json(tasks)
        return
    print_table(("task", "state", "exit code", "started", "ended", "node"), map(_row, tasks))


@task.command(epilog="\b\nExample:\n  azbatchwrap task show JOB TASK")
@click.argument("job_id", metavar="JOB")
@click.argument("task_id", metavar="TASK")
@json_option
def show(job_id: str, task_id: str, as_json: bool) -> None:
    """Show a task: what it was called with, where it ran, and how it ended."""
    from azbatchwrap.batch.service import at

    found = open_account().service.get(at("jobs", job_id, "tasks", task_id))
    if as_json:
        print_json(found)
        return
    execution = found.get("executionInfo") or {}
    failure = execution.get("failureInfo") or {}
    settings = {item["name"]: item.get("value") for item in found.get("environmentSettings") or ()}
    print_facts({
        "task": found["id"],
        "state": found.get("state"),
        "arguments": settings.get("AZBATCHWRAP_ARGS"),
        "call": settings.get("AZBATCHWRAP_TASK"),
        "node": (found.get("nodeInfo") or {}).get("nodeId"),
        "started": execution.get("startTime"),
        "ended": execution.get("endTime"),
        "exit code": None if execution.get("exitCode") is None else str(execution["exitCode"]),
        "failure": f"{failure.get('code')}: {failure.get('message')}" if failure else None,
        "depends on": ", ".join((found.get("dependsOn") or {}).get("taskIds") or ()),
    })  # fmt: skip


@task.command(epilog="\b\nExample:\n  azbatchwrap task logs JOB TASK --follow")
@click.argument("job_id", metavar="JOB")
@click.argument("task_id", metavar="TASK")
@click.option("--follow", "-f", is_flag=True, help="Go on until the task has ended.")
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@click.option("--file", "name", metavar="NAME", help="Another file of the task, such as wd/outputs/report.txt.")
def logs(job_id: str, task_id: str, follow: bool, stderr: bool, name: str | None) -> None:
    """Print what a task wrote."""
    from azbatchwrap.batch.logs import follow_log, read_log

    account = open_account()
    wanted = name or ("stderr.txt" if stderr else "stdout.txt")
    read = follow_log if follow else read_log
    try:
        _copy(read(account.service, job_id, task_id, wanted))
    except (NotFound, Conflict) as error:
        kept = _kept(account, job_id, task_id, wanted)
        if kept is None:
            raise error from None
        _copy([kept])


@task.command(epilog="\b\nExample:\n  azbatchwrap task files JOB TASK")
@click.argument("job_id", metavar="JOB")
@click.argument("task_id", metavar="TASK")
@json_option
def files(job_id: str, task_id: str, as_json: bool) -> None:
    """List the files in a task's folder on its node."""
    from azbatchwrap.batch.service import at

    path = at("jobs", job_id, "tasks", task_id, "files")
    found = list(open_account().service.list(path, query={"recursive": "true"}))
    if as_json:
        print_json(found)
        return
    plain = [item for item in found if not item.get("isDirectory")]
    print_table(("file", "bytes", "changed"), (_file_row(item) for item in plain))


def _row(item: Json) -> tuple[Any, ...]:
    execution = item.get("executionInfo") or {}
    code = execution.get("exitCode")
    state = {"failure": "failed", "success": "succeeded"}.get(execution.get("result", ""), item.get("state"))
    node = (item.get("nodeInfo") or {}).get("nodeId")
    times = (execution.get(name, "")[:19] for name in ("startTime", "endTime"))
    return item["id"], state, "" if code is None else str(code), *times, node


def _file_row(item: Json) -> tuple[str, str, str]:
    properties = item.get("properties") or {}
    return item["name"], str(properties.get("contentLength", "")), properties.get("lastModified", "")[:19]


def _kept(account: Account, job_id: str, task_id: str, name: str) -> bytes | None:
    """What was brought to the output container, for a node that is gone."""
    from azbatchwrap.batch.logs import kept_log
    from azbatchwrap.storage import AzureBatchStorage

    try:
        container = account.jobs.facts(job_id).output_container
        return kept_log(AzureBatchStorage(account.settings), container, job_id, task_id, name)
    except (NotFound, ConfigurationError):
        return None


def _copy(pieces: Iterable[bytes]) -> None:
    """Bytes as they are: what a task writes need not be text."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
