"""When an endpoint gets work: decisions over a clock that the tests turn."""

from __future__ import annotations

import pytest

from azbatchwrap.endpoints.health import Health, HealthPolicy, State

POLICY = HealthPolicy(rise=2, fall=3, failures=3, cooldown=1.0, cooldown_cap=8.0, forgive=10)


@pytest.fixture
def health() -> Health:
    made = Health(POLICY, 8)
    made.checked(True, 0.0)
    assert (made.state, made.allowed) == (State.UP, 8)
    return made


def test_nothing_is_sent_before_the_first_check() -> None:
    health = Health(POLICY, 8)
    assert not health.usable(0.0)
    assert health.checked(False, 0.0)
    assert health.state is State.DOWN


def test_one_bad_check_does_not_take_it_down_but_a_row_does(health: Health) -> None:
    assert [health.checked(ok, 0.0) for ok in (False, False, True, False, False)] == [False] * 5
    assert health.checked(False, 0.0)
    assert health.state is State.DOWN


def test_one_bad_check_is_enough_when_items_fail_too(health: Health) -> None:
    health.failed(0.0, may_eject=True)
    assert health.checked(False, 0.0)
    assert health.state is State.DOWN


def test_it_comes_back_after_good_checks_and_starts_slowly(health: Health) -> None:
    health.unreachable(0.0)
    assert (health.state, health.allowed) == (State.DOWN, 0)
    assert not health.checked(True, 0.0)
    assert health.checked(True, 0.0)
    seen = []
    for _ in range(9):
        seen.append(health.allowed)
        health.succeeded()
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_failures_in_a_row_eject_for_longer_each_time(health: Health) -> None:
    cooldowns = []
    now = 0.0
    for _ in range(5):
        assert [health.failed(now, may_eject=True) for _ in range(3)] == [False, False, True]
        cooldowns.append(health.ejected_until - now)
        assert not health.checked(True, now)
        assert health.next_check(now) <= health.policy.interval
        now = health.ejected_until
        health.checked(True, now)
        assert health.usable(now)
    assert cooldowns == [1.0, 2.0, 4.0, 8.0, 8.0]
    for _ in range(10):
        health.succeeded()
    for _ in range(3):
        health.failed(now, may_eject=True)
    assert health.ejected_until - now == 1.0


def test_a_success_between_breaks_the_row(health: Health) -> None:
    for _ in range(10):
        health.failed(0.0, may_eject=True)
        health.failed(0.0, may_eject=True)
        health.succeeded()
    assert health.state is State.UP


def test_the_last_one_stays(health: Health) -> None:
    assert not any(health.failed(0.0, may_eject=False) for _ in range(50))
    assert health.usable(0.0)


def test_an_ejected_one_that_is_really_down_is_back_with_its_first_good_checks(health: Health) -> None:
    for _ in range(3):
        health.failed(0.0, may_eject=True)
    assert health.checked(False, 0.1)
    assert health.state is State.DOWN
    health.checked(True, 0.2)
    assert health.checked(True, 0.3)
    assert health.usable(0.3)


def test_good_checks_and_no_connections_are_an_ejection_in_the_end(health: Health) -> None:
    for _ in range(2):
        health.unreachable(0.0)
        assert health.state is State.DOWN
        health.checked(True, 0.0)
        health.checked(True, 0.0)
        assert health.usable(0.0)
    health.unreachable(0.0)
    assert health.state is State.EJECTED
    assert not health.checked(True, 0.5)


def test_a_broken_connection_is_followed_by_one_item_at_a_time(health: Health) -> None:
    health.broke_off()
    assert (health.usable(0.0), health.allowed) == (True, 1)
    health.succeeded()
    assert health.allowed == 2


def test_a_pause_ends_by_itself(health: Health) -> None:
    health.pause(10.0, 5.0)
    health.pause(10.0, 1.0)
    assert not health.usable(14.9)
    assert health.usable(15.0)
