"""The arithmetic of limits, on a clock of the test's own."""

from __future__ import annotations

import math
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.endpoints.limits import EndpointLimit, LimitPolicy, Outcome


def simulate(capacity: int, seconds: float, *, latency: float = 0.05, maximum: int = 64) -> tuple[int, int]:
    """A server of ``capacity`` slots, asked whenever the limit allows: (served, refused). Refusals come at once."""
    limit = EndpointLimit(LimitPolicy(start=4, maximum=maximum))
    now, served, refused = 0.0, 0, 0
    flying: deque[float] = deque()
    while now < seconds:
        while flying and flying[0] <= now:
            flying.popleft()
            limit.answered(Outcome.SERVED, now)
            served += 1
        while limit.wait(now) <= 0:
            limit.sent()
            if len(flying) < capacity:
                flying.append(now + latency)
            else:
                limit.answered(Outcome.REFUSED, now, 1.0)
                refused += 1
        now += 0.001
    return served, refused


def test_it_finds_the_capacity_and_stays_there() -> None:
    served, refused = simulate(16, 10.0)
    assert served >= 0.85 * 16 / 0.05 * 10
    assert refused <= 0.05 * served


def test_it_uses_all_of_a_large_server() -> None:
    served, refused = simulate(1_000, 5.0)
    assert (refused, served >= 0.9 * 64 / 0.05 * 5) == (0, True)


def test_it_works_one_by_one_with_a_server_of_one_slot() -> None:
    served, refused = simulate(1, 20.0)
    assert served >= 0.7 * 20 / 0.05
    assert refused <= 0.3 * served


def test_refusals_in_a_row_are_a_pause_for_all() -> None:
    limit = EndpointLimit(LimitPolicy(start=4, maximum=64))
    now = 0.0
    for _ in range(8):
        while limit.wait(now) > 0:
            now += 0.01
        limit.sent()
        limit.answered(Outcome.REFUSED, now, 7.0)
    assert 6.0 < limit.wait(now) <= 7.0
    assert limit.wait(now + 7.0) == 0.0


def failed(limit: EndpointLimit, now: float, times: int) -> None:
    for _ in range(times):
        limit.sent()
    for _ in range(times):
        limit.answered(Outcome.FAILED, now)


def test_the_breaker_opens_and_lets_one_probe_through() -> None:
    limit = EndpointLimit(LimitPolicy(start=8, maximum=64, threshold=5))
    failed(limit, 0.0, 5)
    assert limit.wait(0.1) > 0
    assert limit.wait(0.5) == 0.0
    limit.sent()
    assert math.isinf(limit.wait(100.0))
    limit.answered(Outcome.FAILED, 0.6)
    assert limit.wait(1.0) > 0  # the next probe waits longer
    assert limit.wait(1.6) == 0.0
    limit.sent()
    limit.answered(Outcome.SERVED, 1.7)
    assert limit.wait(1.7) == 0.0
    assert limit.limit == 9


def test_failures_that_left_before_it_opened_do_not_prolong_it() -> None:
    limit = EndpointLimit(LimitPolicy(start=8, maximum=64, threshold=5))
    failed(limit, 0.0, 8)
    assert limit.wait(0.5) == 0.0


def test_a_success_between_keeps_it_closed() -> None:
    limit = EndpointLimit(LimitPolicy(threshold=5))
    for _ in range(20):
        failed(limit, 0.0, 4)
        limit.sent()
        limit.answered(Outcome.SERVED, 0.0)
    assert limit.wait(0.0) == 0.0


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 3)), max_size=60))
def test_it_never_locks_up(steps: list[tuple[Outcome, float]]) -> None:
    """Whatever happens, with nothing in flight there is a finite time after which a request may go."""
    limit = EndpointLimit(LimitPolicy(start=4, maximum=16))
    now = 0.0
    for outcome, later in steps:
        wait = limit.wait(now)
        assert not math.isinf(wait)
        now += wait + later
        limit.sent()
        limit.answered(outcome, now, 2.0)
        assert limit.in_flight == 0
        assert 1 <= limit.limit <= 16
