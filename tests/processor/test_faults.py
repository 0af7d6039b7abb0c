"""Queues that go away, and workers that die or sleep."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path

import pytest

from azbatchwrap.errors import Throttled
from azbatchwrap.processor.spool import Spool
from azbatchwrap.queues import Claim, Code, Result
from azbatchwrap.queues.redis import RedisQueue
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.fixtures_processor import RedisServer, new_redis
from tests.processor.conftest import Bench, request, results_of, until
from tests.processor.test_commands import command, requests, started


@pytest.fixture
def own_redis(tmp_path: Path) -> RedisServer:
    folder = tmp_path / "redis"
    folder.mkdir()
    # "everysec" may put off a write while the disk is busy: then even a killed server loses what it answered for.
    return new_redis(folder, "--appendfsync", "always")


async def test_redis_killed_twice_loses_nothing(bench: Bench, own_redis: RedisServer) -> None:
    own_redis.start()
    try:
        bench.inference.latency = 0.01
        accepted = 0
        async with RedisQueue(own_redis.url) as queue:
            async with bench.running(RedisQueue(own_redis.url), lease=3.0):
                for _ in range(3):
                    for _ in range(10):
                        await queue.put([request(f"r{accepted + n}") for n in range(50)])
                        accepted += 50
                    before = len(bench.inference.seen)
                    await until(lambda before=before: len(bench.inference.seen) > before + 50)
                    await asyncio.to_thread(own_redis.stop, signal.SIGKILL)
                    await asyncio.to_thread(own_redis.start)

                async def all_there() -> bool:
                    return (await queue.stats()).results == accepted

                await until(all_there, 60)
            results = await results_of(queue)
        assert {result.code for result in results.values()} == {Code.OK}
        assert len(results) == accepted == 1500
    finally:
        own_redis.stop()


async def test_redis_out_of_memory_refuses_new_messages_but_takes_results(bench: Bench, own_redis: RedisServer) -> None:
    own_redis.start()
    try:
        async with RedisQueue(own_redis.url) as queue:
            await queue.put([request(f"r{n}") for n in range(20)])
            own_redis.say(b"CONFIG SET maxmemory 1mb\r\n")
            with pytest.raises(Throttled):
                await queue.put([request("late")])
            own_redis.say(b"CONFIG SET maxmemory-policy noeviction\r\n")
            claims: list[Claim] = []
            own_redis.say(b"CONFIG SET maxmemory 0\r\n")
            claims += await queue.claim(20, 30)
            own_redis.say(b"CONFIG SET maxmemory 1mb\r\n")
            done = [(one, Result(one.id, Code.OK, 200, 1, payload=b"{}", finished=time.time())) for one in claims]
            assert await queue.complete(done) == [True] * 20
    finally:
        own_redis.stop()


async def test_results_wait_on_the_disk_for_their_queue(bench: Bench, own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.start()
    try:
        bench.inference.latency = 0.5
        async with RedisQueue(own_redis.url) as queue:
            await queue.put([request(f"r{n}") for n in range(4)])
            async with bench.running(RedisQueue(own_redis.url), concurrency=4):
                await until(lambda: bench.inference.flying == 4)
                await asyncio.to_thread(own_redis.stop, signal.SIGKILL)
                kept = await until(lambda: list((tmp_path / "spool").glob("*.jsonl")))
                await until(lambda: len(kept[0].read_bytes().splitlines()) == 4)
                await asyncio.to_thread(own_redis.start)
                await until(lambda: not kept[0].exists())
            assert len(await results_of(queue)) == 4
        assert max(bench.inference.seen.values()) == 1
    finally:
        own_redis.stop()


async def test_the_next_worker_stores_what_a_dead_one_kept(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request("r1")])
    [claim] = await queue.claim(1, 60)
    left = Spool(bench.path / "spool", f"sqlite:///{queue.path}")
    left.write([(claim, Result("r1", Code.OK, 200, 1, payload=b'"kept"', finished=time.time()))])
    [file] = (bench.path / "spool").glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"half":')
    left._file.close()  # type: ignore[union-attr]
    await bench.answer_all()
    assert (await results_of(queue))["r1"].payload == b'"kept"'
    assert bench.inference.seen == {}
    assert list((bench.path / "spool").glob("*.jsonl")) == []


async def test_a_worker_that_slept_too_long_stores_nothing(tmp_path: Path, bench: Bench, queue: SqliteQueue) -> None:
    bench.inference.latency = 1.0
    await queue.put([request("r1")])
    words = ["run", "--queue", "sqlite:///queue.sqlite", "--endpoint", bench.inference.url, "--lease", "1"]
    with started(tmp_path, *words) as sleeper:
        await until(lambda: bench.inference.flying == 1)
        os.kill(sleeper.pid, signal.SIGSTOP)
        async with bench.running(lease=30.0):
            await until(lambda: bench.inference.seen["r1"] == 2)
            os.kill(sleeper.pid, signal.SIGCONT)

            async def done() -> bool:
                return (await queue.stats()).results == 1

            await until(done)
        assert len(await results_of(queue)) == 1


async def test_a_message_that_kills_its_worker_is_put_aside(tmp_path: Path, bench: Bench, queue: SqliteQueue) -> None:
    """The endpoint kills the worker that asks with this message; the others get their answers."""
    from aiohttp import web

    pids: list[int] = []

    async def deadly(req: web.Request, body: dict[str, object]) -> web.Response:
        if body.get("deadly"):
            os.kill(pids[-1], signal.SIGKILL)
        return web.json_response({})

    bench.inference.handler = deadly
    await queue.put([request(f"r{n}") for n in range(30)])
    await queue.put([request("deadly", deadly=True)])
    words = [
        "run",
        "--queue",
        "sqlite:///queue.sqlite",
        "--endpoint",
        bench.inference.url,
        "--lease",
        "1",
        "--until-empty",
    ]
    for _ in range(3):
        with started(tmp_path, *words) as process:
            pids.append(process.pid)
            assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL
    with started(tmp_path, *words) as process:
        pids.append(process.pid)
        assert await asyncio.to_thread(process.wait, 30) == 0
    results = await results_of(queue)
    assert results.pop("deadly").code is Code.POISONED
    assert {result.code for result in results.values()} == {Code.OK}
    assert len(results) == 30
    [letter] = await queue.dead_letters()
    assert (letter.id, b"deadly" in letter.body, len(letter.history)) == ("deadly", True, 3)


async def test_four_processes_share_one_file(tmp_path: Path, bench: Bench) -> None:
    await asyncio.to_thread(command, tmp_path, "submit", "--queue", "sqlite:///queue.sqlite", "-", stdin=requests(2000))
    words = [
        "--queue",
        "sqlite:///queue.sqlite",
        "--endpoint",
        bench.inference.url,
        "--until-empty",
        "--concurrency",
        "16",
    ]
    done = await asyncio.gather(*(asyncio.to_thread(command, tmp_path, "run", *words) for _ in range(4)))
    assert [one.returncode for one in done] == [0, 0, 0, 0], done
    async with SqliteQueue(tmp_path / "queue.sqlite") as queue:
        assert len(await results_of(queue)) == 2000
    assert len(bench.inference.seen) == 2000
    assert max(bench.inference.seen.values()) == 1


async def test_a_jump_of_the_clock_does_not_double_results(tmp_path: Path) -> None:
    now = time.time()
    shift = 0.0
    async with SqliteQueue(tmp_path / "q", clock=lambda: now + shift) as queue:
        await queue.put([request("r1", seconds=86_400)])
        [before] = await queue.claim(1, 30)
        shift = 3_600.0
        await queue.reap()
        [after] = await queue.claim(1, 30)
        shift = 0.0
        ok = Result("r1", Code.OK, 200, 1, payload=b"{}", finished=now)
        assert await queue.complete([(before, ok), (after, ok)]) == [False, True]
        assert len(await results_of(queue)) == 1


def test_spools_of_different_queues_do_not_mix(tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    mine = Spool(tmp_path, name)
    mine.write([(Claim("a", b"", b"", 0.0, "t"), Result("a", Code.OK))])
    assert Spool(tmp_path, "other").adopt() == []
    assert Spool(tmp_path, name).adopt() == []  # its writer lives
    mine.clear()
    assert list(tmp_path.iterdir()) == []
