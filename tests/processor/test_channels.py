"""Strangers' producers and consumers on the seed's channels, over servers of every kind."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from azbatchwrap.processor.message import SIZE_LIMIT
from tests.fixtures_processor import RedisServer, free_port, new_redis
from tests.processor.conftest import Inference, until
from tests.processor.test_commands import lines, run, started

PASSWORD = "pass/word @1"


@contextlib.asynccontextmanager
async def results_of(redis: Redis) -> AsyncIterator[Callable[[], Any]]:
    """Gives a function that waits for the next result on the seed's channel."""
    async with redis.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe("batch-queue-result")
        await channel.get_message(timeout=5)

        async def following() -> dict[str, Any]:
            async def heard() -> Any:
                return await channel.get_message(timeout=0.1)

            found: dict[str, Any] = json.loads((await until(heard))["data"])
            return found

        yield following


async def listening(redis: Redis) -> None:
    async def heard() -> bool:
        [(_, count)] = await redis.pubsub_numsub("batch-queue")
        return bool(count)

    await until(heard)


def with_password(server: RedisServer, _certificate: Path) -> str:
    server.start()
    server.say(f'CONFIG SET requirepass "{PASSWORD}"\r\n'.encode())
    return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/3"


def on_a_socket(server: RedisServer, _certificate: Path) -> str:
    server.options += ("--unixsocket", f"{server.folder}/redis.sock")
    server.start()
    return f"unix://{server.folder}/redis.sock?db=2"


def with_tls(server: RedisServer, certificate: Path) -> str:
    port, file = str(free_port()), str(certificate)
    server.options += ("--tls-port", port, "--tls-cert-file", file, "--tls-key-file", file)
    server.options += ("--tls-ca-cert-file", file, "--tls-auth-clients", "no")
    server.start()
    return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={file}"


@pytest.mark.parametrize("kind", [with_password, on_a_socket, with_tls])
async def test_a_producer_and_a_consumer_of_their_own(
    tmp_path: Path, inference: Inference, certificate: Path, kind: Callable[[RedisServer, Path], str]
) -> None:
    server = new_redis(tmp_path)
    try:
        url = kind(server, certificate)
        async with Redis.from_url(url) as redis, results_of(redis) as following:
            words = ["--message-queue-impl", "redis-pubsub", "--redis.url", url, "--endpoint", inference.url]
            with started(tmp_path, "run", *words):
                await listening(redis)
                request = {"id": "a", "created": 1, "deadline": 9_999_999_999, "payload": {"n": 1},
                           "metadata": {"userid": "u"}, "headers": {"x-mine": "m"}, "endpoint": "/v1/chat/completions"}  # fmt: skip
                envelope = {"internal": {"retry_count": 0}, "request_kind": "redis", "data": request}
                await redis.publish("batch-queue", json.dumps(envelope))
                assert await following() == {"id": "a", "payload": {"echo": {"n": 1}}}
        queue = ["--queue", url + ("&" if "?" in url else "?") + "queue=batch-queue&retry=batch-sortedset-retry"]
        collected = await run(tmp_path, "collect", *queue, "out.jsonl")
        assert collected.returncode == 0, collected.stderr
    finally:
        server.stop()
    assert [one["id"] for one in lines(tmp_path / "out.jsonl")] == ["a"]
    assert inference.paths == ["/v1/chat/completions"]
    assert inference.headers["a"][0]["x-mine"] == "m"
    assert PASSWORD not in (tmp_path / "run.log").read_text()


async def test_a_password_from_a_file(tmp_path: Path, inference: Inference, certificate: Path) -> None:
    server = new_redis(tmp_path)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    try:
        with_password(server, certificate)
        words = ["--redis.url", f"redis://127.0.0.1:{server.port}", "--redis.password-file", "password"]
        async with Redis(port=server.port, password=PASSWORD) as redis, results_of(redis) as following:
            with started(tmp_path, "run", "--message-queue-impl", "redis-pubsub", *words, "--endpoint", inference.url):
                await listening(redis)
                await redis.publish("batch-queue", '{"id":"a","deadline":"9999999999","payload":{}}')
                assert (await following())["id"] == "a"
        wrong = ["--queue", f"redis://:wrong@127.0.0.1:{server.port}/0"]
        refused = await run(tmp_path, "stats", *wrong)
        assert (refused.returncode, "refused the password" in refused.stderr) == (3, True)
        assert "wrong@" not in refused.stderr
    finally:
        server.stop()


async def test_whatever_is_published_is_answered_once(
    tmp_path: Path, inference: Inference, redis_server: RedisServer
) -> None:
    now = time.time()
    good = '{"id":"twice","deadline":"9999999999","payload":{"n":1}}'
    messages: dict[str, bytes | str] = {
        "malformed": "{",
        "not UTF-8": b'{"id":"latin","deadline":"9999999999","payload":{"text":"\xfc"}}',
        "oversize": '{"id":"long","deadline":1,"payload":{"text":"' + "x" * SIZE_LIMIT + '"}}',
        "no deadline to speak of": '{"id":"when","deadline":"soon","payload":{}}',
        "expired": json.dumps({"id": "late", "deadline": str(int(now) - 100), "payload": {}}),
        "far future": json.dumps({"id": "far", "deadline": 99_999_999_999_999, "payload": {}}),
        "first": good,
        "duplicate": good,
        "another body under a taken id": good.replace("1}", "2}"),
    }
    async with Redis.from_url(redis_server.url) as redis, results_of(redis) as following:
        words = ["--message-queue-impl", "redis-pubsub", "--redis.url", redis_server.url, "--endpoint", inference.url]
        with started(tmp_path, "run", *words):
            await listening(redis)
            for message in messages.values():
                await redis.publish("batch-queue", message)
            answers = [await following() for _ in range(7)]
            await redis.publish("batch-queue", '{"id":"last","deadline":"9999999999","payload":{}}')
            answers.append(await following())
    found = {one["id"]: one for one in answers}
    assert len(found) == 8
    assert {id_ for id_, one in found.items() if "payload" in one} == {"far", "twice", "last"}
    assert found["twice"]["payload"] == {"echo": {"n": 1}}
    assert found["late"]["error"].startswith("DEADLINE_EXCEEDED")
    refused = [one["error"] for one in found.values() if one.get("error", "").startswith("INVALID_REQUEST")]
    assert len(refused) == 4
    assert set(inference.seen) == {"far", "twice", "last"}
    assert max(inference.seen.values()) == 1
    log = (tmp_path / "run.log").read_text()
    assert "message twice: another body came with an id that is taken" in log
