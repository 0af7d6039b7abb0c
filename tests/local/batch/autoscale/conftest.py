"""A pool with a past whose every sample is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from azbatchwrap.local.batch import autoscale

#: A Thursday evening.
NOW = datetime(2016, 10, 13, 19, 18, 47, 805_000, tzinfo=timezone.utc)
#: Four hundred samples back to 200 minutes ago. The sample taken k periods ago says k for $ActiveTasks.
STEADY = {
    "$CPUPercent": 0.9,
    "$RunningTasks": 4,
    "$PendingTasks": 20,
    "$PreemptedNodeCount": 3,
    "$CurrentDedicatedNodes": 7,
}


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def fill() -> Callable[..., autoscale.SampleHistory]:
    """Makes a history: samples of k periods ago for every k given, with steady values besides $ActiveTasks."""

    def made(ages: range, *, now: datetime = NOW, delay: int = 60, **values: float) -> autoscale.SampleHistory:
        history = autoscale.SampleHistory(visible_after=timedelta(seconds=delay))
        given = {f"${name}": value for name, value in values.items()}
        for age in sorted(ages, reverse=True):
            history.record({"$ActiveTasks": age, **STEADY, **given}, now - age * autoscale.SAMPLE_PERIOD)
        return history

    return made


@pytest.fixture(scope="session")
def past(fill: Callable[..., autoscale.SampleHistory]) -> autoscale.SampleHistory:
    """The newest two samples are not visible yet: the newest a formula sees is 60 s old."""
    return fill(range(401))


@pytest.fixture(scope="session")
def pool() -> autoscale.PoolNow:
    return autoscale.PoolNow(
        target_dedicated=5, target_low_priority=1, values={"$CurrentDedicatedNodes": 10, "$TaskSlotsPerNode": 4}
    )


@pytest.fixture
def run(past: autoscale.SampleHistory, pool: autoscale.PoolNow, now: datetime) -> Callable[[str], autoscale.Evaluation]:
    """Runs a formula against that past."""
    return lambda formula: autoscale.evaluate(formula, past, now, pool)
