"""Tasks beside a job's own: a node's start task, a job's preparation and release tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch import auto_users, identities, packages, wire
from azbatchwrap.local.batch.environment import environment_of
from azbatchwrap.local.batch.model import Job, Node, Preparation
from azbatchwrap.local.batch.node import HostLost, Launch, Outcome, ProcessHandle, Stage, TaskFailure
from azbatchwrap.local.batch.node import run as run_on_node

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)

Info = dict[str, Any]


async def run_side_task(
    service: Service,
    launch: Launch,
    retries: int,
    watch: Callable[[Info, ProcessHandle | None], None],
) -> Info:
    """Run with so many retries (-1: any number); returns the execution information as on the wire.

    ``watch`` hears of every change of the information and of the process.
    """
    info: Info = {"state": "running", "startTime": wire.format_ticks(wire.now()), "retryCount": 0}
    watch(info, None)
    while True:
        try:
            outcome = await run_on_node(
                launch,
                service.host,
                service.transfers,
                lambda handle, now=info: watch(now, handle),  # type: ignore[misc]
            )
        except HostLost:
            if service.is_stopping:
                raise asyncio.CancelledError from None
            continue
        if outcome.stage is not Stage.COMMAND or outcome.exit_code is None or 0 <= retries <= info["retryCount"]:
            break
        info = {**info, "retryCount": info["retryCount"] + 1, "lastRetryTime": wire.format_ticks(wire.now())}
    info = ended(info, outcome)
    watch(info, None)
    return info


def ended(info: Info, outcome: Outcome) -> Info:
    """``info`` completed with how it ended."""
    done: Info = {"state": "completed", "startTime": info["startTime"], "endTime": wire.format_ticks(wire.now())}
    if outcome.exit_code is not None:
        done["exitCode"] = outcome.exit_code
    if outcome.failure is not None:
        done["failureInfo"] = outcome.failure.wire()
    done["retryCount"] = info["retryCount"]
    if "lastRetryTime" in info:
        done["lastRetryTime"] = info["lastRetryTime"]
    done["result"] = "success" if outcome.failure is None else "failure"
    return done


def save(service: Service, preparation: Preparation) -> None:
    service.store.save("preparation", f"{preparation.job}/{preparation.node.key}", preparation.body())


def prepare(service: Service, job: Job, node: Node) -> Preparation:
    """The job's preparation on the node, begun now if it was not yet. Awaiting its ``work`` waits for it."""
    preparation = node.preparations.get(job.number)
    if preparation is None:
        preparation = node.preparations[job.number] = Preparation(job=job.number, node=node)
    if preparation.is_ready is None and (preparation.work is None or preparation.work.done()):
        preparation.work = service.spawn(_prepare(service, job, preparation), f"preparation of {job.id} on {node.id}")
    return preparation


async def _prepare(service: Service, job: Job, preparation: Preparation) -> None:
    spec = job.preparation
    assert spec is not None

    def watch(info: Info, handle: ProcessHandle | None) -> None:
        preparation.prepared = info
        preparation.handle = handle
        save(service, preparation)

    await _deploy_packages(service, preparation.node)
    launch = _launch(service, job, preparation.node, spec, spec["constraints"]["maxWallClockTime"])
    info = await run_side_task(service, launch, int(spec["constraints"]["maxTaskRetryCount"]), watch)
    preparation.is_ready = info["result"] == "success" or not spec["waitForSuccess"]
    preparation.work = None
    save(service, preparation)
    service.scheduler.wake(preparation.node.pool)


async def release(service: Service, job: Job) -> None:
    """Run the job's release task on every node that ran its preparation task."""
    nodes = [node for pool in service.pools.values() for node in pool.nodes.values()]
    prepared = [node.preparations[job.number] for node in nodes if job.number in node.preparations]
    for preparation in prepared:
        if preparation.handle is not None and preparation.is_ready is None:
            await preparation.handle.kill(0.0, "the job ended")
        if preparation.work is not None:
            await asyncio.wait({preparation.work})
    if job.release is None:
        return
    waiting = [each for each in prepared if (each.released or {}).get("state") != "completed"]
    await asyncio.gather(*(_release(service, job, preparation) for preparation in waiting))


async def _release(service: Service, job: Job, preparation: Preparation) -> None:
    spec = job.release
    assert spec is not None

    def watch(info: Info, handle: ProcessHandle | None) -> None:
        preparation.released = info
        preparation.handle = handle
        save(service, preparation)

    launch = _launch(service, job, preparation.node, spec, spec["maxWallClockTime"])
    await run_side_task(service, launch, 0, watch)


async def start_node(service: Service, node: Node) -> None:
    """Run the pool's start task on a node that has booted, and open the node when it may take tasks."""
    node.start_task = spec = node.pool.spec.get("startTask")
    if spec is None:
        node.start_info = None
        _open(service, node, "idle")
        return
    node.enter("waitingforstarttask" if spec["waitForSuccess"] else "idle")
    if not spec["waitForSuccess"]:
        service.scheduler.wake(node.pool)
    auto_users.note(node.pool, spec, "the start task")
    await _deploy_packages(service, node)
    folder = node.folders.start_task_folder()
    launch = Launch(
        command_line=spec["commandLine"],
        folder=folder,
        environment=environment_of(
            service, None, node, task_id=None, folder=folder, own=spec.get("environmentSettings")
        ),
        resource_files=spec.get("resourceFiles", ()),
        identities=identities.resource_ids(node.pool),
        container=spec.get("containerSettings"),
    )

    def watch(info: Info, handle: ProcessHandle | None) -> None:
        node.start_info = info
        node.start_handle = handle
        service.save_node(node)

    info = await run_side_task(service, launch, int(spec["maxTaskRetryCount"]), watch)
    if info["result"] == "success" or not spec["waitForSuccess"]:
        _open(service, node, node.state if node.state == "running" else "idle")
    else:
        log.warning("start task failed on node %s of pool %s: %s", node.id, node.pool.id, info.get("failureInfo"))
        _open(service, node, "starttaskfailed")


def _open(service: Service, node: Node, state: str) -> None:
    node.enter(state)
    service.save_node(node)
    service.scheduler.wake(node.pool)


async def _deploy_packages(service: Service, node: Node) -> None:
    """The pool's packages. What is wrong with them, the pool's tasks will say."""
    try:
        await packages.deploy(service, node)
    except TaskFailure as problem:
        log.warning("node %s of pool %s lacks a package: %s", node.id, node.pool.id, problem)


def _launch(service: Service, job: Job, node: Node, spec: dict[str, Any], limit: str) -> Launch:
    auto_users.note(node.pool, spec, f"task {spec['id']} of job {job.id}")
    folder = job.folder(node) / spec["id"]
    ticks = wire.parse_duration(limit)
    return Launch(
        command_line=spec["commandLine"],
        folder=folder,
        environment=environment_of(
            service, job, node, task_id=spec["id"], folder=folder, own=spec.get("environmentSettings")
        ),
        resource_files=spec.get("resourceFiles", ()),
        identities=identities.resource_ids(node.pool),
        wall_clock=None if ticks >= wire.UNLIMITED else ticks / wire.TICKS_PER_SECOND,
        container=spec.get("containerSettings"),
    )
