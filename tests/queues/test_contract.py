"""What every queue promises. A new kind of queue is done when it passes this."""

from __future__ import annotations

import asyncio
import time

import pytest

from azbatchwrap.queues import Cancelled, Claim, Code, Held, Policy, Put, Queue, Refused, Result, Retry
from tests.queues.conftest import Store, eventually, item

LEASE = 30.0
#: Long enough to act within, short enough to wait for.
SHORT = 0.3

WEIRD_IDS = ["a b", "quote\"s'", "new\nline", "日本語 ✓", "per%cent/slash?#", "x" * 200, "{brace}:colon"]


async def all_results(queue: Queue) -> list[Result]:
    found: list[Result] = []
    cursor = ""
    while (page := await queue.results(cursor, 3)).results:
        found += page.results
        cursor = page.cursor
    return found


async def one_claim(queue: Queue, lease: float = LEASE) -> Claim:
    async def ask() -> list[Claim]:
        return await queue.claim(1, lease)

    claims = await eventually(ask)
    assert isinstance(claims, list)
    return claims[0]


def ok(claim: Claim, payload: bytes = b'{"answer":42}') -> tuple[Claim, Result]:
    return claim, Result(claim.id, Code.OK, 200, 1, payload=payload, finished=time.time())


async def test_a_request_comes_out_as_it_went_in_and_ends_in_one_result(store: Store) -> None:
    queue = await store.worker()
    assert await queue.put([item("r1", '{"prompt": "häi"}', seconds=60)]) == [Put.STORED]
    claim = await one_claim(queue)
    assert (claim.id, claim.body, claim.attempts, claim.crashes) == ("r1", '{"prompt": "häi"}'.encode(), 0, 0)
    assert 55 < claim.deadline - time.time() <= 60
    assert await queue.claim(1, LEASE) == []
    assert await queue.complete([ok(claim)]) == [True]
    [result] = await all_results(queue)
    assert (result.id, result.code, result.status, result.payload) == ("r1", Code.OK, 200, b'{"answer":42}')
    assert abs(result.finished - time.time()) < 30
    assert (await queue.stats()).open == 0


@pytest.mark.parametrize("id_", WEIRD_IDS)
async def test_ids_and_bodies_may_be_anything(store: Store, id_: str) -> None:
    queue = await store.worker()
    body = f'{{"text": {id_!r}, "more": "\U0001f600\u0000"}}'
    await queue.put([item(id_, body)])
    claim = await one_claim(queue)
    assert (claim.id, claim.body.decode()) == (id_, body)
    assert await queue.complete([ok(claim)]) == [True]
    assert [result.id for result in await all_results(queue)] == [id_]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # said to Azure's own client
async def test_a_large_request_and_a_large_result_come_out_whole(store: Store) -> None:
    queue = await store.worker()
    large = '{"text": "' + "ü" * 1_000_000 + '"}'
    assert await queue.put([item("large", large), item("small")]) == [Put.STORED, Put.STORED]
    claims = {claim.id: claim for claim in [await one_claim(queue), await one_claim(queue)]}
    assert claims["large"].body.decode() == large
    assert await queue.complete([ok(claims["large"], large.encode()), ok(claims["small"])]) == [True, True]
    assert {one.id: one.payload for one in await all_results(queue)}["large"].decode() == large


async def test_more_at_once_than_one_call_of_the_server_takes(store: Store) -> None:
    """Azure answers one by one; the others in batches."""
    queue = await store.worker()
    count = 60 if store.kind == "azure" else 1_250
    items = [item(f"r{n}") for n in range(count)]
    assert await queue.put(items) == [Put.STORED] * count
    assert await queue.put(items) == [Put.SAME] * count
    claims: list[Claim] = []
    while len(claims) < count:
        claims += await queue.claim(count - len(claims), LEASE)
    assert await queue.extend(claims, LEASE) == [Held.KEPT] * count
    endings = [ok(claim) for claim in claims]
    *others, again, once_more = await queue.complete([*endings, endings[0], endings[-1]])
    assert (others[0], others[-1]) == (not again, not once_more), "each is ended by one of the two"
    assert all(others[1:-1])
    assert (await queue.stats()).results == count


async def test_the_same_request_again_is_nothing_new_and_another_body_a_conflict(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("r1", "one")])
    assert await queue.put([item("r1", "one"), item("r1", "two")]) == [Put.SAME, Put.CONFLICT]
    await queue.complete([ok(await one_claim(queue))])
    assert await queue.put([item("r1", "one"), item("r1", "two")]) == [Put.SAME, Put.CONFLICT]
    assert await queue.claim(10, LEASE) == []
    assert len(await all_results(queue)) == 1


