"""Queues that go away, and workers that die or sleep."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.errors import Throttled
from azbatchwrap.processor.answers import RETRIED_STATUSES
from azbatchwrap.processor.message import Reader
from azbatchwrap.processor.spool import Spool
from azbatchwrap.queues import Claim, Code, Put, Result, queue_from_url
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


async def test_redis_out_of_memory_refuses_new_messages_and_works_off_the_others(
    bench: Bench, own_redis: RedisServer
) -> None:
    own_redis.start()
    try:
        async with RedisQueue(own_redis.url) as queue:
            await queue.put([request(f"r{n}") for n in range(200)])
            own_redis.say(b"CONFIG SET maxmemory-policy noeviction\r\nCONFIG SET maxmemory 1mb\r\n")
            with pytest.raises(Throttled):
                await queue.put([request("late")])
            await bench.answer_all(RedisQueue(own_redis.url))
            assert {result.code for result in (await results_of(queue)).values()} == {Code.OK}
            own_redis.say(b"CONFIG SET maxmemory 0\r\n")
            assert await queue.put([request("late")]) == [Put.STORED]
            assert (await queue.stats()).results == 200
    finally:
        own_redis.stop()


async def test_a_redis_that_takes_its_time(
    bench: Bench, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs for longer than anybody waits; what it did meanwhile without anybody hearing of it comes to light."""
    monkeypatch.setattr("azbatchwrap.queues.redis.TIMEOUT", 0.2)
    own_redis.start()
    try:
        bench.inference.latency = 0.01
        async with RedisQueue(own_redis.url) as queue:
            await queue.put([request(f"r{n}") for n in range(400)])
            async with bench.running(RedisQueue(own_redis.url), lease=2.0) as worker:
                await until(lambda: len(bench.inference.seen) > 50)
                assert own_redis.process is not None
                own_redis.process.send_signal(signal.SIGSTOP)
                await until(lambda: worker.metrics.queue_errors.total)
                assert not worker.ready
                own_redis.process.send_signal(signal.SIGCONT)

                async def all_there() -> bool:
                    return (await queue.stats()).results == 400

                await until(all_there)
            results = await results_of(queue)
        assert len(results) == 400
        assert {result.code for result in results.values()} == {Code.OK}
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


