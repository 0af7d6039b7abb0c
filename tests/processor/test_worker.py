"""Requests from a real queue to a real endpoint that misbehaves: every one gets exactly one answer."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.processor.gates import Concurrency, Constant, TokenBucket
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.sending import SendOptions
from azbatchwrap.queues import Cancelled, Code, Item
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.processor.conftest import Bench, Inference, request, result_of, results_of, until


async def test_every_request_is_answered_once(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request(f"r{n}", n=n) for n in range(300)])
    await bench.answer_all()
    results = await results_of(queue)
    assert len(results) == 300
    assert all(result.code is Code.OK and result.attempts == 1 for result in results.values())
    assert json.loads(results["r7"].payload) == {"echo": {"n": 7}}
    assert bench.inference.peak <= 8


async def test_headers_tell_the_endpoint_which_request_it_is(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request("plain"), Item("näme\n1", b"{}", time.time() + 60)])
    await bench.answer_all(send=SendOptions(objective="batch"))
    [headers] = bench.inference.headers["plain"]
    assert headers["x-gateway-inference-objective"] == "batch"
    assert headers["idempotency-key"] == "plain"
    assert headers["x-attempt-number"] == "1"
    assert len(headers["traceparent"].split("-")[1]) == 32
    assert "n%C3%A4me%0A1" in bench.inference.headers


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
async def test_these_statuses_are_tried_again(queue: SqliteQueue, bench: Bench, status: int) -> None:
    async def once(req: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=status if req.headers["x-attempt-number"] == "1" else 200)

    bench.inference.handler = once
    await queue.put([request("r1")])
    await bench.answer_all()
    result = await result_of(queue, "r1")
    assert (result.code, result.attempts, result.status) == (Code.OK, 2, 200)


@pytest.mark.parametrize("status", [301, 400, 404, 413, 422, 501])
async def test_these_statuses_are_final(queue: SqliteQueue, bench: Bench, status: int) -> None:
    async def refuse(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(text="no such model", status=status)

    bench.inference.handler = refuse
    await queue.put([request("r1")])
    await bench.answer_all()
    result = await result_of(queue, "r1")
    assert (result.code, result.status, result.attempts) == (Code.INFERENCE_ERROR, status, 1)
    assert "no such model" in result.error


async def test_an_endpoint_that_is_down_is_waited_for(queue: SqliteQueue, bench: Bench) -> None:
    await bench.inference.stop()
    await queue.put([request(f"r{n}") for n in range(20)])
    async with bench.running() as worker:
        await until(lambda: worker.metrics.retries.values["refused"] >= 5)
        await bench.inference.start()
        await until(lambda: _count(queue, 20))
    results = await results_of(queue)
    assert {result.code for result in results.values()} == {Code.OK}


async def _count(queue: SqliteQueue, number: int) -> bool:
    return (await queue.stats()).results == number


async def test_the_breaker_spares_a_broken_endpoint(queue: SqliteQueue, bench: Bench) -> None:
    await bench.inference.stop()
    await queue.put([request(f"r{n}") for n in range(50)])
    async with bench.running() as worker:
        breaker = worker.endpoints.endpoints[0].limit.breaker
        await until(lambda: breaker.waits == 2)
        attempts = worker.metrics.attempts.total
    # Eight at once, four more in the place of the first to fail, and with the fifth the breaker opens; one probe.
    assert attempts <= 8 + 4 + 1


async def test_half_an_answer_is_no_answer(queue: SqliteQueue, bench: Bench) -> None:
    async def break_off(req: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if req.headers["x-attempt-number"] != "1":
            return web.json_response({"whole": True})
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(req)
        await response.write(b'{"half": ')
        assert req.transport is not None
        req.transport.abort()
        return response

    bench.inference.handler = break_off
    await queue.put([request("r1")])
    worker = await bench.answer_all()
    assert (await result_of(queue, "r1")).payload == b'{"whole": true}'
    assert worker.metrics.retries.values["broken-off"] == 1


async def test_a_page_of_html_is_not_an_answer(queue: SqliteQueue, bench: Bench) -> None:
    async def page(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(text="<html>Welcome to our proxy", content_type="text/html")

    bench.inference.handler = page
    await queue.put([request("r1")])
    await bench.answer_all(max_failures=3)
    result = await result_of(queue, "r1")
    assert (result.code, result.attempts) == (Code.INFERENCE_ERROR, 3)
    assert "text/html" in result.error
    [letter] = await queue.dead_letters()
    assert letter.id == "r1"
    assert len(letter.history) == 2


async def test_an_attempt_never_lasts_beyond_the_deadline(queue: SqliteQueue, bench: Bench) -> None:
    async def hang(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(60)
        return web.json_response({})

    bench.inference.handler = hang
    began = time.monotonic()
    await queue.put([request("r1", seconds=1.0)])
    await bench.answer_all()
    result = await result_of(queue, "r1")
    assert (result.code, result.attempts) == (Code.DEADLINE_EXCEEDED, 1)
    assert time.monotonic() - began < 10


async def test_a_hanging_attempt_is_cut_and_repeated(queue: SqliteQueue, bench: Bench) -> None:
    async def hang_once(req: web.Request, _body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(60 if req.headers["x-attempt-number"] == "1" else 0)
        return web.json_response({})

    bench.inference.handler = hang_once
    await queue.put([request("r1")])
    worker = await bench.answer_all(send=SendOptions(timeout=0.3))
    assert (await result_of(queue, "r1")).attempts == 2
    assert worker.metrics.retries.values["timeout"] == 1


async def test_the_last_status_is_told_when_the_deadline_passes(queue: SqliteQueue, bench: Bench) -> None:
    async def busy(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=503, headers={"Retry-After": "100"})

    bench.inference.handler = busy
    await queue.put([request("r1", seconds=1.5)])
    await bench.answer_all()
    result = await result_of(queue, "r1")
    assert result.code is Code.DEADLINE_EXCEEDED
    assert result.attempts >= 1
    assert "503" in result.error


async def test_a_server_with_few_slots_is_not_overrun(queue: SqliteQueue, bench: Bench) -> None:
    bench.inference.capacity, bench.inference.latency = 4, 0.01
    await queue.put([request(f"r{n}") for n in range(400)])
    worker = await bench.answer_all(concurrency=32)
    assert all(result.code is Code.OK for result in (await results_of(queue)).values())
    assert worker.metrics.attempts.total / 400 <= 1.2


class Rotating:
    """The token that the endpoint wants changes once."""

    def __init__(self) -> None:
        self.asked = 0

    async def header(self, *, fresh: bool) -> Any:
        from azbatchwrap.config import Secret

        self.asked += fresh
        return Secret("Bearer new" if self.asked else "Bearer old")


async def test_a_refused_token_is_refreshed_once(queue: SqliteQueue, bench: Bench) -> None:
    async def guarded(req: web.Request, _body: dict[str, Any]) -> web.Response:
        good = req.headers.get("Authorization") == "Bearer new"
        return web.json_response({}, status=200 if good else 401)

    bench.inference.handler = guarded
    await queue.put([request("r1")])
    await bench.answer_all(credentials=Rotating())
    assert (await result_of(queue, "r1")).code is Code.OK
    assert b"Bearer" not in (bench.path / "queue.sqlite").read_bytes()


async def test_a_token_that_stays_refused_is_final(queue: SqliteQueue, bench: Bench) -> None:
    async def guarded(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=403)

    bench.inference.handler = guarded
    await queue.put([request("r1")])
    await bench.answer_all(credentials=Rotating())
    result = await result_of(queue, "r1")
    assert (result.code, result.status) == (Code.INFERENCE_ERROR, 403)
    assert bench.inference.seen["r1"] == 2


async def test_cancelling_reaches_a_request_in_flight(queue: SqliteQueue, bench: Bench) -> None:
    async def hang(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(60)
        return web.json_response({})

    bench.inference.handler = hang
    await queue.put([request("r1"), request("r2")])
    async with bench.running(concurrency=1, lease=1.0) as worker:
        await until(lambda: bench.inference.flying)
        assert await queue.cancel(["r1"]) == [Cancelled.REQUESTED]
        await until(lambda: _count(queue, 1))
        await until(lambda: bench.inference.seen["r2"])
        worker.stop()
        worker.stop()
    result = await result_of(queue, "r1")
    assert (result.code, result.attempts) == (Code.CANCELLED, 1)


async def test_the_end_hands_back_what_was_not_sent_and_finishes_the_rest(queue: SqliteQueue, bench: Bench) -> None:
    bench.inference.latency = 0.5
    await queue.put([request(f"r{n}") for n in range(30)])
    async with bench.running(concurrency=4):
        await until(lambda: bench.inference.flying == 4)
    stats = await queue.stats()
    assert (stats.results, stats.leased) == (4, 0)
    claims = await queue.claim(100, 30)
    assert len(claims) == 26
    assert {(claim.attempts, claim.failures, claim.crashes) for claim in claims} == {(0, 0, 0)}


async def test_a_slow_worker_leaves_messages_to_others(queue: SqliteQueue, bench: Bench) -> None:
    release = asyncio.Event()

    async def hang(_req: web.Request, _body: dict[str, Any]) -> web.Response:
        await release.wait()
        return web.json_response({})

    bench.inference.handler = hang
    await queue.put([request(f"r{n}") for n in range(500)])
    async with bench.running(concurrency=32):

        async def full() -> bool:
            return (await queue.stats()).leased >= 32 + 32

        await until(full)
        assert len(await queue.claim(500, 30.0)) == 500 - 64
        release.set()


async def test_two_workers_share_a_queue(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request(f"r{n}") for n in range(200)])
    await asyncio.gather(bench.answer_all(), bench.answer_all())
    assert len(await results_of(queue)) == 200
    assert max(bench.inference.seen.values()) == 1


async def test_a_closed_gate_lets_nothing_through(queue: SqliteQueue, bench: Bench) -> None:
    gate = Constant(0.0)
    await queue.put([request("r1")])
    async with bench.running(gates=[gate]):
        await asyncio.sleep(0.3)
        assert bench.inference.seen == {}
        gate.share = 1.0
        await until(lambda: _count(queue, 1))


async def test_a_gates_share_bounds_what_is_in_flight(queue: SqliteQueue, bench: Bench) -> None:
    bench.inference.latency = 0.02
    await queue.put([request(f"r{n}") for n in range(30)])
    await bench.answer_all(gates=[Constant(0.25)], concurrency=8)
    assert bench.inference.peak == 2


async def test_a_tenant_at_its_limit_does_not_hold_up_others(queue: SqliteQueue, bench: Bench) -> None:
    release = asyncio.Event()

    async def slow_for_one(req: web.Request, body: dict[str, Any]) -> web.Response:
        if req.headers["x-request-id"].startswith("busy"):
            await release.wait()
        return web.json_response({})

    bench.inference.handler = slow_for_one
    busy, calm = Meta(tenant="busy").encoded(), Meta(tenant="calm").encoded()
    soon, later = time.time() + 60, time.time() + 600
    await queue.put([Item(f"busy{n}", b"{}", soon, 0, busy) for n in range(6)])
    await queue.put([Item(f"calm{n}", b"{}", later, 0, calm) for n in range(20)])
    async with bench.running(gates=[Concurrency(limit=1)], concurrency=4):
        await until(lambda: _count(queue, 20))
        assert [id_ for id_ in bench.inference.seen if id_.startswith("busy")] == ["busy0"]
        release.set()


async def test_a_gate_may_drop(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request(f"r{n}") for n in range(5)])
    await bench.answer_all(gates=[TokenBucket(rate=0.001, burst=2, per="tenant", drop=True)])
    codes = [result.code for result in (await results_of(queue)).values()]
    assert (codes.count(Code.OK), codes.count(Code.GATE_DROPPED)) == (2, 3)


async def test_a_rate_holds(queue: SqliteQueue, bench: Bench) -> None:
    await queue.put([request(f"r{n}") for n in range(30)])
    began = time.monotonic()
    await bench.answer_all(gates=[TokenBucket(rate=50, burst=1)])
    assert time.monotonic() - began >= 29 / 50


async def test_several_queues_are_merged(tmp_path: Path, bench: Bench) -> None:
    queues = [SqliteQueue(tmp_path / f"{name}.sqlite") for name in ("one", "two")]
    for queue in queues:
        async with queue:
            await queue.put([request(f"{queue.path.stem}-{n}") for n in range(20)])
    await bench.answer_all(*queues, merge="weighted")
    assert len(bench.inference.seen) == 40


async def test_a_paths_message_goes_to_its_path(queue: SqliteQueue, bench: Bench) -> None:
    meta = Meta(path="/v1/chat/completions", headers={"x-mine": "1"}).encoded()
    await queue.put([Item("r1", b"{}", time.time() + 60, 0, meta)])
    await bench.answer_all()
    assert bench.inference.paths == ["/v1/chat/completions"]
    assert bench.inference.headers["r1"][0]["x-mine"] == "1"


async def test_several_endpoints_share_the_work(queue: SqliteQueue, bench: Bench) -> None:
    other = Inference(latency=0.01)
    bench.inference.latency = 0.01
    await other.start()
    try:
        await queue.put([request(f"r{n}") for n in range(60)])
        await bench.answer_all(endpoints=[bench.inference.url, other.url])
    finally:
        await other.stop()
    assert min(len(bench.inference.seen), len(other.seen)) > 10
