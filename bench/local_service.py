"""The local Azure Batch service beside what it stands on: bare processes, a bare web app, a bare database."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from azure.batch import BatchClient, models
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.rest import HttpRequest

from bench.figures import Figure

VERSION = "api-version=2025-06-01"
JSON = {"Content-Type": "application/json; odata=minimalmetadata"}
NO_OPS, QUEUED, FEW = 3_000, 10_000, 100
REQUESTS, CONNECTIONS = 4_000, 8
COLLECTIONS = 200
DELAYS = 200
ROUNDS = 3
MEMORY = Path("/dev/shm")
CONSTANT_APP = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
BODY = open(sys.argv[2], "rb").read()
async def task(request):
    return Response(BODY, media_type="application/json")
app = Starlette(routes=[Route("/jobs/{job}/tasks/{task}", task)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


@dataclass
class Server:
    """A service process on a free port, in a folder of its own."""

    url: str
    account: str
    key: str
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> BatchClient:
        return BatchClient(self.url, AzureNamedKeyCredential(self.account, self.key), polling_interval=0)

    @property
    def resident(self) -> float:
        """MiB of the service and the helper that starts its processes."""
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(status(pid, "VmRSS") for pid in pids) / 1024


def status(pid: int, field: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def service(folder: Path, **settings: Any) -> Iterator[Server]:
    data = folder / "batch"
    data.mkdir(parents=True)
    key = base64.b64encode(os.urandom(64)).decode()
    config = folder / "service.json"
    body = {"account": "bench", "key": key, "host": "127.0.0.1", "port": 0, "data_dir": str(data), **settings}
    config.write_text(json.dumps({"max_processes": os.cpu_count(), **body}))
    command = [sys.executable, "-m", "azbatchwrap.local.batch", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        listening = data / "listening.json"
        wait(listening.exists)
        yield Server(f"http://127.0.0.1:{json.loads(listening.read_text())['port']}", "bench", key, process)
    finally:
        process.terminate()
        process.wait(30)


def wait(condition: Callable[[], object], seconds: float = 120, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s: {condition}")
        time.sleep(pause)


def make_pool(client: BatchClient, pool: str, nodes: int, slots: int) -> None:
    machine = models.VirtualMachineConfiguration(
        image_reference=models.BatchVmImageReference(publisher="canonical", offer="ubuntu-24_04-lts", sku="server"),
        node_agent_sku_id="batch.node.ubuntu 24.04",
    )
    client.create_pool(
        models.BatchPoolCreateOptions(
            id=pool,
            vm_size="standard_d2s_v3",
            target_dedicated_nodes=nodes,
            task_slots_per_node=slots,
            virtual_machine_configuration=machine,
        )
    )
    wait(lambda: sum(node.state in {"idle", "running"} for node in client.list_nodes(pool)) == nodes)


def make_job(client: BatchClient, job: str, pool: str) -> None:
    client.create_job(models.BatchJobCreateOptions(id=job, pool_info=models.BatchPoolInfo(pool_id=pool)))


def collection(first: int, count: int, command: str) -> bytes:
    tasks = [{"id": f"task-{n:06d}", "commandLine": command} for n in range(first, first + count)]
    return orjson.dumps({"value": tasks})


def add(client: BatchClient, job: str, count: int, command: str = "/bin/true", first: int = 0) -> float:
    """Seconds to add ``count`` tasks in collections of 100, one after the other."""
    bodies = [collection(n, min(100, first + count - n), command) for n in range(first, first + count, 100)]
    began = time.perf_counter()
    for body in bodies:
        request = HttpRequest("POST", f"/jobs/{job}/addtaskcollection?{VERSION}", headers=JSON, content=body)
        client.send_request(request).raise_for_status()
    return time.perf_counter() - began


def completed(client: BatchClient, job: str) -> int:
    return client.get_job_task_counts(job).task_counts.completed


# --- processes --------------------------------------------------------------------------------------------------------


def no_op_rate(server: Server, job: str) -> float:
    """Tasks a second, from enabling the job to its last completion."""
    client = server.client
    make_job(client, job, "four")
    client.begin_disable_job(job, models.BatchJobDisableOptions(disable_tasks="requeue")).result()
    add(client, job, NO_OPS)
    began = time.perf_counter()
    client.begin_enable_job(job).result()
    wait(lambda: completed(client, job) == NO_OPS, pause=0.1)  # oftener would take a tenth of a core from the tasks
    return NO_OPS / (time.perf_counter() - began)


def xargs_rate() -> float:
    began = time.perf_counter()
    words = b"\n".join(b"%d" % n for n in range(NO_OPS))
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=words, check=True)
    return NO_OPS / (time.perf_counter() - began)


def run_rates(folder: Path) -> Iterator[Figure]:
    with service(folder) as server:
        make_pool(server.client, "four", 1, 4)
        yield no_op_figure(server, "data folder on this disk")
        yield from start_delays(server)
        yield Figure(
            "memory of the service",
            f"{server.resident:.0f} MiB",
            "90 MiB",
            server.resident,
            90,
            "<=",
            "MiB, with helper",
        )
    if MEMORY.is_dir():
        # ext4 passes over inodes that anybody deleted in the last minutes, at up to half a millisecond for each of
        # the four files and folders of a task: the same run where no earlier deletion can be felt.
        with tempfile.TemporaryDirectory(dir=MEMORY) as name, service(Path(name)) as server:
            make_pool(server.client, "four", 1, 4)
            yield no_op_figure(server, "data folder in memory")


def no_op_figure(server: Server, where: str) -> Figure:
    pairs = [(no_op_rate(server, f"noop-{n}"), xargs_rate()) for n in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return Figure(
        "no-op tasks, 1 node of 4 slots", f"{ours:.0f}/s", f"xargs -P2: {theirs:.0f}/s", ratio, 0.5, note=where
    )


def start_delays(server: Server) -> Iterator[Figure]:
    """From before the request that adds a task until ``date``, started as the task, has read the clock."""
    client = server.client
    make_job(client, "delay", "four")
    options = [models.BatchTaskCreateOptions(id=f"t{n}", command_line="/bin/date +%s.%N") for n in range(DELAYS)]
    sent = []
    for option in options:
        sent.append(time.time())
        client.create_task("delay", option)
        wait(lambda option=option: client.get_task("delay", option.id).state == "completed", pause=0.001)
    delays = []
    for option, at in zip(options, sent, strict=True):
        text = b"".join(client.download_task_file("delay", option.id, "stdout.txt"))
        delays.append((float(text) - at) * 1000)
    delays.sort()
    median, late = statistics.median(delays), delays[int(len(delays) * 0.99) - 1]
    note = "ms; includes the SDK's request and the start of /bin/date"
    yield Figure("task added to process started, median", f"{median:.1f} ms", "5 ms", median, 5, "<=", note)
    yield Figure("task added to process started, p99", f"{late:.1f} ms", "25 ms", late, 25, "<=", note)


# --- answers ----------------------------------------------------------------------------------------------------------


def queue_lengths(folder: Path) -> Iterator[Figure]:
    """Counts and a filtered list beside 100 and beside 10,000 queued tasks."""
    with service(folder) as server:
        client = server.client
        make_pool(client, "empty", 0, 1)
        for job, count in (("few", FEW), ("many", QUEUED)):
            make_job(client, job, "empty")
            add(client, job, count)
        moment = "2026-01-01T00:00:00Z"
        filtered = f"state eq 'completed' and stateTransitionTime ge {moment}"
        reads: dict[str, Callable[[str], object]] = {
            "GET taskcounts": client.get_job_task_counts,
            "list by state and time": lambda job: list(client.list_tasks(job, filter=filtered, select=["id", "state"])),
        }
        for name, read in reads.items():
            times: dict[str, list[float]] = {"few": [], "many": []}
            for _ in range(100):
                for job, taken in times.items():
                    began = time.perf_counter()
                    read(job)
                    taken.append(time.perf_counter() - began)
            few, many = (statistics.median(times[job]) * 1000 for job in ("few", "many"))
            yield Figure(f"{name}, 10,000 queued", f"{many:.2f} ms", f"100 queued: {few:.2f} ms", many / few, 2, "<=")


async def request_rate(url: str, raw: bytes) -> float:
    """Requests a second over kept connections; the bytes of the request are made beforehand."""
    parts = urlsplit(url)

    async def connection(count: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(count):
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head[:200]
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(connection(REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))
    return REQUESTS / (time.perf_counter() - began)


def signed_get(server: Server, path: str) -> tuple[bytes, bytes]:
    """The raw bytes of a signed GET, as the SDK sends it, and the body it is answered with."""
    seen: dict[str, str] = {}

    def keep(request: Any) -> None:
        seen.update(request.http_request.headers)

    answer = server.client.send_request(HttpRequest("GET", f"{path}?{VERSION}"), raw_request_hook=keep)
    answer.raise_for_status()
    lines = [f"GET {path}?{VERSION} HTTP/1.1", f"Host: {urlsplit(server.url).netloc}"]
    lines += [f"{name}: {value}" for name, value in seen.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), answer.content


@contextlib.contextmanager
def constant_app(folder: Path, body: bytes) -> Iterator[str]:
    (folder / "body.json").write_bytes(body)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", CONSTANT_APP, str(port), str(folder / "body.json")])
    try:
        url = f"http://127.0.0.1:{port}"
        wait(lambda: answers(port))
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)),
    ):
        return True
    return False


def get_rates(folder: Path) -> Iterator[Figure]:
    with service(folder) as server:
        client = server.client
        make_pool(client, "empty", 0, 1)
        make_job(client, "one", "empty")
        add(client, "one", FEW)
        raw, body = signed_get(server, "/jobs/one/tasks/task-000042")
        with constant_app(folder, body) as url:
            pairs = [
                (asyncio.run(request_rate(server.url, raw)), asyncio.run(request_rate(url, raw))) for _ in range(ROUNDS)
            ]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    yield Figure("GET task", f"{ours:.0f}/s", f"Starlette, constant answer: {theirs:.0f}/s", ratio, 0.4)


# --- writes -----------------------------------------------------------------------------------------------------------


def sqlite_rate(folder: Path, source: Path, round_number: int) -> float:
    """Rows a second: the service's own rows, inserted into the same table 100 a commit."""
    origin = sqlite3.connect(source)
    schema = [
        sql for (sql,) in origin.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'tasks' AND sql NOT NULL")
    ]
    rows = origin.execute("SELECT * FROM tasks").fetchall()
    origin.close()
    target = sqlite3.connect(folder / f"bare-{round_number}.db", isolation_level=None)
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=NORMAL")
    for sql in schema:
        target.execute(sql)
    marks = ",".join("?" * len(rows[0]))
    began = time.perf_counter()
    for start in range(0, len(rows), 100):
        target.execute("BEGIN IMMEDIATE")
        target.executemany(f"INSERT INTO tasks VALUES ({marks})", rows[start : start + 100])
        target.execute("COMMIT")
    seconds = time.perf_counter() - began
    target.close()
    return len(rows) / seconds


def add_rates(folder: Path) -> Iterator[Figure]:
    pairs = []
    for number in range(ROUNDS):
        place = folder / str(number)
        place.mkdir()
        with service(place) as server:
            make_pool(server.client, "empty", 0, 1)
            make_job(server.client, "add", "empty")
            ours = COLLECTIONS * 100 / add_by_two(server, "add")
        database = next((place / "batch").glob("*.db"), None) or next((place / "batch").glob("*.sqlite*"))
        pairs.append((ours, sqlite_rate(folder, database, number)))
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    yield Figure("add task collections", f"{ours:.0f} tasks/s", f"bare SQLite: {theirs:.0f}/s", ratio, 0.3)


def add_by_two(server: Server, job: str) -> float:
    """Two connections, so that the server is not kept waiting for the client."""
    half = COLLECTIONS * 50
    clients = [server.client, server.client]
    threads = [
        threading.Thread(target=add, args=(client, job, half), kwargs={"first": n * half})
        for n, client in enumerate(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        for number, part in enumerate((run_rates, queue_lengths, get_rates, add_rates)):
            folder = Path(name) / str(number)
            folder.mkdir()
            yield from part(folder)
