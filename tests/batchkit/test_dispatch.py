"""Every item ends in one recorded result, whatever endpoints, processors and items do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.backoff import Backoff
from azbatchwrap.batchkit import WorkItemProcessor, WorkItemResult, in_process
from azbatchwrap.endpoints import EndpointSpec, HealthPolicy
from azbatchwrap.errors import EndpointDown, RetryableError, ServiceError, Throttled, WorkItemError
from tests.batchkit.conftest import HASTY, Run, dispatching, spec_of, until
from tests.batchkit.consumer import QUICK, Crash, Send, Word, batch_of
from tests.batchkit_servers import PATIENCE, Servers

WORDS = [f"word {n}" for n in range(200)]


def answering(status: int, headers: dict[str, str] | None = None) -> Any:
    return lambda body, _: web.Response(status=status, headers=headers, text="no")


async def test_every_item_is_sent_once_and_recorded_once(servers: Servers, run_batch: Run) -> None:
    made = [servers.new() for _ in range(3)]
    outcome = await run_batch([spec_of(server) for server in made], batch_of(WORDS))
    assert outcome.ids == sorted(WORDS)
    assert outcome.by_id["word 7"].result.value == {"got": "word 7"}
    assert sum((server.bodies for server in made), start=type(made[0].bodies)()) == dict.fromkeys(WORDS, 1)
    assert all(server.asked > 0 for server in made)
    assert outcome.summary["overall_summary"]["file_stats"] == {
        "passed": 200, "failed": 0, "in_retry": 0, "queued": 0, "running": 0, "cached": 0, "total": 200,
    }  # fmt: skip
    assert sorted(entry["filepath"] for entry in outcome.summary["processed_files"]) == sorted(WORDS)


async def test_an_endpoint_never_gets_more_than_its_slots(servers: Servers, run_batch: Run) -> None:
    server = servers.new(delay=0.005)
    await run_batch([spec_of(server, 3)], batch_of(WORDS[:60]))
    assert server.most_in_flight == 3


async def test_a_faster_endpoint_does_more(servers: Servers, run_batch: Run) -> None:
    fast, slow = servers.new(delay=0.002), servers.new(delay=0.1)
    await run_batch([spec_of(fast, 2), spec_of(slow, 2)], batch_of(WORDS))
    assert fast.asked > 5 * slow.asked > 0


async def test_an_empty_batch_is_done_at_once(servers: Servers, run_batch: Run) -> None:
    outcome = await run_batch([spec_of(servers.new())], batch_of([]))
    assert (outcome.counts.total, outcome.records) == (0, [])
    assert outcome.summary["processed_files"] == []


async def test_the_same_item_twice_is_done_once(servers: Servers, run_batch: Run) -> None:
    server = servers.new()
    outcome = await run_batch([spec_of(server)], batch_of(["a", "b", "a", "a"]))
    assert outcome.ids == ["a", "b"]
    assert server.asked == 2


async def test_larger_items_go_first(servers: Servers, run_batch: Run) -> None:
    order: list[str] = []
    server = servers.new(answer=lambda body, _: order.append(body) or web.json_response({}))
    words = [Word(id=f"{n}", text=f"{n}", priority=float(n)) for n in (3, 1, 5, 2)] + [Word(id="?", text="?")]
    server.stop()

    async def meanwhile(_: Any, batch: Any) -> None:
        await until(lambda: batch.counts.queued == 5)
        server.start()

    await run_batch([spec_of(server, 1)], batch_of(words), meanwhile=meanwhile)
    assert order == ["5", "3", "2", "1", "?"]


async def test_a_retry_goes_to_another_endpoint(servers: Servers, run_batch: Run) -> None:
    bad, good = servers.new(answer=answering(500)), servers.new(delay=0.01)
    outcome = await run_batch([spec_of(bad, 1), spec_of(good, 1)], batch_of(WORDS[:20]))
    assert outcome.counts.passed == 20
    assert all(record.endpoint == f"e{good.port}" for record in outcome.records)
    assert max(bad.bodies.values()) == 1


async def test_a_black_hole_among_good_endpoints_is_contained(servers: Servers, run_batch: Run) -> None:
    bad = servers.new(answer=answering(500))
    good = [servers.new(delay=0.005) for _ in range(3)]
    policy = HealthPolicy(interval=0.2, cooldown=1.0)
    outcome = await run_batch([spec_of(server, 8) for server in (bad, *good)], batch_of(WORDS * 3), policy=policy)
    assert outcome.counts.failed == 0
    assert bad.asked <= 16


async def test_the_last_endpoint_is_not_ejected_for_the_items_faults(servers: Servers, run_batch: Run) -> None:
    server = servers.new(answer=lambda body, _: answering(500)(body, 0) if "bad" in body else web.json_response({}))
    words = [f"{'bad' if n % 4 else 'good'} {n}" for n in range(40)]
    outcome = await run_batch([spec_of(server)], batch_of(words), policy=HealthPolicy(cooldown=600.0))
    assert outcome.counts.passed == 10
    assert outcome.counts.failed == 30


async def test_a_final_error_is_not_tried_again(servers: Servers, run_batch: Run) -> None:
    server = servers.new(answer=answering(422))
    outcome = await run_batch([spec_of(server)], batch_of(["a"]))
    result = outcome.by_id["a"].result
    assert (result.passed, result.can_retry, result.error_type) == (False, False, "ServiceError")
    assert "422" in str(result.failed_reason)
    assert server.asked == 1


async def test_the_budget_of_attempts_ends(servers: Servers, run_batch: Run) -> None:
    server = servers.new(answer=answering(500))
    outcome = await run_batch([spec_of(server)], batch_of(["a"]))
    assert server.asked == QUICK.attempts
    assert outcome.by_id["a"].attempts == QUICK.attempts
    assert outcome.summary["processed_files"][0]["retries"] == 5


async def test_an_endpoint_that_asks_for_a_rest_gets_it(servers: Servers, run_batch: Run) -> None:
    times: list[float] = []

    def answer(body: str, count: int) -> web.Response:
        times.append(time.monotonic())
        return web.json_response({}) if count > 1 else web.Response(status=429, headers={"Retry-After": "1"})

    outcome = await run_batch([spec_of(servers.new(answer=answer), 1)], batch_of(["a"]))
    assert times[1] - times[0] >= 0.99
    assert outcome.by_id["a"].attempts == 1


async def test_an_item_that_takes_too_long_fails_without_others(servers: Servers, run_batch: Run) -> None:
    server = servers.new(answer=lambda body, _: asyncio.sleep(3600) if body == "slow" else web.json_response({}))
    send = Send(limit=0.3)
    send.backoff = Backoff(attempts=2, base=0.01)
    outcome = await run_batch([spec_of(server)], batch_of(["slow", *WORDS[:20]], send))
    assert outcome.by_id["slow"].result.error_type == "AttemptTimeout"
    assert outcome.counts.passed == 20


async def test_all_endpoints_down_is_waited_for_and_a_revived_one_works_at_once(
    servers: Servers, run_batch: Run
) -> None:
    server = servers.new()
    server.stop()
    revived = 0.0

    async def meanwhile(_: Any, batch: Any) -> None:
        nonlocal revived
        await asyncio.sleep(1.0)
        assert batch.counts.done == 0
        server.start()
        revived = time.monotonic()
        await until(lambda: server.asked)
        revived = time.monotonic() - revived

    outcome = await run_batch([spec_of(server)], batch_of(WORDS[:20]), policy=HealthPolicy(), meanwhile=meanwhile)
    assert outcome.counts.passed == 20
    assert all(record.attempts == 1 for record in outcome.records)
    assert revived < 1.0


async def test_an_endpoint_killed_under_way_costs_no_item(servers: Servers, run_batch: Run) -> None:
    killed, other = servers.new(delay=0.005), servers.new(delay=0.005)

    async def meanwhile(_: Any, __: Any) -> None:
        await until(lambda: killed.asked > 20)
        killed.stop()

    outcome = await run_batch([spec_of(killed), spec_of(other)], batch_of(WORDS), meanwhile=meanwhile)
    assert outcome.counts.passed == len(WORDS)
    assert outcome.ids == sorted(WORDS)


async def test_an_endpoint_whose_health_page_is_an_error_gets_nothing(servers: Servers, run_batch: Run) -> None:
    sick, well = servers.new(healthy=lambda: web.Response(status=500)), servers.new()
    specs = [spec_of(server, health_path="/health") for server in (sick, well)]
    outcome = await run_batch(specs, batch_of(WORDS))
    assert outcome.counts.passed == len(WORDS)
    assert sick.asked == 0


class Odd(WorkItemProcessor[Word]):
    """Does what the word says, on the loop."""

    backoff = QUICK

    async def process(self, item: Word, endpoint: Any) -> Any:
        outcomes: dict[str, Any] = {
            "nothing": None,
            "text": "done",
            "big": WorkItemResult(value=1 << 80),
            "object": WorkItemResult(value={"x": object}),
            "again": WorkItemResult(passed=False, can_retry=True, error_type="E", failed_reason="why"),
            "wrong": WorkItemResult(passed=False, error_type="E", failed_reason="why"),
            "cached": WorkItemResult(cached=True, details={"audio_duration": 3}),
        }
        if item.text in outcomes:
            return outcomes[item.text]
        raise ZeroDivisionError("by the item")


async def test_whatever_a_processor_returns_or_raises_is_recorded(run_batch: Run) -> None:
    words = ["nothing", "text", "big", "object", "again", "wrong", "cached", "raise"]
    outcome = await run_batch([in_process("here", lambda body: body)], batch_of(words, Odd()))
    results = {record.id: record.result for record in outcome.records}
    assert results["nothing"].error_type == results["text"].error_type == "TypeError"
    assert results["raise"].error_type == "ZeroDivisionError"
    assert results["big"].value == 1 << 80
    assert results["object"].passed
    assert outcome.by_id["again"].attempts == QUICK.attempts
    assert outcome.by_id["wrong"].attempts == 1
    assert outcome.counts.cached == 1
    entries = {entry["filepath"]: entry for entry in outcome.summary["processed_files"]}
    assert entries["cached"]["audio_duration"] == 3
    assert entries["wrong"]["failed_reason"] == "why"


class Blocking(WorkItemProcessor[Word]):
    """A plain function: runs in threads, and asks the endpoint from there."""

    backoff = Backoff(attempts=1)

    def process(self, item: Word, endpoint: Any) -> WorkItemResult:
        if item.text == "hang":
            time.sleep(3600)
        if item.text == "exit":
            raise SystemExit(1)
        return WorkItemResult(value=endpoint.call(item.text.encode()).body.decode())

    def time_limit(self, item: Word, endpoint: Any) -> float:
        return 0.3 if item.text == "hang" else 30.0


async def test_plain_functions_run_in_threads_that_may_hang(run_batch: Run) -> None:
    outcome = await run_batch([in_process("here", bytes.upper, 2)], batch_of(["hang", "exit", *WORDS[:20]], Blocking()))
    assert outcome.by_id["word 3"].result.value == "WORD 3"
    assert outcome.by_id["hang"].result.error_type == "AttemptTimeout"
    assert outcome.by_id["exit"].result.error_type == "WorkItemError"
    assert outcome.counts.passed == 20


async def test_a_worker_process_that_dies_fails_its_item_and_nothing_else(run_batch: Run) -> None:
    words = ["die", "hang", "exit", "odd error", *WORDS[:20]]
    processor = Crash()
    processor.backoff = Backoff(attempts=2, base=0.01)
    outcome = await run_batch([in_process("here", bytes.upper, 2)], batch_of(words, processor))
    reasons = {record.id: record.result.error_type for record in outcome.records if not record.result.passed}
    assert reasons == {
        "die": "WorkerDied", "hang": "AttemptTimeout", "exit": "WorkItemError", "odd error": "WorkItemError",
    }  # fmt: skip
    assert "SIGKILL" in str(outcome.by_id["die"].result.failed_reason)
    assert outcome.counts.passed == 20


class Choosy(Send):
    """Takes an item only to the endpoint of its language."""

    def accepts(self, item: Word, endpoint: Any) -> bool:
        return item.text.startswith(endpoint.options["language"])


async def test_items_go_to_endpoints_that_take_them_and_fail_when_none_does(servers: Servers, run_batch: Run) -> None:
    english, german = servers.new(), servers.new()
    specs = [spec_of(english, language="en"), spec_of(german, language="de")]
    words = [f"{language} {n}" for n in range(20) for language in ("en", "de", "fr")]
    outcome = await run_batch(specs, batch_of(words, Choosy()))
    assert all(body.startswith("en") for body in english.bodies)
    assert german.asked == 20
    failed = {record.result.error_type for record in outcome.records if not record.result.passed}
    assert (outcome.counts.failed, failed) == (20, {"NoSuitableEndpoint"})


async def test_a_small_batch_does_not_wait_for_a_large_one(servers: Servers, tmp_path: Path) -> None:
    server = servers.new(delay=0.02)
    async with dispatching([spec_of(server, 2)]) as dispatcher:
        large = await dispatcher.submit(batch_of(WORDS * 5), tmp_path / "large")
        await until(lambda: server.asked)
        small = await dispatcher.submit(batch_of(["small 1", "small 2"]), tmp_path / "small")
        await asyncio.wait_for(small.done.wait(), 20)
        assert large.counts.done < 100


async def test_a_listing_that_fails_ends_the_batch_with_what_was_listed(run_batch: Run) -> None:
    def words() -> Any:
        yield "a"
        raise ValueError("no more")

    outcome = await run_batch([in_process("here", lambda _: b"{}")], batch_of(words()))
    assert outcome.ids == ["a"]
    assert "no more" in str(outcome.fault)


async def test_a_long_listing_waits_for_its_items_to_be_done(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = 0

    def words() -> Any:
        nonlocal listed
        for listed in range(1, 2001):
            yield f"word {listed}"

    monkeypatch.setattr("azbatchwrap.batchkit.batch.LOOKAHEAD", 100)
    server = servers.new()
    server.stop()
    async with dispatching([spec_of(server)]) as dispatcher:
        batch = await dispatcher.submit(batch_of(words()), tmp_path)
        await until(lambda: batch.counts.queued >= 100)
        await asyncio.sleep(0.2)
        stopped_at = listed
        server.start()
        await asyncio.wait_for(batch.done.wait(), PATIENCE)
    # What the listing thread adds before it learns that there is no more room depends on the machine.
    assert stopped_at < 2000
    assert (listed, batch.counts.passed) == (2000, 2000)


async def test_items_listed_slowly_start_at_once(servers: Servers, tmp_path: Path) -> None:
    def words() -> Any:
        yield "first"
        until_asked = time.monotonic() + 30
        while not server.asked and time.monotonic() < until_asked:
            time.sleep(0.01)
        yield f"asked {server.asked}"

    server = servers.new()
    async with dispatching([spec_of(server)]) as dispatcher:
        batch = await dispatcher.submit(batch_of(words()), tmp_path)
        await batch.done.wait()
    assert set(server.bodies) == {"first", "asked 1"}


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (RetryableError("x"), True),
        (EndpointDown("x"), True),
        (WorkItemError("x"), False),
        (ServiceError("x", status=500), True),
        (ServiceError("x", status=404), False),
        (Throttled("x", status=429), True),
        (ConnectionResetError(), True),
        (asyncio.TimeoutError(), True),
        (FileNotFoundError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_errors_say_by_type_whether_another_attempt_makes_sense(error: Exception, again: bool) -> None:
    assert Send().is_retryable(error) is again


async def test_processes_and_sockets_are_endpoints_too(run_batch: Run, servers: Servers) -> None:
    program = 'exec:python3 -u -c \'import sys\nfor line in sys.stdin: print("{\\"n\\": %d}" % len(line), flush=True)\''
    outcome = await run_batch([EndpointSpec("lines", program, 2)], batch_of(WORDS[:20]))
    assert outcome.counts.passed == 20
    assert outcome.by_id["word 3"].result.value == {"n": 7}
    assert HASTY.rise == 1


class Undecided(Send):
    """Its own code fails where it should say whether to try again."""

    def is_retryable(self, error: BaseException) -> bool:
        raise LookupError("no such error")


async def test_an_item_is_not_lost_by_a_processor_that_cannot_decide(servers: Servers, run_batch: Run) -> None:
    outcome = await run_batch([spec_of(servers.new(answer=answering(400)))], batch_of(WORDS[:3], Undecided()))
    assert [record.result.error_type for record in outcome.records] == ["ServiceError"] * 3


class Unspeakable(RetryableError):
    """An error of a consumer's whose text and attribute are of no use."""

    def __init__(self) -> None:
        super().__init__("", retry_after="soon")  # type: ignore[arg-type]

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Muttering(Send):
    async def process(self, item: Any, endpoint: Any) -> WorkItemResult:
        raise Unspeakable


async def test_an_item_is_not_lost_by_an_error_that_cannot_be_read(servers: Servers, run_batch: Run) -> None:
    outcome = await run_batch([spec_of(servers.new())], batch_of(WORDS[:3], Muttering()))
    assert [record.result.failed_reason for record in outcome.records] == ["Unspeakable"] * 3
