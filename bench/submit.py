"""Submission: our rate beside the SDK's own ``create_tasks``, near and far, and the memory of a million tasks.

Every run is a fresh process that builds its tasks (records for us, models for the SDK) within the time measured, and
adds them to a job on a pool without nodes. The same server answers all of a comparison; the stored tasks are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import resource
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from azbatchwrap.batch.service import Service, at
from azbatchwrap.config import BatchAccount, Secret
from bench.figures import Figure

if TYPE_CHECKING:
    from azure.batch import models

ACCOUNT = "bench"
POOL = "empty"
#: Seconds that the far side of a network adds to every round trip.
LATENCY = 0.050
NEAR, FAR, MANY = 50_000, 20_000, 1_000_000
ROUNDS = 3
DEPLOYMENT = "d" * 64
CALL = {"module": "1_task.py", "chain": True, "whole": False, "retries": 0, "timeout": None, "inputs": None}
OUTPUT_URL = (
    "http://127.0.0.1:10000/devstoreaccount1/azbw-bench-output?se=2026-12-01T00%3A00%3A00Z&sp=cw&sr=c&sig=" + "x" * 44
)


# --- what is measured -------------------------------------------------------------------------------------------------


def tuples(count: int) -> Iterator[tuple[str, str]]:
    return (("1_task.py", f"input.txt {n} 34") for n in range(count))


def add_ours(service: Service, job: str, count: int, *, whole: bool) -> None:
    """Through the product's own path; without ``whole`` the same bare tasks as the SDK gets."""
    from azbatchwrap.batch.submit import Submission
    from azbatchwrap.batch.tasks import TaskIds, TaskWriter, ready_tasks
    from azbatchwrap.manifest import from_tuples

    writer = TaskWriter(job, DEPLOYMENT, OUTPUT_URL)
    tasks = ready_tasks(from_tuples(tuples(count)), 0, TaskIds(), writer) if whole else bare_tasks(count)
    added = Submission(service, job).run(tasks)
    assert added == count


def bare_tasks(count: int) -> Iterator[tuple[str, bytes]]:
    import orjson

    from azbatchwrap.batch.tasks import ascii_json, engine_command

    for index, (module, words) in enumerate(tuples(count)):
        task_id = f"task-{index + 1:06d}"
        settings = {
            "AZBATCHWRAP_TASK": ascii_json({**CALL, "module": module}),
            "AZBATCHWRAP_ARGS": ascii_json(words.split()),
            "AZBATCHWRAP_INDEX": str(index),
        }
        environment = [{"name": name, "value": value} for name, value in settings.items()]
        body = {"id": task_id, "commandLine": engine_command(DEPLOYMENT), "environmentSettings": environment}
        yield task_id, orjson.dumps(body)


def add_sdk(service: Service, job: str, count: int, threads: int, *, whole: bool) -> None:
    """``whole`` builds the very tasks that we send; otherwise leave out all but command line and environment."""
    from azure.batch import BatchClient, models
    from azure.core.credentials import AzureNamedKeyCredential

    from azbatchwrap.batch.tasks import engine_command

    command = engine_command(DEPLOYMENT)
    call = json.dumps(CALL)

    def model(index: int, words: str) -> models.BatchTaskCreateOptions:
        task_id = f"task-{index + 1:06d}"
        settings = (
            models.EnvironmentSetting(name="AZBATCHWRAP_TASK", value=call),
            models.EnvironmentSetting(name="AZBATCHWRAP_ARGS", value=json.dumps(words.split())),
            models.EnvironmentSetting(name="AZBATCHWRAP_INDEX", value=str(index)),
        )
        task = models.BatchTaskCreateOptions(id=task_id, command_line=command, environment_settings=list(settings))
        if whole:
            _complete(task, f"{job}/{task_id}")
        return task

    key = service.account.key
    assert key is not None
    client = BatchClient(service.url, AzureNamedKeyCredential(service.account.name, key.reveal()))
    tasks = [model(index, words) for index, (_, words) in enumerate(tuples(count))]
    client.create_tasks(job, tasks, max_concurrency=threads)


