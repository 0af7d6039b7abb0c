"""Puts a processor together from its options and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from azbatchwrap.endpoints.limits import LimitPolicy
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.processor.backlog import Backlog
from azbatchwrap.processor.credentials import Credentials
from azbatchwrap.processor.endpoint_pool import EndpointPool
from azbatchwrap.processor.gates import Gate
from azbatchwrap.processor.merge import fair, policy
from azbatchwrap.processor.metrics import Metrics
from azbatchwrap.processor.sending import Sender, SendOptions, new_endpoint
from azbatchwrap.processor.server import ServeOptions, serving
from azbatchwrap.processor.source import Source, SourceOptions
from azbatchwrap.processor.spool import Spool
from azbatchwrap.processor.worker import Worker, WorkerOptions
from azbatchwrap.progress import Progress
from azbatchwrap.queues import Queue

#: Claims at hand for each request in flight, at most: where requests come and go fast, and always where tenants share,
#: for which a worker must see more than the front of its queue.
WINDOW = 8
#: Seconds between reports of progress.
REPORT_INTERVAL = 0.5
_RESULTS = "results"


@dataclass(frozen=True, slots=True)
class Line:
    """One request queue and its place among the others."""

    queue: Queue
    weight: float = 1.0
    tier: int = 0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a processor needs to know. ``lease`` is seconds; ``spool`` the folder where results wait for their queue."""

    endpoints: Sequence[str]
    spool: Path
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    send: SendOptions = field(default_factory=SendOptions)
    credentials: Credentials | None = None
    gates: Sequence[Gate] = ()
    merge: str = "random-robin"
    lease: float = 30.0
    serve: ServeOptions | None = None


@contextlib.asynccontextmanager
async def processor(lines: Sequence[Line], options: RunOptions) -> AsyncIterator[Worker]:
    """A worker with open queues and an HTTP client, ready to run."""
    pick = policy(options.merge)
    by_tenant = pick is fair
    if not options.endpoints:
        raise ConfigurationError("a processor needs an endpoint: give --endpoint URL")
    concurrency = options.worker.concurrency
    limits = LimitPolicy(start=min(8, concurrency), maximum=concurrency)
    endpoints = EndpointPool([new_endpoint(url, limits) for url in options.endpoints])
    backlog, metrics = Backlog(pick, by_tenant=by_tenant), Metrics()
    async with contextlib.AsyncExitStack() as stack:
        sources = []
        for line in lines:
            await stack.enter_async_context(line.queue)
            most = concurrency * WINDOW
            least = most if by_tenant else concurrency
            settings = SourceOptions(options.lease, least, most, line.weight, line.tier, by_tenant)
            spool = Spool(options.spool, line.queue.name)
            sources.append(Source(line.queue.name, line.queue, backlog, options=settings, metrics=metrics, spool=spool))
        sender = stack.enter_context(Sender(options.send, options.credentials))
        yield Worker(sources, backlog, endpoints, sender, options.worker, gates=options.gates, metrics=metrics)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``stop``, each time."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_processor(
    lines: Sequence[Line], options: RunOptions, *, announce: Callable[[str], None], progress: Progress | None = None
) -> None:
    """Run until SIGTERM or SIGINT; the second one does not wait for what is in flight."""
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(processor(lines, options))
        stack.enter_context(stopped_by_signals(worker.stop))
        if options.serve is not None:
            announce(f"serving {await stack.enter_async_context(serving(worker, options.serve))}")
        if progress is not None:
            await stack.enter_async_context(shown(worker, progress))
        await worker.run()


@contextlib.asynccontextmanager
async def shown(worker: Worker, progress: Progress) -> AsyncIterator[None]:
    """Reports how many results there are; at the end also how they came out."""
    progress.start(_RESULTS, "requests", None, "results")
    task = asyncio.create_task(_report(worker, progress))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        results = worker.metrics.results
        kinds = ", ".join(f"{number:g} {code}" for code, number in sorted(results.values.items()))
        progress.update(_RESULTS, results.total)
        progress.finish(_RESULTS, f"requests ({kinds})" if kinds else "requests")


async def _report(worker: Worker, progress: Progress) -> None:
    while True:
        progress.update(_RESULTS, worker.metrics.results.total, None, f"requests, {worker.in_flight} in flight")
        await asyncio.sleep(REPORT_INTERVAL)
