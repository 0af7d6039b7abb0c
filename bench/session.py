"""Sessions: tasks per second beside xargs, a warm call beside a task, and what 100,000 futures cost."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azbatchwrap import config
from azbatchwrap.batch.sessions import Session
from azbatchwrap.local.stack import Options, Stack
from bench.engine_start import SYSTEM_PYTHON, prepare
from bench.figures import Figure

NO_OPS, FUTURES = 2_000, 100_000
WARM_CALLS, TASKS = 300, 30
WORKERS = 2
MODULE = "bench_no_op"
SOURCE = b"def no_op(number):\n    return None\n"
DEADLINE = 900.0

#: A child, so that its memory is that of the futures alone. It counts its own requests.
MEMORY = """
import json, resource, sys, time
from azbatchwrap.batch.service import Service
from azbatchwrap.batch.sessions import Session
import bench_no_op
count, requests = int(sys.argv[1]), 0
once = Service._once
def counted(self, *arguments):
    global requests
    requests += 1
    return once(self, *arguments)
Service._once = counted
with_session = Session(pool=sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
futures = with_session.map(bench_no_op.no_op, range(count))
while not all(future.job_id for future in futures[-100:]):
    time.sleep(0.05)
time.sleep(1)
sent, done, began = requests, sum(f.done() for f in futures), time.monotonic()
time.sleep(10)
print(json.dumps({
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "sent": sent,
    "waiting": requests - sent, "ended": sum(f.done() for f in futures) - done,
}))
sys.stdout.flush()
with_session.close(wait=False, cancel=True)
"""


@contextmanager
def instance(folder: Path) -> Iterator[dict[str, str]]:
    """A local instance of its own; the variables that lead to it."""
    stack = Stack(folder)
    stack.up(Options(max_processes=WORKERS))
    try:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "AZBATCHWRAP_"))},
            "AZBATCHWRAP_HOME": str(folder),
            "AZBATCHWRAP_AUTOSTART": "0",
        }
    finally:
        stack.down()


def xargs_seconds(folder: Path) -> float:
    """Seconds that xargs needs to start the same engine on the same function as often, two at a time."""
    python = SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable
    environment = {
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "AZ_BATCH_NODE_SHARED_DIR": str(folder / "shared"),
        "AZ_BATCH_JOB_ID": "job-1",
        "AZ_BATCH_TASK_ID": "task-1",
        "AZBATCHWRAP_DEPLOYMENT": "bench",
        "AZBATCHWRAP_ARGS": "[[1],{}]",
        "AZBATCHWRAP_TASK": f'{{"module":"{MODULE}","function":{{"module":"{MODULE}","name":"no_op"}}}}',
    }
    prepare(folder, environment, f"app/{MODULE}.py", SOURCE)
    command = 'mkdir "wd-$1" && cd "wd-$1" && . "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/bench/run"'
    numbers = "\n".join(map(str, range(NO_OPS)))
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(WORKERS), "-n", "1", "/bin/sh", "-c", command, "sh"],
        cwd=folder, env=environment, input=numbers, text=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - began


def throughput(session: Session, no_op: Callable[[int], None], folder: Path) -> Figure:
    session.submit(no_op, -1).result(DEADLINE)
    began = time.perf_counter()
    session.gather(session.map(no_op, range(NO_OPS)))
    ours = time.perf_counter() - began
    theirs = xargs_seconds(folder)
    return Figure(
        f"map of {NO_OPS} functions that do nothing",
        f"{NO_OPS / ours:.0f} a second",
        f"xargs -P{WORKERS} on the same engine: {NO_OPS / theirs:.0f} a second",
        theirs / ours,
        0.6,
    )


def latencies(call: Callable[[int], Any], count: int) -> list[float]:
    """Milliseconds of one call after the other, sorted."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        call(number).result(DEADLINE)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)


def warm_calls(session: Session, no_op: Callable[[int], None]) -> list[float]:
    with session.interactive(engines=2) as engines:
        engines.submit(no_op, 0).result(DEADLINE)
        return latencies(lambda number: engines.submit(no_op, number), WARM_CALLS)


def warm(session: Session, no_op: Callable[[int], None]) -> Iterator[Figure]:
    calls = warm_calls(session, no_op)
    tasks = statistics.median(latencies(lambda number: session.submit(no_op, NO_OPS + number), TASKS))
    median, late = statistics.median(calls), calls[int(len(calls) * 0.99)]
    yield Figure("warm call, median", f"{median:.1f} ms", "bound: 40 ms", median / 40, 1.0, "<=")
    yield Figure("warm call, p99", f"{late:.1f} ms", "bound: 250 ms", late / 250, 1.0, "<=", "2 engines")
    yield Figure("warm call beside a task each", f"{median:.1f} ms", f"{tasks:.1f} ms", tasks / median, 3.0)


def warm_by_redis(session: Session, no_op: Callable[[int], None]) -> Figure:
    median = statistics.median(warm_calls(session, no_op))
    return Figure("warm call through Redis, median", f"{median:.1f} ms", "bound: 10 ms", median / 10, 1.0, "<=")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis_server() -> Iterator[str | None]:
    """The URL of a Redis server of its own; None where none is installed."""
    if shutil.which("redis-server") is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not listens(port):
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


def memory(environment: dict[str, str], folder: Path, pool_id: str) -> Iterator[Figure]:
    import json

    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(FUTURES), pool_id],
        env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=DEADLINE,
    )  # fmt: skip
    found = json.loads(done.stdout)
    text = f"{FUTURES:,} futures"
    yield Figure(text, f"{found['mib']:.0f} MiB", "bound: 1024 MiB", found["mib"] / 1024, 1.0, "<=")
    listed = FUTURES / 1000 * 10
    note = f"{found['ended']} ended meanwhile"
    theirs = f"listing them all once a second: {listed:.0f} requests"
    yield Figure(
        "10 s of waiting for them", f"{found['waiting']} requests", theirs, found["waiting"] / listed, 0.2, "<=", note
    )


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, instance(Path(name) / "home") as environment:
        folder = Path(name)
        (folder / f"{MODULE}.py").write_bytes(SOURCE)
        sys.path.insert(0, name)
        try:
            no_op = __import__(MODULE).no_op
            settings = config.load(folder, environment=environment, start_local=False)
            with Session(settings=settings) as session:
                pool_id = session.manager.create_pool(node_count=1, slots_per_node=WORKERS)
            with Session(settings=settings, pool=pool_id) as session:
                yield throughput(session, no_op, folder)
                yield from warm(session, no_op)
            with redis_server() as url:
                if url is not None:
                    settings = config.load(
                        folder, environment=environment | {"AZBATCHWRAP_REDIS_URL": url}, start_local=False
                    )
                    with Session(settings=settings, pool=pool_id) as session:
                        yield warm_by_redis(session, no_op)
            yield from memory(environment, folder, pool_id)
        finally:
            sys.path.remove(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=NO_OPS)
    parser.add_argument("--futures", type=int, default=FUTURES)
    options = parser.parse_args()
    NO_OPS, FUTURES = options.calls, options.futures
    for figure in figures():
        print(figure.line(), flush=True)
