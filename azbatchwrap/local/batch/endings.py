"""How jobs stop: disable, terminate, delete, the wall-clock limit, and the end that follows the last task."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.model import Job
from azbatchwrap.local.batch.side_tasks import release

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

TRANSIENT = frozenset({"disabling", "enabling", "terminating", "deleting"})
#: Event loops count in milliseconds; longer timers are set again on the way.
LONGEST_TIMER_SECONDS = 1_000_000.0


def move(service: Service, job: Job, state: str) -> None:
    """Enter a state, on disk and for the scheduler."""
    job.life.move(state, transient=TRANSIENT)
    service.save_job(job)
    if (pool := service.pools.get(job.pool_id.lower())) is not None:
        service.scheduler.sort(pool)


def watch_limit(service: Service, job: Job) -> None:
    """Set the timer of the job's wall-clock limit, counted from its start."""
    if job.limit is not None:
        job.limit.cancel()
        job.limit = None
    ticks = wire.parse_duration(job.spec["constraints"]["maxWallClockTime"])
    if ticks >= wire.UNLIMITED or job.life.state not in {"active", "disabled", "disabling"}:
        return
    left = wire.to_unix(job.started + ticks) - wire.to_unix(wire.now())
    loop = asyncio.get_running_loop()
    if left > LONGEST_TIMER_SECONDS:
        job.limit = loop.call_later(LONGEST_TIMER_SECONDS, watch_limit, service, job)
    else:
        job.limit = loop.call_later(max(0.0, left), terminate_job, service, job, "MaxWallClockTimeExpiry")


def job_may_be_over(service: Service, job: Job) -> None:
    """End a job whose tasks are all complete, if it asked for that."""
    if job.spec["onAllTasksComplete"] == "terminatejob" and job.life.state == "active" and job.unfinished == 0:
        terminate_job(service, job, "AllTasksComplete")


def terminate_job(service: Service, job: Job, reason: str) -> asyncio.Task[None] | None:
    """Begin to end the job; its queued tasks stay active, as in the service."""
    if job.life.state in {"terminating", "deleting", "completed"}:
        return job.ending
    job.reason = reason
    move(service, job, "terminating")
    job.ending = service.spawn(finish_termination(service, job), f"termination of {job.id}")
    return job.ending


async def finish_termination(service: Service, job: Job) -> None:
    await _end_runs(service, job, "terminate")
    await release(service, job)
    if job.life.state != "terminating":
        return
    job.ended = wire.now()
    if job.limit is not None:
        job.limit.cancel()
    move(service, job, "completed")
    _drop_auto_pool(service, job)


def delete_job(service: Service, job: Job) -> asyncio.Task[None]:
    """Begin to delete the job, its tasks and their files."""
    was_over = job.life.state == "completed"
    previous = job.ending
    move(service, job, "deleting")
    job.ending = service.spawn(finish_deletion(service, job, previous, was_over=was_over), f"deletion of {job.id}")
    return job.ending


async def finish_deletion(
    service: Service, job: Job, previous: asyncio.Task[None] | None = None, *, was_over: bool = False
) -> None:
    if previous is not None and not previous.done():
        await asyncio.wait({previous})
    if not was_over:
        await _end_runs(service, job, "delete")
        await release(service, job)
        _drop_auto_pool(service, job)
    if job.limit is not None:
        job.limit.cancel()
    service.scheduler.forget(job)
    while service.tasks.delete_some(job.number):
        await service.store.committed()
        await asyncio.sleep(0)
    folders = []
    for pool in service.pools.values():
        for node in pool.nodes.values():
            if node.preparations.pop(job.number, None) is not None:
                service.store.drop("preparation", f"{job.number}/{node.key}")
            folder = job.folder(node)
            folders.append(folder if ":" in job.id else folder.parent)
    service.jobs.pop(job.id.lower(), None)
    service.statistics.job_left(job)
    service.store.drop("job", job.id)
    service.store.drop("counts", job.id)
    if folders:
        await asyncio.to_thread(_remove_trees, folders)


def _remove_trees(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def disable_job(service: Service, job: Job, option: str) -> asyncio.Task[None] | None:
    """Begin to disable the job: ``option`` says what becomes of running tasks (requeue, terminate, wait)."""
    if job.life.state not in {"active", "enabling"}:
        return job.ending
    job.disabling = option
    move(service, job, "disabling")
    job.ending = service.spawn(finish_disabling(service, job), f"disabling of {job.id}")
    return job.ending


async def finish_disabling(service: Service, job: Job) -> None:
    if job.disabling == "wait":
        while job.runs and job.life.state == "disabling":
            await asyncio.wait({run.work for run in job.runs.values() if run.work is not None})
    else:
        await _end_runs(service, job, job.disabling)
    if job.life.state == "disabling":
        move(service, job, "disabled")


async def _end_runs(service: Service, job: Job, intent: str) -> None:
    while job.runs:
        works = {run.work for run in job.runs.values() if run.work is not None}
        for run in list(job.runs.values()):
            service.scheduler.stop(run, intent)
        await asyncio.wait(works)
        await asyncio.sleep(0)


def _drop_auto_pool(service: Service, job: Job) -> None:
    """An auto-pool that lives as long as its job goes with it."""
    specification = job.spec["poolInfo"].get("autoPoolSpecification")
    if specification is None or specification["keepAlive"] or specification["poolLifetimeOption"] != "job":
        return
    pool = service.pools.get(job.pool_id.lower())
    if pool is not None and pool.life.state != "deleting":
        from azbatchwrap.local.batch.allocation import delete_pool

        delete_pool(service, pool)
