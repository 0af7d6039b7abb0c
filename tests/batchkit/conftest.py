"""Endpoints, and a dispatcher over them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.batchkit import BatchRequest, Counts, Dispatcher, EndpointSpec
from azbatchwrap.batchkit.journal import RunPaths, read_records
from azbatchwrap.batchkit.types import ItemRecord
from azbatchwrap.endpoints import EndpointPool, HealthPolicy
from tests.batchkit_servers import PATIENCE, Servers

#: As the product's, but in a hurry.
HASTY = HealthPolicy(interval=0.2, down_interval=0.05, timeout=2.0, cooldown=0.1)


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    try:
        yield made
    finally:
        made.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; fail when it takes too long."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < end, "this never came true"
        await asyncio.sleep(0.01)


def spec_of(server: Any, concurrency: int = 4, name: str = "", **options: Any) -> EndpointSpec:
    return EndpointSpec(name or f"e{server.port}", server.url, concurrency, options)


@contextlib.asynccontextmanager
async def dispatching(specs: list[EndpointSpec], policy: HealthPolicy = HASTY) -> AsyncIterator[Dispatcher]:
    async with EndpointPool(specs, policy=policy) as pool, Dispatcher(pool) as dispatcher:
        yield dispatcher


class Outcome:
    """What a batch left behind."""

    def __init__(self, folder: Path, counts: Counts, fault: str | None) -> None:
        self.counts = counts
        self.fault = fault
        self.records: list[ItemRecord] = list(read_records(RunPaths(folder).results))
        self.by_id = {record.id: record for record in self.records}
        self.summary: dict[str, Any] = json.loads(RunPaths(folder).summary.read_text())

    @property
    def ids(self) -> list[str]:
        return sorted(record.id for record in self.records)


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def run_batch(tmp_path: Path) -> Run:
    """Do a batch on these endpoints, and give what it left behind."""

    async def run(
        specs: list[EndpointSpec],
        request: BatchRequest,
        *,
        policy: HealthPolicy = HASTY,
        folder: Path | None = None,
        meanwhile: Callable[[Dispatcher, Any], Awaitable[None]] | None = None,
    ) -> Outcome:
        place = folder or tmp_path / "output"
        async with dispatching(specs, policy) as dispatcher:
            batch = await dispatcher.submit(request, place)
            if meanwhile is not None:
                await meanwhile(dispatcher, batch)
            await asyncio.wait_for(batch.done.wait(), PATIENCE)
            await dispatcher.end(batch)
        return Outcome(place, batch.counts, batch.fault)

    return run
