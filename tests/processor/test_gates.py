"""Gates and merge policies."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import pytest
from aiohttp import web
from redis.asyncio import Redis

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.processor import merge
from azbatchwrap.processor.backlog import Flight
from azbatchwrap.processor.gates import GO, TokenBucket, Watched, gate_from_text, metric_sum
from azbatchwrap.processor.merge import Lane
from azbatchwrap.queues import Claim
from tests.fixtures_processor import RedisServer
from tests.processor.conftest import until

PAGE = """# HELP vllm:num_requests_waiting Waiting
vllm:num_requests_waiting{model="a"} 3.0
vllm:num_requests_waiting{model="b",} 4 1700000000000
vllm:num_requests_waiting_total 99
other 1
"""


def lane(name: str, deadline: float = 0.0, **given: float) -> Lane:
    one = Lane(name, **given)  # type: ignore[arg-type]
    one.flights.append(Flight(Claim(name, b"", b"", deadline, "token"), None))  # type: ignore[arg-type]
    return one


def test_weights_are_shares() -> None:
    lanes = [lane("a", weight=5), lane("b", weight=1), lane("c", weight=2)]
    assert Counter(merge.weighted(lanes).name for _ in range(800)) == {"a": 500, "b": 100, "c": 200}


def test_fairness_is_the_same_for_all() -> None:
    lanes = [lane("a", weight=9), lane("b"), lane("c")]
    assert Counter(merge.fair(lanes).name for _ in range(300)) == {"a": 100, "b": 100, "c": 100}


def test_tiers_are_strict_and_even_within() -> None:
    lanes = [lane("low", tier=2), lane("a", tier=1), lane("b", tier=1)]
    assert Counter(merge.tier_priority(lanes).name for _ in range(100)) == {"a": 50, "b": 50}


def test_the_earliest_deadline_goes_first() -> None:
    assert merge.earliest_deadline([lane("late", 9.0), lane("early", 5.0)]).name == "early"


def test_random_robin_takes_from_all() -> None:
    lanes = [lane("a"), lane("b")]
    assert {merge.random_robin(lanes).name for _ in range(200)} == {"a", "b"}


def test_an_unknown_policy_is_told() -> None:
    with pytest.raises(ConfigurationError, match="random-robin"):
        merge.policy("best")


def test_a_bucket_fills_with_time() -> None:
    now = 100.0
    gate = TokenBucket(rate=2.0, burst=3.0, per="tenant", clock=lambda: now)
    assert [gate.admit("a") is GO for _ in range(4)] == [True, True, True, False]
    assert gate.admit("b") is GO
    assert gate.admit("a").defer == pytest.approx(0.5)
    now += 0.5
    assert gate.admit("a") is GO


def test_a_metric_is_summed_over_its_labels() -> None:
    assert metric_sum(PAGE, "vllm:num_requests_waiting") == 7.0
    with pytest.raises(LookupError):
        metric_sum(PAGE, "vllm:num")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("constant:share=x", "share cannot be 'x'"),
        ("constant:share=2", "share cannot be '2'"),
        ("nothing", "there are constant, concurrency"),
        ("concurrency:limit=0", "limit cannot be '0'"),
        ("token-bucket:speed=1", "it has rate, burst, per, drop"),
        ("token-bucket:rate=0", "rate cannot be '0'"),
        ("token-bucket:per=planet", "per cannot be 'planet'"),
        ("prometheus:url=http://h", "also needs query=…"),
        ("redis-key", "also needs url=… and key=…"),
    ],
)
def test_wrong_gates_are_told(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        gate_from_text(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis-key:url=redis://127.0.0.1:1;key=a", "redis-key a has no value, 0.0 is taken"),
        ("scrape:url=http://127.0.0.1:1;metric=m;fallback=0.5", "scrape m has no value, 0.5 is taken"),
    ],
)
async def test_a_source_that_cannot_be_reached_is_told(text: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    gate = gate_from_text(text)
    await gate.start()
    await gate.stop()
    assert said in caplog.text


async def test_a_missing_value_is_told_once(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    gate = gate_from_text(f"redis-key:url={redis_server.url};key=gate-late;interval=0.01")
    async with Redis.from_url(redis_server.url) as redis:
        await gate.start()

        async def has_been_asked_again() -> bool:
            return (await redis.info("commandstats"))["cmdstat_get"]["calls"] >= asked + 3

        asked = (await redis.info("commandstats"))["cmdstat_get"]["calls"]
        await until(has_been_asked_again)
        await redis.set("gate-late", "0.5")
    await until(lambda: gate.budget() == 0.5)
    await gate.stop()
    assert caplog.text.count("there is no key 'gate-late'") == 1


async def serve(pages: dict[str, web.Response]) -> tuple[web.AppRunner, str]:
    application = web.Application()
    for path, response in pages.items():

        async def answer(_request: web.Request, response: web.Response = response) -> web.Response:
            return web.Response(body=response.body, content_type=response.content_type)

        application.router.add_get(path, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_sources_outside_open_and_close_the_gate(redis_server: RedisServer) -> None:
    answer = {"data": {"resultType": "vector", "result": [{"value": [0, "0.7"]}]}}
    runner, url = await serve({"/metrics": web.Response(text=PAGE), "/api/v1/query": web.json_response(answer)})
    async with Redis.from_url(redis_server.url) as redis:
        await redis.set("gate-budget", "0.25")
    gates = {
        f"scrape:url={url}/metrics;metric=vllm:num_requests_waiting;below=10": 1.0,
        f"scrape:url={url}/metrics;metric=vllm:num_requests_waiting;below=7": 0.0,
        f"scrape:url={url}/metrics;metric=missing;below=7": 0.0,
        f"scrape:url={url}/metrics;metric=missing;below=7;fallback=0.5": 0.5,
        f"prometheus:url={url};query=saturation;below=0.8": 1.0,
        f"prometheus:url={url};query=saturation": 0.7,
        f"redis-key:url={redis_server.url};key=gate-budget": 0.25,
        f"redis-key:url={redis_server.url};key=gate-missing": 0.0,
    }
    try:
        for text, budget in gates.items():
            gate = gate_from_text(text)
            await gate.start()
            assert gate.budget() == budget, text
            await gate.stop()
    finally:
        await runner.cleanup()


async def test_a_gate_follows_its_source() -> None:
    class Followed(Watched):
        number = 1.0

        async def read(self) -> float:
            if self.number < 0:
                raise OSError("gone")
            return self.number

    gate = Followed(interval=0.01)
    await gate.start()
    assert gate.budget() == 1.0
    gate.number = 0.5
    await until(lambda: gate.budget() == 0.5)
    gate.number = -1.0
    await until(lambda: gate.budget() == 0.0)
    gate.number = 1.0
    await until(lambda: gate.budget() == 1.0)
    await gate.stop()
    await asyncio.sleep(0)
