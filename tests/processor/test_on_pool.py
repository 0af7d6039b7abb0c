"""Processors as tasks on a pool of the instance on this machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from azbatchwrap import AzureBatch, AzureBatchStorage
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.processor.on_pool import PoolWorkers, start_workers
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.fixtures_stack import LocalStack
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


@pytest.mark.parametrize("words", [["--queue", "redis://:secret@host/0"], ["--queue", "sqlite:///q"]])
def test_what_a_node_could_not_open_is_refused(words: list[str]) -> None:
    from azbatchwrap.processor import on_pool

    with pytest.raises(ConfigurationError):
        on_pool._check(words, local=False)
