"""Processors as tasks on a pool of the instance on this machine."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

import pytest

from azbatchwrap import AzureBatch, AzureBatchStorage
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.processor.message import Reader
from azbatchwrap.processor.on_pool import PoolWorkers, start_workers
from azbatchwrap.queues import queue_from_url
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.fixtures_processor import RedisServer
from tests.fixtures_stack import LocalStack, run_cli
from tests.processor.conftest import Inference, request, results_of


async def test_workers_run_as_tasks(
    tmp_path: Path, inference: Inference, local_stack: LocalStack, queue: SqliteQueue
) -> None:
    await queue.put([request(f"r{n}") for n in range(100)])
    words = ["--queue", f"sqlite:///{queue.path}", "--endpoint", inference.url, "--until-empty"]

    def run() -> list[str]:
        storage = AzureBatchStorage(local_stack.settings(project="processor-workers"))
        with AzureBatch(storage) as batch:
            job_id = start_workers(batch, PoolWorkers(words, workers=2, interpreter=sys.executable))
            return [f"{result.state} {result.error}" for result in batch.get_results(job_id)]

    assert await asyncio.to_thread(run) == ["succeeded None", "succeeded None"]
    assert len(await results_of(queue)) == 100
    assert max(inference.seen.values()) == 1


async def test_nodes_install_what_runs_here(
    tmp_path: Path, inference: Inference, local_stack: LocalStack, redis_server: RedisServer
) -> None:
    url = f"{redis_server.url}?queue=pool-{uuid.uuid4().hex}"
    async with queue_from_url(url, Reader()) as queue:
        await queue.put([request(f"r{n}") for n in range(20)])
        words = ["on-pool", "--wait", "--", "--queue", url, "--endpoint", inference.url, "--until-empty"]
        done = await asyncio.to_thread(
            run_cli, "processor", *words, folder=tmp_path, environment=local_stack.environment, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert len(await results_of(queue)) == 20


@pytest.mark.parametrize(
    "words",
    [
        ["--queue", "redis://:secret@host/0"],
        ["--queue=rediss://user:secret@host"],
        ["--gate", "redis-key:key=k;url=redis://:secret@host"],
        ["--queue", "sqlite:///q"],
    ],
)
def test_what_a_node_could_not_open_is_refused(words: list[str]) -> None:
    from azbatchwrap.processor import on_pool

    with pytest.raises(ConfigurationError):
        on_pool._check(words, local=False)
    on_pool._check(["--queue", "redis://host:6379/0?queue=a@b", "--endpoint", "http://host/v1"], local=False)