def _complete(task: models.BatchTaskCreateOptions, path: str) -> None:
    from azure.batch import models

    from azbatchwrap.batch.tasks import output_files

    task.constraints = models.BatchTaskConstraints(max_task_retry_count=0)
    task.user_identity = models.UserIdentity(
        auto_user=models.AutoUserSpecification(scope="pool", elevation_level="nonadmin")
    )
    task.output_files = [
        models.OutputFile(
            file_pattern=item["filePattern"],
            destination=models.OutputFileDestination(
                container=models.OutputFileBlobContainerDestination(container_url=OUTPUT_URL, path=item["destination"]["container"]["path"])
            ),
            upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
        )
        for item in output_files(OUTPUT_URL, path)
    ]  # fmt: skip


def measure(way: str, url: str, key: str, job: str, count: int) -> None:
    """In a process of its own: print seconds and the peak of resident memory (MiB)."""
    service = Service(BatchAccount(ACCOUNT, url, Secret(key)))
    service.get(at("jobs", job))  # what is imported at the first call is no part of the rate
    began = time.perf_counter()
    who, kind, threads = way.split("-")
    if who == "ours":
        add_ours(service, job, count, whole=kind == "whole")
    else:
        add_sdk(service, job, count, int(threads), whole=kind == "whole")
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