async def test_no_two_workers_get_the_same_claim(store: Store) -> None:
    first, second = await store.worker(), await store.worker()
    await first.put([item(f"r{n}") for n in range(40)])
    claims: list[Claim] = []
    while len(claims) < 40:
        found = await asyncio.gather(first.claim(7, LEASE), second.claim(7, LEASE))
        claims += [claim for part in found for claim in part]
    assert sorted(claim.id for claim in claims) == sorted(f"r{n}" for n in range(40))


async def test_a_delayed_item_waits_until_it_is_due(store: Store) -> None:
    queue = await store.worker()
    began = time.time()
    await queue.put([item("later", due=began + store.tick)])
    assert await queue.claim(1, LEASE) == []
    assert (await one_claim(queue)).id == "later"
    assert time.time() >= began + store.tick * 0.8


async def test_a_retried_item_keeps_its_counts_and_comes_back_when_due(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("r1")])
    claim = await one_claim(queue)
    due = time.time() + store.tick
    assert await queue.retry([Retry(claim, due, 2, 1, "HTTP 503")]) == [True]
    assert await queue.claim(1, LEASE) == []
    again = await one_claim(queue)
    assert time.time() >= due - 0.2
    assert (again.attempts, again.failures, again.crashes) == (2, 1, 0)


async def test_a_heartbeat_keeps_a_claim_and_a_lapsed_one_is_reclaimed(store: Store) -> None:
    alive, dead = await store.worker(), await store.worker()
    await alive.put([item("r1")])
    lease = 1.0 if store.kind == "azure" else 0.6
    claim = await one_claim(dead, lease)
    assert await dead.extend([claim], LEASE) == [Held.KEPT]
    await asyncio.sleep(lease + 0.1)
    assert await alive.claim(1, LEASE) == []
    assert await dead.extend([claim], SHORT) == [Held.KEPT]

    async def reclaimed() -> list[Claim]:
        await alive.reap()
        return await alive.claim(1, LEASE)

    [again] = await eventually(reclaimed)  # type: ignore[misc]
    assert (again.id, again.crashes) == ("r1", 1)


async def test_a_stale_token_ends_nothing(store: Store) -> None:
    slow, fast = await store.worker(), await store.worker()
    await slow.put([item("r1")])
    stale = await one_claim(slow, SHORT)

    async def taken_over() -> list[Claim]:
        await fast.reap()
        return await fast.claim(1, LEASE)

    [claim] = await eventually(taken_over)  # type: ignore[misc]
    assert await slow.extend([stale], LEASE) == [Held.LOST]
    assert await slow.retry([Retry(stale, 0.0, 1, 1, "late")]) == [False]
    assert await slow.bury([(stale, Result("r1", Code.POISONED, error="late"))]) == [False]
    assert await slow.complete([ok(stale, b'"late"')]) == [False]
    assert await fast.complete([ok(claim, b'"in time"')]) == [True]
    assert await fast.complete([ok(claim, b'"twice"')]) == [False]
    assert [result.payload for result in await all_results(fast)] == [b'"in time"']


async def test_a_message_that_kills_its_workers_becomes_a_dead_letter(store: Store) -> None:
    queue = await store.worker(Policy(max_crashes=3))
    await queue.put([item("poison", '{"kill": "\u0001"}')])
    for crashes in range(3):
        claim = await one_claim(queue, SHORT)
        assert claim.crashes == crashes
        if crashes:
            assert await queue.begin([claim]) == [True]

        async def cleared() -> object:
            return await queue.reap()

        await eventually(cleared)
    assert await queue.claim(1, LEASE) == []
    [result] = await all_results(queue)
    assert (result.id, result.code) == ("poison", Code.POISONED)
    [letter] = await queue.dead_letters()
    assert (letter.id, letter.body) == ("poison", '{"kill": "\u0001"}'.encode())
    assert len(letter.history) == 3


async def test_a_bystander_of_a_crash_is_not_charged_twice(store: Store) -> None:
    queue = await store.worker(Policy(max_crashes=2))
    await queue.put([item("bystander")])
    for _ in range(4):  # held, but never sent, while its workers die

        async def cleared() -> object:
            return await queue.reap()

        claim = await one_claim(queue, SHORT)
        await eventually(cleared)
    assert claim.crashes == 1
    assert (await one_claim(queue)).id == "bystander"


async def test_expiry_writes_a_result_while_nobody_works(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("old", seconds=-5.0), item("soon", seconds=0.4), item("fine")])

    async def both() -> bool:
        await queue.reap()
        return len(await all_results(queue)) == 2

    await eventually(both)
    assert {(one.id, one.code) for one in await all_results(queue)} == {
        ("old", Code.DEADLINE_EXCEEDED),
        ("soon", Code.DEADLINE_EXCEEDED),
    }
    assert [claim.id for claim in await queue.claim(10, LEASE)] == ["fine"]


