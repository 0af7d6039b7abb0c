"""The pool: hot-swap, checks and connections of every kind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from azbatchwrap.endpoints import (
    EndpointFile,
    EndpointPool,
    EndpointSpec,
    EndpointStatusChecker,
    HealthPolicy,
    in_process,
)
from azbatchwrap.endpoints.health import State
from azbatchwrap.endpoints.pool import Fate
from azbatchwrap.errors import AttemptTimeout, ConfigurationError, EndpointDown, NotFound, ServiceError, Throttled
from tests.batchkit_servers import PATIENCE, Servers

HASTY = HealthPolicy(interval=0.05, down_interval=0.02, timeout=0.2, cooldown=0.1)


@pytest.fixture
def servers() -> Any:
    made = Servers()
    yield made
    made.close()


async def until(condition: Any) -> None:
    end = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < end, "this never came true"
        await asyncio.sleep(0.01)


def echo(name: str, concurrency: int = 2, **options: Any) -> EndpointSpec:
    return in_process(name, bytes.upper, concurrency, **options)


async def test_equal_endpoints_are_left_alone_and_others_swapped() -> None:
    async with EndpointPool([echo("a"), echo("b"), echo("c")], policy=HASTY) as pool:
        a, b, c = pool.members
        b.in_flight = 1
        pool.apply([echo("a"), echo("b", 5), echo("d")])
        assert pool.members[0] is a
        assert [member.name for member in pool.members] == ["a", "b", "d"]
        assert (b.retired, c.retired) == (True, True)
        assert {facts["state"] for facts in pool.facts()} >= {"retiring"}
        await asyncio.sleep(0.1)
        assert "retiring" in {facts["state"] for facts in pool.facts()}
        b.in_flight = 0
        await until(lambda: "retiring" not in {facts["state"] for facts in pool.facts()})


@pytest.mark.parametrize(
    "specs", [[echo("a"), echo("a")], [EndpointSpec("x", "call:no.such.module:f")], [EndpointSpec("x", "call:os:no")]]
)
async def test_a_configuration_that_cannot_be_used_changes_nothing(specs: list[EndpointSpec]) -> None:
    async with EndpointPool([echo("kept")], policy=HASTY) as pool:
        (kept,) = pool.members
        with pytest.raises(ConfigurationError):
            pool.apply(specs)
        assert pool.members == [kept]


class Moody(EndpointStatusChecker):
    """Says, raises or hangs as it is told."""

    def __init__(self) -> None:
        self.mood: Any = True

    async def check(self, endpoint: Any) -> Any:
        if self.mood == "hang":
            await asyncio.sleep(3600)
        if isinstance(self.mood, Exception):
            raise self.mood
        return self.mood


@pytest.mark.parametrize("mood", [False, None, "yes", ValueError("<html>"), "hang"])
async def test_whatever_a_checker_does_but_true_means_not_ready(mood: Any) -> None:
    checker = Moody()
    async with EndpointPool([echo("a")], checker=checker, policy=HASTY) as pool:
        (member,) = pool.members
        await until(lambda: member.health.state is State.UP)
        checker.mood = mood
        await until(lambda: member.health.state is State.DOWN)
        checker.mood = True
        await until(lambda: member.health.state is State.UP)


async def test_the_last_usable_one_is_not_ejected() -> None:
    async with EndpointPool([echo("a"), echo("b")], policy=HealthPolicy(cooldown=60)) as pool:
        await until(lambda: pool.usable() == 2)
        first, second = pool.members
        for _ in range(5):
            pool.learned(first, Fate.FAILED)
        for _ in range(5):
            pool.learned(second, Fate.FAILED)
        assert (first.health.state, second.health.state) == (State.EJECTED, State.UP)


async def test_a_poisoned_item_spoils_one_endpoint_at_most() -> None:
    async with EndpointPool([echo("a"), echo("b"), echo("c")], policy=HealthPolicy(cooldown=60)) as pool:
        await until(lambda: pool.usable() == 3)
        for member in pool.members[1:]:
            for _ in range(5):
                pool.learned(member, Fate.FAILED, fresh=False)
        assert pool.usable() == 3


async def ask(spec: EndpointSpec, body: bytes = b"hello", **options: Any) -> Any:
    async with EndpointPool([spec], policy=HASTY) as pool:
        return await pool.members[0].endpoint.request(body, **options)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "retry_after"),
    [
        (404, {}, NotFound, None),
        (500, {}, ServiceError, None),
        (429, {"Retry-After": "7"}, Throttled, 7.0),
        (503, {}, Throttled, None),
    ],
)
async def test_http_answers_are_errors_by_their_status(
    servers: Servers, status: int, headers: dict[str, str], kind: type[Exception], retry_after: float | None
) -> None:
    server = servers.new(answer=lambda body, _: web.Response(status=status, headers=headers, text="the reason"))
    with pytest.raises(kind, match="the reason") as raised:
        await ask(EndpointSpec("e", server.url))
    assert type(raised.value) is kind
    assert getattr(raised.value, "retry_after", None) == retry_after


async def test_http_failures_of_the_line(servers: Servers) -> None:
    server = servers.new(answer=lambda body, _: asyncio.sleep(60))
    with pytest.raises(AttemptTimeout):
        await ask(EndpointSpec("e", server.url), timeout=0.1)
    server.stop()
    with pytest.raises(EndpointDown) as raised:
        await ask(EndpointSpec("e", server.url))
    assert not raised.value.sent
    with pytest.raises(EndpointDown):
        await ask(EndpointSpec("e", "http://no-such-host.invalid"))
    dropping = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with dropping:
        with pytest.raises(EndpointDown) as raised:
            await ask(EndpointSpec("e", f"http://127.0.0.1:{dropping.sockets[0].getsockname()[1]}"))
    assert raised.value.sent


async def test_websockets_answer_a_message_with_a_message() -> None:
    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close()
            else:
                kind = "text" if message.type is aiohttp.WSMsgType.TEXT else "bytes"
                await socket.send_str(f"{kind} {len(message.data)}")
        return socket

    application = web.Application()
    application.router.add_get("/talk", talk)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with EndpointPool(
            [EndpointSpec("e", url), EndpointSpec("t", url, 2, {"text": True})], policy=HASTY
        ) as pool:
            await until(lambda: pool.usable() == 2)
            plain, text = (member.endpoint for member in pool.members)
            answers = [(await plain.request(b"abc", path="/talk")).body for _ in range(3)]
            assert answers == [b"bytes 3"] * 3
            assert (await text.request(b"abcd", path="/talk")).body == b"text 4"
            with pytest.raises(EndpointDown):
                await text.request(b"bye", path="/talk")
            assert (await text.request(b"again", path="/talk")).body == b"text 5"
            with pytest.raises(EndpointDown):
                await plain.request(b"abc", path="/elsewhere")
    finally:
        await runner.cleanup()


PROGRAM = """
import sys, time
for line in sys.stdin:
    if line == "die\\n": sys.exit(7)
    if line == "hang\\n": time.sleep(3600)
    print(line.strip().upper(), flush=True)
