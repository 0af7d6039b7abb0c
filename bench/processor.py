"""The batch processor: speed beside a bare loop and the public default shape, manners before a full server, memory.

A fast static server is nginx from the system's packages; the full one is this module's own (a process of its own).
Every worker is a fresh process.

On a machine that others use too, rates say little: compare the processor time per message, and two checkouts by runs
that alternate: ``python -m bench.processor --against ../other-checkout``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Figure

ROOT = Path(__file__).parents[1]
FLYING = 64
MESSAGES = 20_000
SQLITE_MESSAGES = 10_000
ROUNDS = 5
#: The server that is soon full.
SLOTS, SLOT_TIME, LIMITED_MESSAGES = 16, 0.050, 2_500
MANY, FEW = 1_000_000, 10_000
BODY = json.dumps({"model": "food-review", "prompt": "hi " * 40, "max_tokens": 10, "temperature": 0}).encode()
NEVER = 9_999_999_999.0
SOON = 4_000_000_000.0


# --- servers ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def child(words: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_for(port, process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def static_server(folder: Path) -> Iterator[str]:
    port = free_port()
    answer = '{\\"id\\":\\"cmpl-1\\",\\"object\\":\\"text_completion\\",\\"choices\\":[{\\"text\\":\\"fine\\"}]}'
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; keepalive_requests 100000000; default_type application/json;\n"
        f"  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n"
        f"  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f'  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "{answer}"; }} }}\n'
        "}\n"
    )
    with child([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(config), "-p", str(folder)], port):
        yield f"http://127.0.0.1:{port}/v1/completions"


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    # Rewriting its file in the background would take one of two cores from whatever is measured at that time.
    with child([*words, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def limited_server() -> Iterator[str]:
    """`SLOTS` requests at once, `SLOT_TIME` each; more are answered 429 with Retry-After."""
    port = free_port()
    with child([sys.executable, "-m", "bench.processor", "--serve-limited", str(port)], port):
        yield f"http://127.0.0.1:{port}/v1/completions"


async def serve_limited(port: int) -> None:
    from aiohttp import web

    flying = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal flying
        await request.read()
        if flying >= SLOTS:
            return web.json_response({"error": "full"}, status=429, headers={"Retry-After": "1"})
        flying += 1
        try:
            await asyncio.sleep(SLOT_TIME)
        finally:
            flying -= 1
        return web.json_response({"choices": [{"text": "fine"}]})

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


# --- what is measured, each in a process of its own -------------------------------------------------------------------


async def bare(url: str, count: int) -> dict[str, float]:
    """What is to be had: a loop of posts without queue, retries or results. ``cpu``: microseconds per request."""
    import aiohttp

    left = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def loop() -> None:
            for _ in left:
                async with session.post(url, data=BODY) as response:
                    await response.read()
                    assert response.status == 200

        began, worked = time.perf_counter(), time.process_time()
        await asyncio.gather(*(loop() for _ in range(FLYING)))
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    return {"rate": count / seconds, "cpu": worked / count * 1e6}


async def public_shape(url: str, redis_url: str, count: int) -> float:
    """The defaults of the best-known processor: look once a second, take ten, send them, store the results."""
    import aiohttp
    from redis.asyncio import Redis

    redis = Redis.from_url(redis_url)
    await redis.zadd("public", {str(number): NEVER for number in range(count)})
    done = 0
    began = time.perf_counter()
    async with aiohttp.ClientSession() as session:

        async def one() -> None:
            nonlocal done
            async with session.post(url, data=BODY) as response:
                await redis.lpush("public-results", await response.read())
            done += 1

        while done < count:
            popped = await redis.zpopmin("public", 10)
            await asyncio.gather(*(one() for _ in popped))
            await asyncio.sleep(1.0)
    rate = count / (time.perf_counter() - began)
    await redis.delete("public-results")
    await redis.aclose()
    return rate


async def _served(queue: Any) -> float:
    """Processor time that the queue's server has used (seconds); 0 for queues without one."""
    if not hasattr(queue, "redis"):
        return 0.0
    facts = await queue.redis.info("cpu")
    return float(facts["used_cpu_user"] + facts["used_cpu_sys"])


