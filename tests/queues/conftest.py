"""The queues that the contract is checked on: every kind through the same fixture."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from azbatchwrap.config import parse_storage
from azbatchwrap.queues import Item, Policy, Queue, Refused, refused_id
from azbatchwrap.queues.azure import AzureQueue
from azbatchwrap.queues.pubsub import PubSubQueue
from azbatchwrap.queues.redis import RedisQueue
from azbatchwrap.queues.redis_channels import RedisChannelsQueue
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.queues.broker import Broker, serving

KINDS = ["sqlite", "redis", "channels", "azure", "pubsub"]


def parse(raw: bytes) -> Item | Refused:
    """The shortest format there is: {"id", "deadline", "body"}."""
    try:
        facts = json.loads(raw)
        return Item(facts["id"], facts["body"].encode(), float(facts["deadline"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(refused_id(raw), raw, "no request")


@dataclass
class Store:
    """One store; every call of ``worker`` gives another queue object on it, as another process would have."""

    make: Callable[[Policy], Queue]
    kind: str
    opened: list[Queue] = field(default_factory=list)

    @property
    def tick(self) -> float:
        """Seconds that this kind of queue can tell apart; storage queues count in whole ones."""
        return 1.2 if self.kind == "azure" else 0.3

    async def worker(self, policy: Policy | None = None) -> Queue:
        queue = self.make(policy or Policy())
        await queue.open()
        self.opened.append(queue)
        return queue


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """Where Google's client looks for Pub/Sub in this test."""
    pytest.importorskip("google.cloud.pubsub_v1")
    async with serving() as (broker, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        yield broker


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "pubsub":
            pytest.importorskip("google.cloud.pubsub_v1")
            _, address = await stack.enter_async_context(serving())
            stack.enter_context(mock.patch.dict(os.environ, PUBSUB_EMULATOR_HOST=address))
        store = Store(MAKERS[request.param](request, tmp_path), request.param)
        yield store
        for queue in store.opened:
            await queue.close()


def _sqlite(_request: pytest.FixtureRequest, folder: Path) -> Callable[[Policy], Queue]:
    return lambda policy: SqliteQueue(folder / "queue with ümlaut.sqlite", policy)


def _redis(request: pytest.FixtureRequest, _folder: Path) -> Callable[[Policy], Queue]:
    url, name = request.getfixturevalue("redis_server").url, f"q-{uuid.uuid4().hex}"
    return lambda policy: RedisQueue(url, name, policy)


def _channels(request: pytest.FixtureRequest, _folder: Path) -> Callable[[Policy], Queue]:
    url, name = request.getfixturevalue("redis_server").url, f"q-{uuid.uuid4().hex}"
    return lambda policy: RedisChannelsQueue(
        url, parse, requests=name, retries=f"{name}-retry", results=f"{name}-out", policy=policy
    )


def _azure(request: pytest.FixtureRequest, _folder: Path) -> Callable[[Policy], Queue]:
    account = parse_storage(request.getfixturevalue("azurite").connection_string)
    name = f"q-{uuid.uuid4().hex[:20]}"
    return lambda policy: AzureQueue(name, account, parse, policy, sweep_interval=0.0, sweep_grace=0.0)


def _pubsub(_request: pytest.FixtureRequest, folder: Path) -> Callable[[Policy], Queue]:
    journal = folder / "journal.sqlite"
    return lambda policy: PubSubQueue(
        "project", "requests", results_topic=None, journal=journal, parse=parse, policy=policy
    )


MAKERS = {"sqlite": _sqlite, "redis": _redis, "channels": _channels, "azure": _azure, "pubsub": _pubsub}


def item(id_: str, body: str = "{}", *, seconds: float = 3600.0, priority: int = 0, due: float = 0.0) -> Item:
    return Item(id_, body.encode(), time.time() + seconds, priority, b"", due)


async def eventually(ask: Callable[[], Awaitable[object]], seconds: float = 20.0) -> object:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := await ask()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)
    return answer
