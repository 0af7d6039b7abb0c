"""The order of steps, and what a failure stops."""

from __future__ import annotations

import threading

import pytest

from azbatchwrap.pipelines import scheduler


def test_everything_runs_after_what_it_needs() -> None:
    done: list[str] = []
    needs = {"c": {"a", "b"}, "b": {"a"}, "a": {"not a job"}}
    scheduler.run({key: lambda key=key: done.append(key) for key in "cba"}, needs, lambda: None)
    assert done == ["a", "b", "c"]


def test_what_needs_nothing_of_each_other_runs_together() -> None:
    together = threading.Barrier(scheduler.WORKERS, timeout=10)
    jobs = {str(number): lambda: together.wait() and None for number in range(scheduler.WORKERS)}
    scheduler.run(jobs, {}, lambda: None)
    assert not together.broken


def test_after_a_failure_nothing_begins_and_what_runs_ends() -> None:
    failed, done = threading.Event(), []

    def fail() -> None:
        failed.set()
        raise ValueError("no")

    def last() -> None:
        assert failed.wait(10)
        done.append("last")

    jobs = {"fails": fail, "last": last, "after": lambda: done.append("after")}
    with pytest.raises(ValueError, match="no"):
        scheduler.run(jobs, {"after": {"last"}}, lambda: None)
    assert done == ["last"]
    many = {str(number): (fail if number == 0 else lambda: done.append("late")) for number in range(50)}
    with pytest.raises(ValueError, match="no"):
        scheduler.run(many, {str(number): {"0"} for number in range(1, 50)}, lambda: None)
    assert "late" not in done
