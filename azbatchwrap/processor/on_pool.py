"""Processors as tasks on an Azure Batch pool: competing consumers of one queue, as many as it takes.

One of the two doors from dispatch to pools. No secret reaches a node: queues whose URL holds a password are refused;
on a pool they are opened by the pool's managed identity (azurequeue://) or by the network alone (redis:// inside a
virtual network).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from azbatchwrap.batch import AzureBatch
from azbatchwrap.errors import ConfigurationError

TASK = Path(__file__).with_name("node") / "processor_worker.py"
#: What nodes install when no interpreter is named.
REQUIREMENT = "azbatchwrap[redis,queue]"
#: Such a job ends by itself after this long (seconds).
LIMIT = 86_400.0


@dataclass(frozen=True, slots=True)
class PoolWorkers:
    """``words`` are the words of `azbatchwrap processor run` on each node.

    ``interpreter`` names a Python on the nodes that has azbatchwrap (an image or a start task brought it); without
    it, ``requirement`` is installed once per node.
    """

    words: Sequence[str]
    workers: int = 1
    interpreter: str | None = None
    requirement: str = REQUIREMENT
    limit: float = LIMIT


def start_workers(batch: AzureBatch, plan: PoolWorkers, pool_id: str | None = None) -> str:
    """Add ``plan.workers`` processors to a job of their own and give its id; wait for it with `wait_for_tasks`.

    Without ``pool_id`` a pool with one node per worker is made. Raises ConfigurationError when a node could not open
    the queue, and whatever `AzureBatch` raises.
    """
    _check(plan.words, local=batch.settings.is_local)
    with tempfile.TemporaryDirectory(prefix="azbatchwrap-workers-") as folder:
        storage = batch.storage
        storage.add_task_file_path(TASK)
        if plan.interpreter is None:
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(plan.requirement + "\n")
            storage.add_input_file_path(requirements)
        storage.upload_task_files()
        storage.upload_input_files()
        if pool_id is None:
            batch.create_pool(app_name="processor", node_count=plan.workers)
        job_id = batch.create_a_job(pool_id, limit=plan.limit)
    words = [plan.interpreter or "-", *plan.words]
    batch.add_tasks_to_job(job_id, [(TASK.name, words)] * plan.workers)
    batch.seal_job(job_id)
    return job_id


def _check(words: Sequence[str], *, local: bool) -> None:
    for name, value in pairwise(words):
        if name not in {"--queue", "--redis.url", "--endpoint"}:
            continue
        parts = urlsplit(value)
        if parts.password:
            raise ConfigurationError(
                f"{name} holds a password, and no secret may reach a node; use a network or identity"
            )
        if parts.scheme == "sqlite" and not local:
            raise ConfigurationError("a SQLite file cannot be shared between machines; use redis:// or azurequeue://")
