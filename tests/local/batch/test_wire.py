"""The service's notation of times, tags and durations."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.shapes.checks import Refused, moment
from azbatchwrap.local.batch.shapes.tasks import TASK


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("PT01H00M00S", "PT1H"),
        ("PT06M00S", "PT6M"),
        ("P3Y6M4DT12H30M5S", "P1279DT12H30M5S"),
        ("P10675199DT2H48M5.4775807S", "P10675199DT2H48M5.4775807S"),
        ("P10675199DT2H48M5.477S", "P10675199DT2H48M5.477S"),
        ("P1W", "P7D"),
        ("PT90S", "PT1M30S"),
        ("PT0S", "PT0S"),
        ("P", "PT0S"),
    ],
)
def test_durations_are_normalised(sent: str, shown: str) -> None:
    assert wire.format_duration(wire.parse_duration(sent)) == shown


@pytest.mark.parametrize("text", ["", "1h", "PT", "P1H", "PT1D", "P99999999999D", "PT-1S", "pt1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        wire.parse_duration(text)


@given(st.integers(0, wire.UNLIMITED))
def test_durations_survive_the_wire(ticks: int) -> None:
    assert wire.parse_duration(wire.format_duration(ticks)) == ticks


@given(st.datetimes())
def test_times_survive_the_wire(moment: dt.datetime) -> None:
    ticks = wire.parse_time(moment.isoformat() + "Z")
    assert wire.parse_time(wire.format_ticks(ticks)) == ticks
    assert wire.to_datetime(ticks).replace(microsecond=0, tzinfo=None) == moment.replace(microsecond=0)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2026-02-30", "now", "", 7])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(Refused):
        moment(text)


def test_a_recorded_pair_of_time_and_tag() -> None:
    ticks = wire.parse_time("2023-09-07T07:17:50.1292774Z")
    assert wire.etag(ticks) == "0x8DBAF728B4D5CE6"
    assert wire.http_date(ticks) == "Thu, 07 Sep 2023 07:17:50 GMT"
    assert wire.format_ticks(wire.parse_time("2023-09-07T09:17:50.1+02:00")) == "2023-09-07T07:17:50.1Z"


def test_no_two_moments_are_the_same() -> None:
    moments = [wire.now() for _ in range(1000)]
    assert len(set(moments)) == 1000
    assert moments == sorted(moments)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "commandLine", "x"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*TASK.checks, "more"]), JSON, max_size=6))
def test_any_json_is_either_a_task_or_refused_with_a_name(body: dict[str, object]) -> None:
    kept, refusal = outcome({"id": "t", "commandLine": "x", **body})
    assert (kept is None) != (refusal is None)
    if refusal is not None:
        assert (refusal.status, refusal.values[0][0]) == (400, "PropertyName")


def outcome(body: dict[str, object]) -> tuple[dict[str, object] | None, BatchError | None]:
    try:
        return TASK.read(body), None
    except BatchError as refusal:
        return None, refusal


def test_a_refusal_names_the_place() -> None:
    body = {"id": "t", "commandLine": "x", "environmentSettings": [{"name": "A"}, {"value": "b"}]}
    with pytest.raises(BatchError) as refused:
        TASK.read(body)
    assert refused.value.code == "MissingRequiredProperty"
    assert dict(refused.value.values)["PropertyName"] == "environmentSettings.[1].name"