async def test_an_expired_item_is_never_handed_out(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("old", seconds=-1.0)])
    assert await queue.claim(10, LEASE) == []

    async def ended() -> list[Result]:
        await queue.reap()
        return await all_results(queue)

    await eventually(ended)


async def test_a_dead_workers_item_expires_too(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("r1", seconds=1.0)])
    await one_claim(queue, SHORT)

    async def ended() -> list[Result]:
        await queue.reap()
        return await all_results(queue)

    # It may be claimed again in between, by nobody here.
    [result] = await eventually(ended)  # type: ignore[misc]
    assert result.code is Code.DEADLINE_EXCEEDED


async def test_cancelling_ends_what_waits_and_reaches_what_is_in_flight(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("flying")])
    claim = await one_claim(queue)
    await queue.put([item("waiting")])
    answers = await queue.cancel(["flying", "waiting", "unknown"])
    # A storage queue cannot tell what is in flight: there the result is written at once.
    in_flight = Cancelled.DONE if store.kind == "azure" else Cancelled.REQUESTED
    assert answers == [in_flight, Cancelled.DONE, Cancelled.UNKNOWN]
    assert await queue.extend([claim], LEASE) == [Held.CANCELLED]
    await queue.complete([(claim, Result("flying", Code.CANCELLED, error="cancelled", finished=time.time()))])
    assert {(one.id, one.code) for one in await all_results(queue)} == {
        ("flying", Code.CANCELLED),
        ("waiting", Code.CANCELLED),
    }
    assert await queue.cancel(["waiting"]) == [Cancelled.FINISHED]
    assert await queue.claim(10, LEASE) == []


async def test_a_cancelled_item_is_not_tried_again(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("r1")])
    claim = await one_claim(queue)
    await queue.cancel(["r1"])
    await queue.retry([Retry(claim, 0.0, 1, 1, "HTTP 500")])

    async def ended() -> list[Result]:
        await queue.reap()
        return await all_results(queue)

    [result] = await eventually(ended)  # type: ignore[misc]
    assert result.code is Code.CANCELLED


async def test_dead_letters_are_shown_requeued_and_purged(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("a", "one"), item("b", "two")])
    for _ in range(2):
        claim = await one_claim(queue)
        verdict = Result(claim.id, Code.POISONED, 500, 9, "it never works", finished=time.time())
        assert await queue.bury([(claim, verdict)]) == [True]
    assert {letter.id for letter in await queue.dead_letters()} == {"a", "b"}
    [letter] = await queue.dead_letters(["a", "nobody"])
    assert (letter.body, letter.reason) == (b"one", "it never works")
    assert (await queue.stats()).dead == 2
    assert await queue.requeue(["a", "nobody"], time.time() + 60) == [True, False]
    again = await one_claim(queue)
    assert (again.id, again.body, again.attempts, again.crashes) == ("a", b"one", 0, 0)
    assert await queue.complete([ok(again)]) == [True]
    assert await queue.purge(["b", "nobody"]) == [True, False]
    assert await queue.dead_letters() == []
    assert {(one.id, one.code) for one in await all_results(queue)} == {("a", Code.OK), ("b", Code.POISONED)}


async def test_bytes_that_are_no_request_are_kept_and_answered(store: Store) -> None:
    queue = await store.worker()
    refused = Refused("bad", b"\xff\xfe not \x00 text", "it is not UTF-8")
    await queue.refuse([refused, refused])
    [letter] = await queue.dead_letters()
    assert (letter.id, letter.body, letter.reason) == ("bad", refused.raw, refused.reason)
    [result] = await all_results(queue)
    assert (result.id, result.code) == ("bad", Code.INVALID_REQUEST)
    assert await queue.requeue(["bad"]) == [False]


async def test_stats_count_what_there_is(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item("a"), item("b", seconds=100), item("c", due=time.time() + 1000)])
    await one_claim(queue)
    stats = await queue.stats()
    assert (stats.ready + stats.delayed, stats.leased, stats.open) == (2, 1, 3)
    assert stats.oldest is not None
    assert 0 <= stats.oldest < 60


async def test_reading_results_takes_nothing_away(store: Store) -> None:
    queue = await store.worker()
    await queue.put([item(f"r{n}") for n in range(8)])
    claims: list[Claim] = []
    while len(claims) < 8:
        claims += await queue.claim(8, LEASE)
    await queue.complete([ok(claim) for claim in claims])
    first, second = await all_results(queue), await all_results(queue)
    assert first == second
    assert sorted(one.id for one in first) == sorted(f"r{n}" for n in range(8))


async def test_everything_is_there_after_the_worker_is_gone(store: Store) -> None:
    before = await store.worker()
    await before.put([item("r1", "kept")])
    await before.close()
    after = await store.worker()
    assert (await one_claim(after)).body == b"kept"