async def test_a_full_disk_holds_up_and_loses_nothing(tmp_path: Path, bench: Bench, queue: SqliteQueue) -> None:
    async def long(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({"text": "x" * 20_000})

    bench.inference.handler = long
    await queue.put([request(f"r{n}") for n in range(200)])
    words = ["run", "--queue", "sqlite:///queue.sqlite", "--endpoint", bench.inference.url]
    # The queue's log is full at half of all results; the others fit into a spool.
    with started(tmp_path, *words, largest_file=4_000_000) as process:
        [kept] = await until(lambda: list((tmp_path / "home").glob("**/*.jsonl")))

        async def all_safe() -> bool:
            """Whether the worker, held still, has the result of each message in its hands in the spool."""
            process.send_signal(signal.SIGSTOP)
            if (await queue.stats()).leased == len(kept.read_bytes().splitlines()):
                return True
            process.send_signal(signal.SIGCONT)
            return False

        await until(all_safe, 60)
        assert b"disk" in (tmp_path / "run.log").read_bytes()
    assert (await asyncio.to_thread(command, tmp_path, *words, "--until-empty")).returncode == 0
    assert {len(result.payload) for result in (await results_of(queue)).values()} == {20_012}
    assert (len(bench.inference.seen), max(bench.inference.seen.values())) == (200, 1)


def test_a_spool_keeps_what_there_is_room_for_and_goes_on_when_there_is_more(tmp_path: Path) -> None:
    endings = [
        (Claim(f"r{n}", b"", b"", 0.0, f"t{n}"), Result(f"r{n}", Code.OK, 200, 1, payload=b"x" * 9_000))
        for n in range(4)
    ]
    spool = Spool(tmp_path, "queue")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # two lines and a half
    try:
        assert spool.write(endings) == 2
        assert spool.write(endings[2:]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert spool.write(endings[2:]) == 2
    [file] = tmp_path.glob("*.jsonl")
    assert [json.loads(line)["id"] for line in file.read_bytes().splitlines()] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("ago", [0.0, 3_600.0], ids=["claim-holds", "claim-has-lapsed"])
async def test_the_next_worker_stores_what_a_dead_one_kept(queue: SqliteQueue, bench: Bench, ago: float) -> None:
    await queue.put([request("r1")])
    async with SqliteQueue(queue.path, clock=lambda: time.time() - ago) as dead:
        [claim] = await dead.claim(1, 60)
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


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_worker_that_slept_too_long_stores_nothing(
    tmp_path: Path, bench: Bench, redis_server: RedisServer, kind: str
) -> None:
    bench.inference.latency = 1.0
    own = f"{redis_server.url}?queue=sleeper-{uuid.uuid4().hex}"
    url = own if kind == "redis" else f"sqlite:///{tmp_path}/queue.sqlite"
    async with queue_from_url(url, Reader()) as queue:
        await queue.put([request("r1")])
        words = ["run", "--queue", url, "--endpoint", bench.inference.url, "--lease", "1"]
        with started(tmp_path, *words) as sleeper:
            await until(lambda: bench.inference.flying == 1)
            os.kill(sleeper.pid, signal.SIGSTOP)
            async with bench.running(queue_from_url(url, Reader()), lease=30.0):
                await until(lambda: bench.inference.seen["r1"] == 2)
                os.kill(sleeper.pid, signal.SIGCONT)

                async def done() -> bool:
                    return (await queue.stats()).results == 1

                await until(done)
            await until(lambda: b"the claim" in (tmp_path / "run.log").read_bytes())
        assert len(await results_of(queue)) == 1


async def test_a_message_that_kills_its_worker_is_put_aside(tmp_path: Path, bench: Bench, queue: SqliteQueue) -> None:
    """The endpoint kills the worker that asks with this message; the others get their answers."""
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


@pytest.mark.parametrize("jump", [3_600.0, -3_600.0])
async def test_a_worker_whose_clock_jumps_answers_everything_once(
    queue: SqliteQueue, bench: Bench, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    bench.inference.latency = 0.01
    await queue.put([request(f"day{n}", seconds=86_400) for n in range(100)])
    await queue.put([request(f"soon{n}", seconds=86_500 if n < 50 else 1_800) for n in range(100)])
    async with bench.running() as worker:
        await until(lambda: len(bench.inference.seen) > 20)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        await until(lambda: worker.metrics.results.total == 200)
    results = await results_of(queue)
    late = {id_ for id_, result in results.items() if result.code is not Code.OK}
    assert {results[id_].code for id_ in late} <= {Code.DEADLINE_EXCEEDED}
    assert all(id_.startswith("soon") for id_ in late)
    assert max(bench.inference.seen.values()) == 1


async def test_a_thousand_different_errors(queue: SqliteQueue, bench: Bench) -> None:
    """Every status from 300 on, each time with another body: each request ends as its own first answer says."""
    bodies = [b"", b"{}", b'{"error":', b"\xff\xfe", b"<html>", b"x" * 100_000, "ümlaut".encode(), b"\0"]

    async def wrong(req: web.Request, body: dict[str, Any]) -> web.Response:
        if req.headers["x-attempt-number"] != "1":
            return web.json_response({})
        number = body["n"]
        headers = {"Retry-After": ["0", "-5", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"][number % 4]}
        return web.Response(status=300 + number % 300, body=bodies[number % len(bodies)], headers=headers)

    bench.inference.handler = wrong
    await queue.put([request(f"r{n}", n=n) for n in range(1_000)])
    worker = await bench.answer_all(concurrency=32)
    results = await results_of(queue)
    assert len(results) == 1_000
    for number in range(1_000):
        status, result = 300 + number % 300, results[f"r{number}"]
        again = status in RETRIED_STATUSES
        assert (result.code, result.status) == ((Code.OK, 200) if again else (Code.INFERENCE_ERROR, status))
    assert worker.metrics.retries.values["defect"] == 0


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
