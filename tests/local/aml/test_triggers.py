"""When schedules are due."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.local.aml.triggers import BadTrigger, next_due

UTC = dt.timezone.utc
#: A Friday.
MADE = dt.datetime(2026, 11, 20, 7, 30, 12, tzinfo=UTC)


def every(frequency: str, interval: int = 1, **further: Any) -> dict[str, Any]:
    return {"triggerType": "Recurrence", "frequency": frequency, "interval": interval, **further}


def cron(expression: str, **further: Any) -> dict[str, Any]:
    return {"triggerType": "Cron", "expression": expression, **further}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("trigger", "after", "expected"),
    [
        (every("Minute", 15), "2026-11-20 07:31", "2026-11-20 07:45"),
        (every("hour"), "2026-11-20 07:30", "2026-11-20 08:30"),
        (every("hour", 2, startTime="2026-11-20T10:00:00Z"), "2026-11-20 07:30", "2026-11-20 10:00"),
        (every("hour", 2, startTime="2026-11-20T10:00:00Z"), "2026-11-21 09:59", "2026-11-21 10:00"),
        (every("day"), "2026-11-20 07:30", "2026-11-21 07:30"),
        (every("day", 2), "2026-11-20 07:30", "2026-11-22 07:30"),
        (every("day", schedule={"hours": [6, 18], "minutes": [0, 30]}), "2026-11-20 07:30", "2026-11-20 18:00"),
        (every("week"), "2026-11-20 08:00", "2026-11-27 07:30"),
        (every("week", schedule={"weekDays": ["Monday"], "hours": [9]}), "2026-11-20 08:00", "2026-11-23 09:00"),
        (every("month", schedule={"monthDays": [1], "hours": [0]}), "2026-11-20 08:00", "2026-12-01 00:00"),
        (
            every("day", timeZone="Europe/Paris", startTime="2026-11-20T09:00:00"),
            "2026-11-20 07:30",
            "2026-11-20 08:00",
        ),
        (cron("*/20 * * * *"), "2026-11-20 07:30", "2026-11-20 07:40"),
        (cron("0 9-11 * * 1-5"), "2026-11-20 11:00", "2026-11-23 09:00"),
        (cron("5 0 1 1 *"), "2026-11-20 07:30", "2027-01-01 00:05"),
        (cron("0 0 13 * 5"), "2026-11-20 07:30", "2026-11-27 00:00"),
        (cron("0 0 * * 7"), "2026-11-20 07:30", "2026-11-22 00:00"),
    ],
)
def test_the_next_time(trigger: dict[str, Any], after: str, expected: str) -> None:
    assert next_due(trigger, at(after), MADE) == at(expected)


def test_an_end() -> None:
    trigger = every("hour", endTime="2026-11-20T09:00:00Z")
    assert next_due(trigger, at("2026-11-20 07:30"), MADE) == at("2026-11-20 08:30")
    assert next_due(trigger, at("2026-11-20 08:30"), MADE) is None


def test_what_never_comes() -> None:
    assert next_due(cron("0 0 31 2 *"), MADE, MADE) is None


@pytest.mark.parametrize(
    "trigger",
    [
        {}, every("fortnight"), every("hour", 0), every("hour", "1"), cron("* * * *"), cron("60 * * * *"),
        cron("a * * * *"), cron("5-1 * * * *"), every("day", startTime="soon"),
    ],
)  # fmt: skip
def test_triggers_that_make_no_sense(trigger: dict[str, Any]) -> None:
    with pytest.raises(BadTrigger):
        next_due(trigger, MADE, MADE)


FIRST, LAST = (at(text).replace(tzinfo=None) for text in ("2026-11-01 00:00", "2027-12-31 00:00"))
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


@given(MOMENTS, st.sampled_from(["minute", "hour", "day", "week"]), st.integers(1, 50))
def test_recurrences_keep_their_distance(after: dt.datetime, frequency: str, interval: int) -> None:
    units = {"minute": 1, "hour": 60, "day": 24 * 60, "week": 7 * 24 * 60}
    start = MADE.replace(second=0)
    found = next_due(every(frequency, interval), after, MADE)
    assert found is not None
    assert found > after or found == start
    step = dt.timedelta(minutes=units[frequency] * interval)
    assert (found - start) % step == dt.timedelta(0)
    assert found - step <= after or found == start
