"""The processor's own HTTP server: is it alive, is it ready, what has it counted; on request, files and batches."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from azbatchwrap.config import Secret
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError
from azbatchwrap.processor import metrics
from azbatchwrap.processor.openai_api import OpenAIRoutes
from azbatchwrap.processor.openai_batches import Batches
from azbatchwrap.processor.openai_store import OpenAIStore
from azbatchwrap.processor.worker import Worker
from azbatchwrap.queues import Stats

log = logging.getLogger(__name__)

#: Queues are counted this often (seconds); for some that means reading a list.
STATS_INTERVAL = 5.0
#: Uploads: a batch file and what multipart adds.
BODY_LIMIT = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where to serve; ``openai``: the folder of files and batches, to serve these too, to holders of ``key``."""

    host: str
    port: int
    openai: Path | None = None
    key: Secret | None = None


class Facts:
    """What the pages show: counts of the worker, and of its queues as they were a moment ago."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.queues: dict[str, Stats] = {}
        gauge, endpoints = worker.metrics.gauge, worker.endpoints.endpoints
        gauge("in_flight", "Requests in flight", lambda: {"": worker.in_flight})
        gauge("limit", "Requests that may be in flight", lambda: {e.url: e.limit.limit for e in endpoints}, "endpoint")
        gauge("breaker_open", "1 while an endpoint is given up", _breakers(worker), "endpoint")
        gauge("gate_budget", "Share of the concurrency", lambda: {g.name: g.budget() for g in worker.gates}, "gate")
        for name in ("ready", "delayed", "leased", "results", "dead"):
            gauge(f"queue_{name}", f"Messages {name}", self._reader(name), "queue")
        gauge("oldest_seconds", "Age of the oldest waiting message", self._reader("oldest"), "queue")
        gauge("deadline_slack_seconds", "Time left until the earliest deadline", self._reader("slack"), "queue")

    def _reader(self, field: str) -> Callable[[], dict[str, float]]:
        def read() -> dict[str, float]:
            found = {name: getattr(stats, field) for name, stats in self.queues.items()}
            return {name: float(number) for name, number in found.items() if number is not None}

        return read

    async def watch(self) -> None:
        while True:
            for source in self.worker.sources:
                with contextlib.suppress(AzBatchWrapError):
                    self.queues[source.name] = await source.queue.stats()
            await asyncio.sleep(STATS_INTERVAL)

    def summary(self) -> dict[str, Any]:
        """Everything that `azbatchwrap processor top` draws."""
        worker = self.worker
        counted = worker.metrics
        return {
            "ready": worker.ready,
            "in_flight": worker.in_flight,
            "attempts": counted.attempts.total,
            "results": dict(counted.results.values),
            "retries": dict(counted.retries.values),
            "reclaimed": counted.reclaimed.total,
            "stale": counted.stale.total,
            "latency": {str(share): counted.latency.quantile(share) for share in (0.5, 0.9, 0.99)},
            "queues": {name: asdict(stats) for name, stats in self.queues.items()},
            "endpoints": [
                {
                    "url": endpoint.url, "in_flight": endpoint.limit.in_flight, "limit": endpoint.limit.limit,
                    "breaker": "open" if endpoint.limit.breaker.is_open else "closed",
                }
                for endpoint in worker.endpoints.endpoints
            ],
        }  # fmt: skip


def _breakers(worker: Worker) -> Callable[[], dict[str, float]]:
    return lambda: {one.url: float(one.limit.breaker.is_open) for one in worker.endpoints.endpoints}


@contextlib.asynccontextmanager
async def serving(worker: Worker, options: ServeOptions) -> AsyncIterator[str]:
    """Serve until the end of the block; gives the address. Raises ConfigurationError when the port is taken."""
    facts = Facts(worker)
    middlewares = [] if options.key is None else [_asks_for(options.key)]
    application = web.Application(client_max_size=BODY_LIMIT, middlewares=middlewares)
    _add_pages(application, facts)
    tasks = [asyncio.create_task(facts.watch())]
    if options.openai is not None:
        batches = Batches(OpenAIStore(options.openai), worker.sources[0].queue)
        OpenAIRoutes(batches).add_to(application)
        tasks.append(asyncio.create_task(batches.follow()))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            raise ConfigurationError(f"cannot serve on {options.host}:{options.port}: {error.strerror}") from error
        yield f"http://{options.host}:{runner.addresses[0][1]}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()


def _add_pages(application: web.Application, facts: Facts) -> None:
    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        ready = facts.worker.ready
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=facts.worker.metrics.page().encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def summary(_request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(facts.summary()), content_type="application/json")

    for path, handler in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", page), ("/summary", summary)):
        application.router.add_get(path, handler)


def _asks_for(key: Secret) -> Any:
    """/v1 needs the key as a bearer token; the other pages tell nothing that needs one."""

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if request.path.startswith("/v1/") and not hmac.compare_digest(given, f"Bearer {key.reveal()}".encode()):
            facts = {
                "message": "Incorrect API key provided.",
                "type": "invalid_request_error",
                "code": "invalid_api_key",
            }
            return web.Response(body=orjson.dumps({"error": facts}), status=401, content_type="application/json")
        return await handler(request)

    return check
