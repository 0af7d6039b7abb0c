"""SIGKILL for a random worker every second for a minute: ``python tests/stress/processor_kill.py [redis|sqlite] …``.

Four workers, 20,000 messages. Prints how many results there are, how many ids have two, and how many requests were
sent more than once. Exits 1 when anything is lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from aiohttp import web

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from azbatchwrap.processor.message import Reader  # noqa: E402
from azbatchwrap.queues import Item, queue_from_url  # noqa: E402
from tests.fixtures_processor import RedisServer  # noqa: E402

COMMAND = [sys.executable, "-m", "azbatchwrap.cli.main", "processor"]


async def endpoint(seen: Counter[str], latency: float) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        seen[request.headers["x-request-id"]] += 1
        await request.read()
        await asyncio.sleep(latency)
        return web.json_response({"fine": True})

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


def worker(queue_url: str, url: str, folder: Path) -> subprocess.Popen[bytes]:
    words = ["run", "--queue", queue_url, "--endpoint", url, "--lease", "3", "--concurrency", "8"]
    return subprocess.Popen([*COMMAND, *words], cwd=folder, stderr=subprocess.DEVNULL)


async def torture(queue_url: str, folder: Path, options: argparse.Namespace) -> bool:
    seen: Counter[str] = Counter()
    runner, url = await endpoint(seen, options.latency)
    async with queue_from_url(queue_url, Reader()) as queue:
        for start in range(0, options.messages, 500):
            await queue.put([Item(f"r{n}", b"{}", 9_999_999_999.0) for n in range(start, start + 500)])
        workers = [worker(queue_url, url, folder) for _ in range(4)]
        kills, began = 0, time.monotonic()
        while time.monotonic() - began < options.seconds:
            await asyncio.sleep(1.0)
            chosen = random.randrange(4)
            workers[chosen].send_signal(signal.SIGKILL)
            await asyncio.to_thread(workers[chosen].wait)
            kills += 1
            workers[chosen] = worker(queue_url, url, folder)
        while (await queue.stats()).open and time.monotonic() - began < options.seconds + 300:  # noqa: ASYNC110 - other processes work
            await asyncio.sleep(0.5)
        seconds = time.monotonic() - began
        for one in workers:
            one.send_signal(signal.SIGTERM)
        for one in workers:
            await asyncio.to_thread(one.wait, 60)
        codes, ids, cursor = Counter[str](), Counter[str](), ""
        while (page := await queue.results(cursor, 1000)).results:
            codes.update(one.code.value for one in page.results)
            ids.update(one.id for one in page.results)
            cursor = page.cursor
    await runner.cleanup()
    report = {
        "queue": queue_url.partition(":")[0], "kills": kills, "seconds": round(seconds, 1), "results": ids.total(),
        "codes": dict(codes), "lost": options.messages - len(ids), "doubled": ids.total() - len(ids),
        "sent more than once": sum(number > 1 for number in seen.values()),
        "repeated dispatches": seen.total() - len(seen),
    }  # fmt: skip
    print(json.dumps(report), flush=True)  # noqa: T201 - a script
    return ids.total() == len(ids) == options.messages


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["redis", "sqlite"])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency", type=float, default=0.08)
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        server = RedisServer(folder)
        for kind in options.kinds:
            if kind == "redis":
                server.start()
            url = f"{server.url}?queue=kill" if kind == "redis" else f"sqlite:///{folder}/queue.sqlite"
            good &= await torture(url, folder, options)
            server.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
