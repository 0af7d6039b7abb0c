"""An endpoint that is down for a minute: ``python tests/stress/processor_outage.py [--seconds 60]``.

2,000 messages and one worker; the endpoint (200 requests a second when it is up) refuses connections from the start.
Prints the time from its return to the last answer, and the attempts per message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from azbatchwrap.processor.run import Line, RunOptions, processor  # noqa: E402
from azbatchwrap.processor.worker import WorkerOptions  # noqa: E402
from azbatchwrap.queues import Item  # noqa: E402
from azbatchwrap.queues.sqlite import SqliteQueue  # noqa: E402

MESSAGES, SLOTS, SLOT_TIME = 2_000, 10, 0.050


async def come_up(port: int) -> web.AppRunner:
    slots = asyncio.Semaphore(SLOTS)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        async with slots:
            await asyncio.sleep(SLOT_TIME)
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="outage-") as name:
        folder = Path(name)
        async with SqliteQueue(folder / "queue.sqlite") as queue:
            await queue.put([Item(f"r{n}", b"{}", 9_999_999_999.0) for n in range(MESSAGES)])
            options = RunOptions([f"http://127.0.0.1:{port}/"], folder / "spool", WorkerOptions(64, until_empty=True))
            async with processor([Line(SqliteQueue(folder / "queue.sqlite"))], options) as worker:
                running = asyncio.create_task(worker.run())
                await asyncio.sleep(seconds)
                runner = await come_up(port)
                began = time.monotonic()
                await running
                recovery = time.monotonic() - began
                await runner.cleanup()
    attempts = worker.metrics.attempts.total / MESSAGES
    facts = {"outage": seconds, "last answer after": round(recovery, 1), "attempts per message": round(attempts, 3)}
    print(json.dumps(facts | {"results": dict(worker.metrics.results.values)}))  # noqa: T201 - a script


if __name__ == "__main__":
    asyncio.run(main())
