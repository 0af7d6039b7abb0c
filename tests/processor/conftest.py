"""An inference endpoint of the tests' own, which misbehaves on request, and workers that use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.backoff import Backoff
from azbatchwrap.processor.run import Line, RunOptions, processor
from azbatchwrap.processor.worker import Worker, WorkerOptions
from azbatchwrap.queues import Item, Queue, Result
from azbatchwrap.queues.sqlite import SqliteQueue

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]

#: Retries soon, so that tests end soon.
QUICK = Backoff(attempts=None, base=0.02, cap=0.1)


async def echo(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"echo": body})


@dataclass
class Inference:
    """Answers with ``handler``; remembers what came. ``capacity``: requests at once, more get 429."""

    handler: Handler = echo
    capacity: int = 1_000_000
    latency: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    headers: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # names in lower case
    paths: list[str] = field(default_factory=list)
    flying: int = 0
    peak: int = 0
    refused: int = 0
    port: int = 0
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/completions"

    async def start(self) -> None:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/{path:.*}", self._serve)
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        id_ = request.headers["x-request-id"]
        self.seen[id_] += 1
        self.headers.setdefault(id_, []).append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path)
        if self.flying >= self.capacity:
            self.refused += 1
            return web.json_response({"error": "full"}, status=429, headers={"Retry-After": "1"})
        self.flying += 1
        self.peak = max(self.peak, self.flying)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await self.handler(request, json.loads(await request.read()))
        finally:
            self.flying -= 1


@pytest.fixture
async def inference() -> AsyncIterator[Inference]:
    endpoint = Inference()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    """A queue to put into and to look at; workers open their own."""
    async with SqliteQueue(tmp_path / "queue.sqlite") as opened:
        yield opened


@dataclass
class Bench:
    """Makes workers on one SQLite queue and one endpoint."""

    path: Path
    inference: Inference

    @contextlib.asynccontextmanager
    async def worker(self, *queues: Queue, **given: Any) -> AsyncIterator[Worker]:
        """A worker that is not running yet. ``given``: options of RunOptions and WorkerOptions alike."""
        own = {
            name: given.pop(name) for name in ("concurrency", "max_failures", "drain", "until_empty") if name in given
        }
        own = {"backoff": given.pop("backoff", QUICK), "concurrency": 8, "drain": 5.0, "until_empty": True, **own}
        options = RunOptions(
            endpoints=given.pop("endpoints", [self.inference.url]),
            spool=self.path / "spool",
            worker=WorkerOptions(**own),
            **given,
        )
        lines = [Line(one) for one in queues] or [Line(SqliteQueue(self.path / "queue.sqlite"))]
        async with processor(lines, options) as worker:
            yield worker

    async def answer_all(self, *queues: Queue, **given: Any) -> Worker:
        """Run a worker until everything has its result."""
        async with self.worker(*queues, **given) as worker:
            await asyncio.wait_for(worker.run(), 60)
            return worker

    @contextlib.asynccontextmanager
    async def running(self, *queues: Queue, **given: Any) -> AsyncIterator[Worker]:
        """A worker that runs until the end of the block."""
        async with self.worker(*queues, **{"until_empty": False, **given}) as worker:
            task = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await asyncio.wait_for(task, 30)


@pytest.fixture
def bench(tmp_path: Path, inference: Inference) -> Bench:
    return Bench(tmp_path, inference)


def request(id_: str, *, seconds: float = 60.0, **payload: Any) -> Item:
    return Item(id_, json.dumps(payload).encode(), time.time() + seconds)


async def results_of(queue: Queue) -> dict[str, Result]:
    """All results by id; fails when an id has two."""
    found: dict[str, Result] = {}
    cursor = ""
    while (page := await queue.results(cursor, 500)).results:
        for result in page.results:
            assert result.id not in found, f"{result.id} has two results"
            found[result.id] = result
        cursor = page.cursor
    return found


async def result_of(queue: Queue, id_: str) -> Result:
    return (await results_of(queue))[id_]


async def until(ask: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true answer of ``ask``, which may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of 127.0.0.1, signed by itself."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