async def ours(queue_url: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    """Everything answered durably. ``cpu`` and ``server``: microseconds of the worker and the queue's server."""
    from azbatchwrap.processor.message import Reader
    from azbatchwrap.processor.run import Line, RunOptions, processor
    from azbatchwrap.processor.worker import WorkerOptions
    from azbatchwrap.queues import Item, queue_from_url

    async with queue_from_url(queue_url, Reader()) as queue:
        for start in range(0, count, 1_000):
            await queue.put([Item(f"r{n}", BODY, NEVER) for n in range(start, min(count, start + 1_000))])
        with tempfile.TemporaryDirectory(prefix="bench-spool-") as spool:
            options = RunOptions([url], Path(spool), WorkerOptions(concurrency))
            async with processor([Line(queue_from_url(queue_url, Reader()))], options) as worker:
                server = await _served(queue)
                began, worked = time.perf_counter(), time.process_time()
                task = asyncio.create_task(worker.run())
                while worker.metrics.results.total < count:  # noqa: ASYNC110 - a counter sets no event
                    await asyncio.sleep(0.01)
                seconds, worked = time.perf_counter() - began, time.process_time() - worked
                server = await _served(queue) - server
                worker.stop()
                await task
                attempts = worker.metrics.attempts.total
                assert worker.metrics.results.values["OK"] == count
        assert (await queue.stats()).results == count
    cpu = {"cpu": worked / count * 1e6, "server": server / count * 1e6}
    return {"rate": count / seconds, "attempts": attempts / count, **cpu}


async def claims(queue_url: str, count: int) -> dict[str, float]:
    """Claims and completions per second over 8,000 messages with ``count`` waiting, and the growth of memory (MiB)."""
    from azbatchwrap.processor.message import Reader
    from azbatchwrap.queues import Item, queue_from_url

    async with queue_from_url(queue_url, Reader()) as queue:
        for start in range(0, count, 1_000):
            # Deadlines as they come: so much later than the request was made.
            await queue.put([Item(f"r{n:07}", BODY, SOON + n) for n in range(start, start + 1_000)])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.sync()  # writing back what was put is no part of claiming
        rates = [await _claims_per_second(queue, 20) for _ in range(8)]
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"rate": statistics.median(rates), "growth": growth}


async def _claims_per_second(queue: Any, rounds: int) -> float:
    from azbatchwrap.queues import Code, Result

    began = time.perf_counter()
    for _ in range(rounds):
        taken = await queue.claim(50, 30)
        assert len(taken) == 50
        assert all(await queue.complete([(one, Result(one.id, Code.OK, 200, 1, payload=b"{}")) for one in taken]))
    return rounds * 50 / (time.perf_counter() - began)


def measured(way: str, checkout: Path = ROOT, **given: object) -> Any:
    """What ``way`` of ``checkout`` gives in a fresh process."""
    words = [sys.executable, "-m", "bench.processor", "--way", way, "--given", json.dumps(given)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=900, check=False, cwd=checkout, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout)


# --- the report -------------------------------------------------------------------------------------------------------


def _queue_url(redis_url: str) -> str:
    return f"{redis_url}?queue=bench-{time.monotonic_ns()}"


def _speed(url: str, redis_url: str, folder: Path) -> Iterator[Figure]:
    loops, on_redis, on_sqlite = [], [], []
    for number in range(ROUNDS):
        loops.append(measured("bare", url=url, count=MESSAGES))
        on_redis.append(measured("ours", queue_url=_queue_url(redis_url), url=url, count=MESSAGES, concurrency=FLYING))
        path = f"sqlite:///{folder}/speed{number}.sqlite"
        on_sqlite.append(measured("ours", queue_url=path, url=url, count=SQLITE_MESSAGES, concurrency=FLYING))
    loop = statistics.median(one["rate"] for one in loops)
    for name, found, target in (("Redis", on_redis, 0.6), ("SQLite, synchronous=FULL", on_sqlite, 0.25)):
        rate = statistics.median(one["rate"] for one in found)
        # Each against the loop that ran beside it: the machine is not equally fast all the time.
        ratio = statistics.median(one["rate"] / beside["rate"] for one, beside in zip(found, loops, strict=True))
        yield Figure(
            f"requests at {FLYING} in flight, {name}", f"{rate:,.0f}/s", f"bare aiohttp loop {loop:,.0f}/s",
            ratio, target, note=f"each answered durably; processor time per message {_times(found)}, loop {_times(loops)}",
        )  # fmt: skip
    rate = statistics.median(one["rate"] for one in on_redis)
    public = measured("public", url=url, redis_url=redis_url, count=100)
    yield Figure(
        "against look every 1 s, take 10", f"{rate:,.0f}/s", f"{public:.1f}/s", rate / public, 300.0, note="on Redis"
    )


