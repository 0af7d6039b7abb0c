"""Delays: bounded, jittered, and patient when the server asks."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.backoff import RETRY_AFTER_CEILING, Backoff, parse_retry_after

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc)


@given(attempt=st.integers(1, 10_000), draw=st.floats(0, 1))
def test_delay_stays_between_zero_and_the_cap(attempt: int, draw: float) -> None:
    assert 0 <= Backoff(base=0.5, cap=30).delay(attempt, draw=lambda: draw) <= 30


def test_delay_doubles_until_the_cap_without_jitter() -> None:
    policy = Backoff(base=1, cap=10, jitter=False)
    assert [policy.delay(n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_fixed_delay_never_grows() -> None:
    policy = Backoff(base=2, kind="fixed", jitter=False)
    assert {policy.delay(n) for n in range(1, 9)} == {2}


@given(asked=st.floats(0, 1e9), draw=st.floats(0, 1))
def test_retry_after_is_a_lower_bound_but_clamped(asked: float, draw: float) -> None:
    wait = Backoff().delay(3, retry_after=asked, draw=lambda: draw)
    bound = min(asked, RETRY_AFTER_CEILING)
    assert bound <= wait <= bound * 1.1 + 1e-9


def test_attempts_run_out() -> None:
    policy = Backoff(attempts=3)
    assert [policy.exhausted(n) for n in (1, 2, 3)] == [False, False, True]
    assert not Backoff(attempts=None).exhausted(10**6)


def test_no_attempt_starts_at_or_after_the_deadline() -> None:
    policy = Backoff(base=10, jitter=False)
    assert policy.next_attempt_at(1, now=100, deadline=111) == 110
    assert policy.next_attempt_at(1, now=100, deadline=110) is None
    assert Backoff(attempts=1).next_attempt_at(1, now=0, deadline=1e9) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        (" 30 ", 30.0),
        ("Fri, 20 Nov 2026 12:00:10 GMT", 10.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2026 12:00:10 -0000", 10.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOON) == seconds


@given(st.text())
def test_any_retry_after_text_is_survived(value: str) -> None:
    seconds = parse_retry_after(value, NOON)
    assert seconds is None or seconds >= 0
