"""What a batch leaves on disk, and how it goes on from there."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.batchkit import BatchRunSummarizer, WorkItemResult, in_process
from azbatchwrap.batchkit.journal import RunPaths, read_record, read_records, record_line, save_state
from azbatchwrap.batchkit.report import gather, page
from azbatchwrap.batchkit.summary import read_summary
from azbatchwrap.batchkit.types import ItemRecord
from tests.batchkit.conftest import Run, dispatching
from tests.batchkit.consumer import Words, batch_of

HERE = [in_process("here", lambda _: b"{}")]

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.text(), st.text(), _json, st.booleans(), st.text())
def test_a_record_is_one_line_and_comes_back(
    identity: str, fingerprint: str, value: Any, passed: bool, reason: str
) -> None:
    result = WorkItemResult(passed=passed, value=value, failed_reason=reason, details={"a": 1})
    record = ItemRecord(identity, fingerprint, result, "e", 3, 0.5, 12.25)
    line = record_line(record)
    assert b"\n" not in line
    assert read_record(line) == record


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"id": 1}', b"\x00\x00"])
def test_a_torn_line_is_no_record(line: bytes) -> None:
    assert read_record(line) is None


async def test_a_run_that_was_cut_off_goes_on_after_its_last_whole_line(tmp_path: Path, run_batch: Run) -> None:
    folder = tmp_path / "output"
    await run_batch(HERE, batch_of(["a", "b", "c"]), folder=folder)
    paths = RunPaths(folder)
    whole = paths.results.read_bytes()
    paths.results.write_bytes(whole[:-20])  # as after a power failure
    save_state(paths, "running", 1000.0)
    outcome = await run_batch(HERE, batch_of(["a", "b", "c", "d"]), folder=folder)
    assert outcome.ids == ["a", "b", "c", "d"]
    assert outcome.counts.cached == 0
    assert len(outcome.summary["processed_files"]) == 4
    assert outcome.summary["overall_summary"]["run_stats"]["time_elapsed_seconds"] > 1000


async def test_without_reuse_an_ended_run_is_done_anew(tmp_path: Path, run_batch: Run) -> None:
    folder = tmp_path / "output"
    await run_batch(HERE, batch_of(["a"]), folder=folder)
    async with dispatching(HERE) as dispatcher:
        batch = await dispatcher.submit(batch_of(["a"]), folder, reuse=False)
        await batch.done.wait()
    assert (batch.counts.passed, batch.counts.cached) == (1, 0)


async def test_a_full_disk_loses_no_result(tmp_path: Path, run_batch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk cannot be filled in a test, so the system call says that it is: whole, in part, not at all."""
    write, luck = os.write, random.Random(7)
    hits: set[str] = set()

    def unreliable(descriptor: int, data: bytes) -> int:
        if not data.startswith(b'{"id"') or luck.random() > 0.8:
            return write(descriptor, data)
        if luck.random() < 0.5:
            hits.add("full")
            raise OSError(errno.ENOSPC, "No space left on device")
        hits.add("part")
        return write(descriptor, data[: max(1, len(data) // 2)])

    monkeypatch.setattr("azbatchwrap.batchkit.journal.FULL_DISK_INTERVAL", 0.01)
    monkeypatch.setattr("azbatchwrap.batchkit.journal.os.write", unreliable)
    words = [f"word {n}" for n in range(300)]
    outcome = await run_batch(HERE, batch_of(words))
    assert outcome.ids == sorted(words)
    assert hits


class Broken(BatchRunSummarizer):
    """A consumer's summarizer may be wrong."""

    def add(self, record: ItemRecord) -> None:
        raise KeyError("oh")


class BrokenEnd(Words):
    """So may its end."""

    def get_batch_run_summarizer(self) -> BatchRunSummarizer:
        return Broken()

    def finish(self, *, complete: bool) -> None:
        raise ValueError(f"finish with complete={complete}")


async def test_faults_of_the_consumers_code_cost_no_item(run_batch: Run) -> None:
    request = batch_of(["a", "b"])
    request.__class__ = BrokenEnd
    outcome = await run_batch(HERE, request)
    assert outcome.ids == ["a", "b"]
    assert len(outcome.summary["processed_files"]) == 2
    assert "complete=True" in str(outcome.fault)


async def test_the_head_of_a_summary_is_read_alone(tmp_path: Path, run_batch: Run) -> None:
    folder = tmp_path / "output"
    outcome = await run_batch(HERE, batch_of(["a", "b"]), folder=folder)
    paths = RunPaths(folder)
    assert read_summary(paths.summary) == outcome.summary["overall_summary"]
    assert not list(folder.glob(".*tmp"))
    assert json.loads(paths.state.read_text())["state"] == "finished"


def test_a_report_counts_what_is_there() -> None:
    def record(n: int) -> ItemRecord:
        result = WorkItemResult(passed=n % 10 > 0, error_type="E", failed_reason="<script>" if n % 10 == 0 else None)
        return ItemRecord(str(n), "", result, f"e{n % 3}", 1 + n % 2, 0.001 * n, 1000.0 + n / 10)

    figures = gather(record(n) for n in range(500))
    assert (figures.passed, figures.failed, figures.retried) == (450, 50, 250)
    assert sum(figures.seconds.values()) == sum(figures.latencies.values()) == 500
    text = page("a <title>", figures)
    assert "<script>" not in text
    assert "a &lt;title&gt;" in text
    assert "50 times E" in text


def test_reading_results_that_are_not_there_is_nothing(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "none.jsonl")) == []
