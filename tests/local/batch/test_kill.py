"""A short form of tests/stress/local_batch_kill.py: the service is killed again and again under a busy client."""

from __future__ import annotations

from pathlib import Path

from tests.stress.local_batch_kill import torture


def test_kills_lose_no_task_and_end_none_twice(tmp_path: Path) -> None:
    seen, runs = torture(tmp_path, tasks=300, every=0.5, seconds=0.0, least=3, patience=90.0)
    assert seen.faults == []
    assert seen.kills == 3
    assert (seen.added, len(seen.ended), len(runs)) == (300, 300, 300)
