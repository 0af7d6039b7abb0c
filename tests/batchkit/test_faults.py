"""What goes wrong around a batch: endpoints that half work, folders that cannot be written, disks that are full."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from azbatchwrap.backoff import Backoff
from azbatchwrap.batchkit import EndpointSpec
from azbatchwrap.endpoints.ending import end_tasks
from tests.batchkit.conftest import Run, spec_of
from tests.batchkit.consumer import Send, batch_of
from tests.batchkit.test_runs import Client, lines
from tests.batchkit_servers import Servers
from tests.real_parts import small_disk
from tests.waiting import wait_until

WORDS = [f"word {number}" for number in range(60)]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A half-open socket: it takes what is sent, for ever."""
    while await reader.read(1000):
        pass


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that is promised, and comes byte by byte, each just in time for a time-out between two of them."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)


async def end_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"half": ')
    await writer.drain()
    writer.close()


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def endpoint(talk: Talk) -> AsyncIterator[EndpointSpec]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the test is over, or this was the pool's look whether the port answers
        finally:
            writer.transport.abort()

    talks: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield EndpointSpec("bad", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 2)
    finally:
        server.close()
        await end_tasks(task for task in talks if task is not None)


def hasty() -> Send:
    send = Send(limit=0.3)
    send.backoff = Backoff(attempts=10, base=0.01, cap=0.05)
    return send


@pytest.mark.parametrize("talk", [say_nothing, drip, end_early, talk_nonsense], ids=lambda talk: talk.__name__)
async def test_an_endpoint_that_half_works_costs_no_item(servers: Servers, run_batch: Run, talk: Talk) -> None:
    async with endpoint(talk) as bad:
        outcome = await run_batch([bad, spec_of(servers.new(delay=0.01), 2)], batch_of(WORDS, hasty()))
    assert outcome.counts.passed == len(WORDS)
    assert outcome.ids == sorted(WORDS)
    assert any(record.attempts > 1 for record in outcome.records), "the bad one was asked, too"


@pytest.mark.parametrize("talk", [say_nothing, drip, end_early, talk_nonsense], ids=lambda talk: talk.__name__)
async def test_with_no_other_endpoint_items_fail_with_the_reason(run_batch: Run, talk: Talk) -> None:
    send = Send(limit=0.3)
    send.backoff = Backoff(attempts=2, base=0.01)
    async with endpoint(talk) as bad:
        outcome = await run_batch([bad], batch_of(["a"], send))
    (record,) = outcome.records
    assert record.result.error_type in {"AttemptTimeout", "EndpointDown"}
    assert (record.result.can_retry, record.attempts) == (True, 2)


async def test_a_name_that_nobody_knows_gets_nothing(servers: Servers, run_batch: Run) -> None:
    specs = [EndpointSpec("unknown", "http://no-such-host.invalid:5000"), spec_of(servers.new())]
    outcome = await run_batch(specs, batch_of(WORDS))
    assert outcome.counts.passed == len(WORDS)
    assert {record.endpoint for record in outcome.records} == {specs[1].name}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    made.stop()


def test_nothing_to_do_is_done(client: Client, servers: Servers) -> None:
    client.use(servers.new())
    code, facts, _ = client.run()
    assert (code, facts["passed"], client.summary()["overall_summary"]["file_stats"]["total"]) == (0, 0, 0)


def test_a_folder_that_nobody_may_write_is_exit_2(client: Client, servers: Servers) -> None:
    client.use(servers.new())
    client.output = Path("/proc/azbatchwrap")
    code, _, err = client.run()
    assert (code, "output folder /proc/azbatchwrap: cannot be written" in err) == (2, True), err


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=256k") as place:
        yield place


def test_a_full_disk_is_waited_for(client: Client, servers: Servers, disk: Path, tmp_path: Path) -> None:
    """Also: an output folder on another file system than everything else."""
    server = servers.new(delay=0.01)
    client.use(server)
    client.output = disk / "output"
    (client.input / "a.txt").write_text(lines(200))
    running = client.start("--log-folder", str(tmp_path / "logs"))
    wait_until(lambda: server.asked > 20)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
    wait_until(lambda: "results.jsonl: cannot be written: No space left" in (tmp_path / "logs" / "run.log").read_text())
    filler.unlink()
    code, facts, err = client.end(running)
    assert (code, facts["passed"]) == (0, 200), err
    assert sorted(client.ids()) == sorted(f"a.txt:line {number}" for number in range(200))
    assert len(client.summary()["processed_files"]) == 200
