from __future__ import annotations

import pytest

from azbatchwrap.local.web import traffic
from azbatchwrap.local.web.traffic import WINDOW, Traffic


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 5_000_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(traffic, "time", clock)
    return clock


def test_requests_and_refusals_are_told_second_by_second(clock: Clock) -> None:
    seen = Traffic()
    for status in (200, 201, 404):
        seen.count(status)
    clock.now += 2
    seen.count(200)
    clock.now += 1
    shown = seen.view()
    assert shown["requests"][-4:] == [0, 3, 0, 1]
    assert shown["failed"][-4:] == [0, 1, 0, 0]
    assert shown["total"] == 4


def test_the_second_under_way_is_not_told_yet(clock: Clock) -> None:
    seen = Traffic()
    seen.count(200)
    assert sum(seen.view()["requests"]) == 0


@pytest.mark.parametrize("pause", [WINDOW, WINDOW + 1, 10 * WINDOW])
def test_what_is_long_ago_is_forgotten(clock: Clock, pause: int) -> None:
    seen = Traffic()
    seen.count(500)
    clock.now += pause
    shown = seen.view()
    assert sum(shown["requests"]) == sum(shown["failed"]) == 0
    assert len(shown["requests"]) == WINDOW - 1


def test_refusals_are_remembered_and_not_modified_is_none(clock: Clock) -> None:
    seen = Traffic()
    seen.refused("GET", "/jobs/" + "x" * 2000, 404, "JobNotFound")
    seen.refused("GET", "/pools/p", 304, "ConditionNotMet")
    (only,) = [each.view() for each in seen.refusals]
    assert only["code"] == "JobNotFound"
    assert only["time"] == 5000
    assert len(only["path"]) == 512