"""


async def test_a_program_answers_lines_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(PROGRAM)
    spec = EndpointSpec("p", f"exec:{sys.executable} {tmp_path / 'worker.py'}", 2)
    async with EndpointPool([spec], policy=HASTY) as pool:
        endpoint = pool.members[0].endpoint
        assert (await endpoint.request(b"abc")).body == b"ABC"
        with pytest.raises(EndpointDown, match="code 7"):
            await endpoint.request(b"die")
        with pytest.raises(AttemptTimeout):
            await endpoint.request(b"hang", timeout=0.1)
        assert (await endpoint.request(b"def")).body == b"DEF"
    with pytest.raises(EndpointDown, match="cannot be started"):
        await ask(EndpointSpec("p", "exec:/no/such/program"))


async def test_functions_are_endpoints_too() -> None:
    async def reverse(body: bytes) -> bytes:
        return body[::-1]

    assert (await ask(in_process("f", reverse))).body == b"olleh"
    assert (await ask(in_process("f", bytes.upper))).body == b"HELLO"
    assert (await ask(EndpointSpec("f", "call:base64:b64encode"))).body == b"aGVsbG8="


# --- hot-swap by file -------------------------------------------------------------------------------------------------


async def test_every_way_of_replacing_the_file_is_seen_and_faults_keep_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("one: call:base64:b64encode")
    source = EndpointFile(path)

    def names() -> list[str]:
        return [member.name for member in pool.members]

    async with EndpointPool(source.load(), policy=HASTY) as pool:
        following = asyncio.create_task(source.follow(pool))
        path.write_text("two: call:base64:b64encode")
        await until(lambda: names() == ["two"])

        beside = tmp_path / "beside"
        beside.write_text("three: call:base64:b64encode")
        beside.replace(path)
        await until(lambda: names() == ["three"])

        for broken in ("", "{", "three: 7", "other: call:no.such:thing"):
            before = source.fault
            path.write_text(broken)
            await until(lambda: source.fault and source.fault != before)  # noqa: B023 - called before it changes
            assert names() == ["three"]
        path.unlink()
        path.mkdir()
        path.rmdir()

        for version in ("four", "five"):
            (tmp_path / version).mkdir()
            (tmp_path / version / "endpoints.yaml").write_text(f"{version}: call:base64:b64encode")
        data = tmp_path / "..data"
        data.symlink_to("four")
        path.symlink_to("..data/endpoints.yaml")
        await until(lambda: names() == ["four"])
        swap = tmp_path / "..swap"
        swap.symlink_to("five")
        os.replace(swap, data)  # noqa: PTH105 - as the kubelet does
        await until(lambda: names() == ["five"])
        assert source.fault is None
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
