"""Multi-instance tasks: the coordination command on every node, then the task's own command on the primary."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap.local.batch import identities, packages, wire
from azbatchwrap.local.batch.environment import environment_of
from azbatchwrap.local.batch.model import Node, Run
from azbatchwrap.local.batch.node import Launch, Outcome, ProcessHandle, Stage
from azbatchwrap.local.batch.node import run as run_on_node
from azbatchwrap.local.batch.node.records import TaskFailure

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service


def environment(service: Service, run: Run, node: Node, folder: Path) -> dict[str, str]:
    """The task's environment on one of its nodes; the shared folder is the task's, on every node."""
    hosts = tuple(each.ip_address for each in (run.node, *run.others))
    return environment_of(
        service,
        run.job,
        node,
        task_id=run.row.id,
        folder=folder,
        own=run.spec.get("environmentSettings"),
        own_packages=run.spec.get("applicationPackageReferences"),
        wants_token="authenticationTokenSettings" in run.spec,
        further={"AZ_BATCH_TASK_SHARED_DIR": str(run.job.folder(node) / run.row.id)},
        hosts=hosts,
        host=node.ip_address,
    )


async def coordinate(service: Service, run: Run) -> Outcome | None:
    """Run the coordination command on all nodes at once. Returns the failure that keeps the task from running."""
    places = [(run.node, run.job.folder(run.node) / run.row.id)]
    places += [(node, run.job.folder(node) / run.row.id / str(number)) for number, node in enumerate(run.others, 1)]
    outcomes = await asyncio.gather(
        *(_on_node(service, run, number, node, folder) for number, (node, folder) in enumerate(places))
    )
    return next((outcome for outcome in outcomes if not outcome.succeeded), None)


async def _on_node(service: Service, run: Run, number: int, node: Node, folder: Path) -> Outcome:
    settings: dict[str, Any] = run.spec["multiInstanceSettings"]
    launch = Launch(
        command_line=settings["coordinationCommandLine"],
        folder=folder,
        environment=environment(service, run, node, folder),
    )
    started = wire.now()
    _record(service, run, number, node, {"state": "running", "startTime": wire.format_ticks(started)})
    common = settings.get("commonResourceFiles")
    try:
        await packages.deploy(service, node, run.spec.get("applicationPackageReferences"))
        if common:
            folder_of_task = run.job.folder(node) / run.row.id
            await service.transfers.download(common, folder_of_task, identities.resource_ids(node.pool))
        outcome = await run_on_node(launch, service.host, service.transfers, _unwatched)
        service.statistics.attempted(run, outcome.usage)
    except TaskFailure as problem:
        moment = wire.to_datetime(started)
        outcome = Outcome(moment, moment, failure=problem.failure, stage=Stage.PREPARATION)
    ended: dict[str, Any] = {"state": "completed", "startTime": wire.format_ticks(started)}
    ended |= {"endTime": wire.format_ticks(wire.now()), "result": "success" if outcome.succeeded else "failure"}
    if outcome.exit_code is not None:
        ended["exitCode"] = outcome.exit_code
    if outcome.failure is not None:
        ended["failureInfo"] = outcome.failure.wire()
    _record(service, run, number, node, {**ended, "previousState": "running"})
    return outcome


def _unwatched(_handle: ProcessHandle) -> None:
    """Coordination commands end with the coroutine that waits for them."""


def _record(service: Service, run: Run, number: int, node: Node, subtask: dict[str, Any]) -> None:
    """Keep a subtask's information; the primary (0) has its own in the task."""
    if number == 0:
        return
    body = {
        "id": number,
        **subtask,
        "stateTransitionTime": subtask.get("endTime", subtask["startTime"]),
        "node": f"{node.pool.id}/{node.id}",
    }
    service.store.write("INSERT OR REPLACE INTO subtasks VALUES (?, ?, ?)", (run.row.seq, number, orjson.dumps(body)))
