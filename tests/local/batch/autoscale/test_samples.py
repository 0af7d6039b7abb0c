"""The ring of samples."""

from __future__ import annotations

from datetime import datetime, timedelta

from azbatchwrap.local.batch import autoscale


def test_samples_become_visible_after_a_minute(now: datetime) -> None:
    history = autoscale.SampleHistory()
    history.record({"$ActiveTasks": 3}, now)
    assert history.samples("$ActiveTasks", now + timedelta(seconds=59)) == []
    assert history.samples("$ActiveTasks", now + timedelta(seconds=60)) == [autoscale.Sample(now, 3)]


def test_a_metric_without_a_value_counts_as_zero(now: datetime) -> None:
    history = autoscale.SampleHistory(visible_after=timedelta())
    history.record({"$ActiveTasks": 3}, now)
    assert all(history.samples(metric, now)[0].value == 0 for metric in autoscale.METRICS if metric != "$ActiveTasks")


def test_the_ring_is_bounded_and_forgets_the_oldest(now: datetime) -> None:
    history = autoscale.SampleHistory(keep=timedelta(minutes=5), visible_after=timedelta())
    for number in range(1000):
        history.record({"$ActiveTasks": number}, now + number * autoscale.SAMPLE_PERIOD)
    seen = history.samples("$ActiveTasks", now + timedelta(days=1))
    assert [sample.value for sample in seen] == list(range(990, 1000))
    assert len(history) == 10


def test_a_clock_set_back_forgets_the_future(now: datetime) -> None:
    history = autoscale.SampleHistory(visible_after=timedelta())
    for number in range(5):
        history.record({"$ActiveTasks": number}, now + number * autoscale.SAMPLE_PERIOD)
    history.record({"$ActiveTasks": 9}, now + autoscale.SAMPLE_PERIOD)
    assert [sample.value for sample in history.samples("$ActiveTasks", now + timedelta(hours=1))] == [0, 9]


def test_gaps_lower_the_percentage(now: datetime) -> None:
    history = autoscale.SampleHistory(visible_after=timedelta())
    for age in (19, 16, 12, 8, 1):
        history.record({}, now - age * autoscale.SAMPLE_PERIOD)
    formula = "x = $ActiveTasks.GetSamplePercent(TimeInterval_Minute * 10)"
    assert autoscale.evaluate(formula, history, now).results.endswith(";x=25")