def _times(found: Sequence[dict[str, float]]) -> str:
    own = f"{statistics.median(one['cpu'] for one in found):.0f} µs"
    server = statistics.median(one.get("server", 0.0) for one in found)
    return f"{own} + {server:.0f} µs of the queue's server" if server else own


def compare(other: Path) -> None:
    """This checkout and ``other`` in turn, on Redis."""
    with tempfile.TemporaryDirectory(prefix="bench-processor-") as name:
        folder = Path(name)
        with static_server(folder) as url, redis_server(folder) as redis_url:
            found: dict[Path, list[dict[str, float]]] = {ROOT: [], other.resolve(): []}
            for _ in range(ROUNDS):
                for checkout, runs in found.items():
                    runs.append(
                        measured(
                            "ours", checkout, queue_url=_queue_url(redis_url), url=url, count=MESSAGES,
                            concurrency=FLYING,
                        )
                    )  # fmt: skip
            for checkout, runs in found.items():
                rates = ", ".join(f"{one['rate']:,.0f}/s" for one in runs)
                print(f"{checkout}: {rates}; processor time per message {_times(runs)}")


def _manners(redis_url: str) -> Iterator[Figure]:
    with limited_server() as url:
        found = measured("ours", queue_url=_queue_url(redis_url), url=url, count=LIMITED_MESSAGES, concurrency=FLYING)
    capacity = SLOTS / SLOT_TIME
    yield Figure(
        f"server of {SLOTS} slots that answers 429", f"{found['rate']:.0f}/s", f"its capacity {capacity:.0f}/s",
        found["rate"] / capacity, 0.75, note="concurrency 64, Retry-After: 1",
    )  # fmt: skip
    yield Figure(
        "attempts per message there", f"{found['attempts']:.3f}", "naive retry 25.6", found["attempts"], 1.1, "<="
    )


def _depth(redis_url: str, folder: Path) -> Iterator[Figure]:
    for name, url in (("Redis", _queue_url), ("SQLite", lambda _: f"sqlite:///{folder}/d{time.monotonic_ns()}.sqlite")):
        few = statistics.median(measured("claims", queue_url=url(redis_url), count=FEW)["rate"] for _ in range(ROUNDS))
        many = measured("claims", queue_url=url(redis_url), count=MANY)
        yield Figure(
            f"claims with {MANY:,} waiting, {name}", f"{many['rate']:,.0f}/s", f"with {FEW:,}: {few:,.0f}/s",
            many["rate"] / few, 0.8, note=f"memory grew {many['growth']:.1f} MiB",
        )  # fmt: skip


def figures() -> Iterator[Figure]:
    """Everything side by side; takes about three minutes."""
    with tempfile.TemporaryDirectory(prefix="bench-processor-") as name:
        folder = Path(name)
        with static_server(folder) as url, redis_server(folder) as redis_url:
            yield from _speed(url, redis_url, folder)
            yield from _manners(redis_url)
            yield from _depth(redis_url, folder)


WAYS = {"bare": bare, "public": public_shape, "ours": ours, "claims": claims}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--given", type=json.loads, default={})
    parser.add_argument("--serve-limited", type=int)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, in turn with this one")
    chosen = parser.parse_args()
    import uvloop

    if chosen.serve_limited:
        uvloop.run(serve_limited(chosen.serve_limited))
    elif chosen.way:
        print(json.dumps(uvloop.run(WAYS[chosen.way](**chosen.given))))
    elif chosen.against:
        compare(chosen.against)
    else:
        for figure in figures():
            print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
