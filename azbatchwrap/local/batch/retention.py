"""Removes the folders of tasks whose retention time is over."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.model import Job

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

#: Jobs with tasks of their own retention time are looked at this often; those with the default of a week hourly.
SHORT_SECONDS = 2.0
ROUNDS_OF_DEFAULT = 1800


async def sweep_for_ever(service: Service) -> None:
    """One look at a job and retention time is one query on the index of states."""
    rounds = 0
    while True:
        await asyncio.sleep(SHORT_SECONDS)
        for job in list(service.jobs.values()):
            for retention in list(job.retentions):
                await _sweep(service, job, retention, own=True)
            if rounds % ROUNDS_OF_DEFAULT == 0:
                await _sweep(service, job, wire.WEEK, own=False)
        rounds += 1


async def _sweep(service: Service, job: Job, retention: int, *, own: bool) -> None:
    if not job.counts[4] and not job.counts[5]:
        return
    key = str(retention) if own else "default"
    until = wire.now() - retention
    found = service.store.read(
        "SELECT id, node FROM tasks WHERE job = ? AND state = 4 AND since > ? AND since <= ? AND retention IS ?",
        (job.number, job.swept.get(key, 0), until, retention if own else None),
    ).fetchall()
    if not found:
        return
    job.swept[key] = until
    if job.id.lower() in service.jobs:
        service.save_job(job)
    folders = [folder for task_id, place in found if (folder := _folder(service, job, task_id, place)) is not None]
    if folders:
        await asyncio.to_thread(_remove, folders)


def _folder(service: Service, job: Job, task_id: str, place: str | None) -> Path | None:
    pool_id, _, node_id = (place or "").partition("/")
    pool = service.pools.get(pool_id.lower())
    node = pool.nodes.get(node_id) if pool is not None else None
    return job.folder(node) / task_id if node is not None else None


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