# --- who answers ------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Something that speaks Azure Batch at ``url``."""

    url: str
    key: str

    def service(self) -> Service:
        return Service(BatchAccount(ACCOUNT, self.url, Secret(self.key)))

    def job(self) -> str:
        job = f"bench-{secrets.token_hex(4)}"
        self.service().request("POST", "/jobs", {"id": job, "poolInfo": {"poolId": POOL}})
        return job

    def stored(self, job: str) -> int:
        return int(self.service().get(at("jobs", job, "taskcounts"))["taskCounts"]["active"])

    def run(self, way: str, count: int, *, through: Server | None = None) -> tuple[float, float]:
        """Tasks per second and peak memory (MiB) of one fresh process; ``through`` is the way to the server."""
        job = self.job()
        url = (through or self).url
        words = [sys.executable, "-m", "bench.submit", "--way", way, "--url", url, "--job", job, "--count", str(count)]
        done = subprocess.run(
            words,
            input=self.key,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=Path(__file__).parents[1],
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        stored = self.stored(job)
        assert stored == count, f"{way}: {stored} of {count} tasks are stored"
        facts = json.loads(done.stdout)
        return count / facts["seconds"], facts["peak"]


@contextlib.contextmanager
def child(*words: str) -> Iterator[str]:
    """This module in another process; gives the first line it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.submit", *words], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def stand_in() -> Iterator[Server]:
    """A server that only counts: what the client's memory is measured against."""
    with child("--stand-in") as port:
        yield Server(f"http://127.0.0.1:{port}", base64.b64encode(b"stand-in").decode())


@contextlib.contextmanager
def delayed(server: Server) -> Iterator[Server]:
    """``server`` behind `LATENCY`."""
    with child("--delay", server.url.rpartition(":")[2]) as port:
        yield Server(f"http://127.0.0.1:{port}", server.key)


@contextlib.contextmanager
def local_service() -> Iterator[Server]:
    """The product's own Azure Batch service, with a pool that has no nodes."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with tempfile.TemporaryDirectory(prefix="bench-submit-") as folder:
        config = Path(folder, "service.json")
        listening = Path(folder, "batch", "listening.json")
        facts = {"account": ACCOUNT, "key": key, "host": "127.0.0.1", "port": 0, "data_dir": str(listening.parent)}
        config.touch(mode=0o600)
        config.write_text(json.dumps({**facts, "max_processes": 1}))
        with Path(folder, "service.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "azbatchwrap.local.batch", "--config", config], stdout=log, stderr=log
            )
        try:
            server = Server(f"http://127.0.0.1:{_port(listening, process)}", key)
            _make_pool(server.service())
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _port(listening: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 30
    while not listening.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the local service did not start")
        time.sleep(0.05)
    return int(json.loads(listening.read_text())["port"])


def _make_pool(service: Service) -> None:
    from azbatchwrap.batch import images

    image, _ = images.choose(service.list("/supportedimages"), "canonical", "ubuntu-24_04-lts", "server")
    body = {"id": POOL, "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": image.wire()}
    service.request("POST", "/pools", body)


class _Counting(asyncio.Protocol):
    """Just enough HTTP and Azure Batch to take tasks in and count them."""

    counts: ClassVar[dict[str, int]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._data = bytearray()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end]).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:])
            length = int(headers.get("content-length", 0))
            if len(self._data) < end + 4 + length:
                return
            body = bytes(self._data[end + 4 : end + 4 + length])
            del self._data[: end + 4 + length]
            self._transport.write(self._answer(head[0], body))  # type: ignore[attr-defined]

    def _answer(self, line: str, body: bytes) -> bytes:
        import orjson

        method, target, _ = line.split(" ")
        parts = target.partition("?")[0].split("/")
        content = b""
        if parts[-1] == "addtaskcollection":
            tasks = orjson.loads(body)["value"]
            self.counts[parts[2]] = self.counts.get(parts[2], 0) + len(tasks)
            results = [{"status": "Success", "taskId": task["id"], "eTag": "0x8DBAF728B4D5CE6"} for task in tasks]
            content = orjson.dumps({"value": results})
        elif parts[-1] == "taskcounts":
            content = orjson.dumps({"taskCounts": {"active": self.counts.get(parts[2], 0)}})
        status = "201 Created" if method == "POST" and not content else "200 OK"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


async def _serve_stand_in() -> None:
    server = await asyncio.get_running_loop().create_server(_Counting, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _serve_delay(port: int) -> None:
    """A TCP proxy whose bytes arrive half of `LATENCY` later, each way."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 18):
            loop.call_later(LATENCY / 2, writer.write, data)
        loop.call_later(LATENCY, writer.close)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        away_reader, away_writer = await asyncio.open_connection("127.0.0.1", port)
        for one in (writer, away_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pump(reader, away_writer), pump(away_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the report -------------------------------------------------------------------------------------------------------


def _compare(
    server: Server, kind: str, threads: int, counts: tuple[int, int], through: Server | None = None
) -> tuple[float, float]:
    """Median rates, ours and the SDK's, of the same tasks; runs alternate so that both see the same machine."""
    ways = {f"ours-{kind}-0": counts[0], f"sdk-{kind}-{threads}": counts[1]}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, count in ways.items():
            rates[way].append(server.run(way, count, through=through)[0])
    ours, theirs = (statistics.median(found) for found in rates.values())
    return ours, theirs


def figures() -> Iterator[Figure]:
    """Bare tasks are the SDK's lightest case; whole ones are what the product sends, with three output files each."""
    with local_service() as server:
        ours, sdk = _compare(server, "bare", 0, (NEAR, NEAR))
        yield Figure(
            f"submit {NEAR:,} bare tasks", f"{ours:,.0f}/s", f"SDK create_tasks {sdk:,.0f}/s", ours / sdk, 3.0,
            note="local service; building of tasks counted on both sides",
        )  # fmt: skip
        ours, sdk = _compare(server, "whole", 0, (NEAR, NEAR // 5))
        yield Figure(
            f"submit {NEAR:,} whole tasks", f"{ours:,.0f}/s", f"SDK create_tasks {sdk:,.0f}/s", ours / sdk, 3.0,
            note=f"the SDK is given {NEAR // 5:,}",
        )  # fmt: skip
        with delayed(server) as far:
            ours, sdk = _compare(server, "bare", 16, (FAR, FAR), far)
        yield Figure(
            f"submit {FAR:,} bare tasks at {LATENCY * 1000:.0f} ms", f"{ours:,.0f}/s", f"SDK, 16 threads {sdk:,.0f}/s",
            ours / sdk, 1.5,
        )  # fmt: skip
    with stand_in() as server:
        rate, peak = server.run("ours-whole-0", MANY)
    yield Figure(
        f"memory of {MANY:,} tasks from an iterator", f"peak {peak:.0f} MiB", "bound 120 MiB", peak / 120, 1.0, "<=",
        note=f"{rate:,.0f}/s to a server that only counts",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--way")
    parser.add_argument("--url", default="")
    parser.add_argument("--job", default="")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--delay", type=int)
    given = parser.parse_args()
    if given.stand_in:
        asyncio.run(_serve_stand_in())
    elif given.delay:
        asyncio.run(_serve_delay(given.delay))
    elif given.way:
        measure(given.way, given.url, sys.stdin.read(), given.job, given.count)
    else:
        for figure in figures():
            print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
