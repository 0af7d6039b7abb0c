"""What a session promises, over the real services."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch.service import at
from azbatchwrap.batch.sessions import Session, as_completed
from azbatchwrap.errors import ConfigurationError, DependencyFailed, TaskFailed
from azbatchwrap.progress import LineProgress
from tests.waiting import wait_until

DEADLINE = 60.0
Open = Callable[..., Session]


def is_alive(process: int) -> bool:
    """Whether it runs; one that has ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_calls_give_values(shared: Session, work: ModuleType) -> None:
    one = shared.submit(work.square, 7)
    many = shared.map(work.add, [1, 2, 3], [10, 20, 30])
    starred = shared.starmap(work.add, [(1, 2), (3, 4)])
    method = shared.submit(work.Shop.price, n=3)
    builtin = shared.submit(pow, 2, 10)
    swept = shared.sweep(work.add, {"a": [1, 2], "b": [10, 20]})
    assert one.result(DEADLINE) == 49
    assert shared.gather(many) == [11, 22, 33]
    assert shared.gather(starred) == [3, 7]
    assert shared.gather(one, many, starred[0]) == [49, 11, 22, 33, 3]
    assert one.job_id in repr(shared)
    assert (method.result(DEADLINE), builtin.result(DEADLINE)) == (30, 1024)
    assert [(future.point, future.result(DEADLINE)) for future in swept] == [
        ({"a": 1, "b": 10}, 11), ({"a": 1, "b": 20}, 21), ({"a": 2, "b": 10}, 12), ({"a": 2, "b": 20}, 22),
    ]  # fmt: skip


def test_an_exception_comes_back_as_itself(shared: Session, work: ModuleType) -> None:
    future = shared.submit(work.fail, 3)
    with pytest.raises(work.Odd) as caught:
        future.result(DEADLINE)
    assert caught.value.args == ("odd", 3)
    cause = str(caught.value.__cause__)
    assert 'raise Odd("odd", x)' in cause
    assert "the last words of 3" in cause
    assert future.record is not None
    assert future.record.node_id in cause


def test_futures_can_be_awaited(shared: Session, work: ModuleType) -> None:
    async def both() -> list[Any]:
        return await asyncio.gather(shared.submit(work.square, 3), shared.submit(work.square, 4))

    assert asyncio.run(both()) == [9, 16]


def test_results_of_others_are_arguments(shared: Session, work: ModuleType) -> None:
    squares = shared.map(work.square, range(1, 5))
    merged = shared.merge(work.total, squares)
    added = shared.submit(work.add, squares[0], b=merged)
    chained = shared.chain([work.square, work.square, work.square], 2)
    assert merged.result(DEADLINE) == 30
    assert added.result(DEADLINE) == 31
    assert chained.result(DEADLINE) == 256


def test_arrays_have_numbers_and_ranges(shared: Session, work: ModuleType) -> None:
    squares = shared.array(work.square, 12)
    others = shared.array(work.add, 3, 100)
    merged = shared.merge(work.total, [*squares, *others])
    assert [future.result(DEADLINE) for future in squares] == [number * number for number in range(12)]
    assert [future.result(DEADLINE) for future in others] == [100, 101, 102]
    assert merged.result(DEADLINE) == 506 + 303
    numbers = [int(future.task_id) for future in squares]
    assert numbers == list(range(numbers[0], numbers[0] + 12))
    task = shared.manager.service.get(at("jobs", merged.job_id, "tasks", merged.task_id))
    assert [(one["start"], one["end"]) for one in task["dependsOn"]["taskIdRanges"]] == [
        (numbers[0], numbers[-1]),
        (int(others[0].task_id), int(others[-1].task_id)),
    ]
    with pytest.raises(ConfigurationError, match="1 to 100000"):
        shared.array(work.square, 100_001)


def test_what_depends_on_a_failure_fails_or_goes_on(shared: Session, work: ModuleType) -> None:
    failed = shared.submit(work.fail, 1)
    child = shared.submit(work.add, failed, 1)
    grandchild = shared.submit(work.square, 5, after=[child])
    ignoring = shared.options(on_failure="ignore").submit(work.total, [failed, shared.submit(work.square, 2)])
    with pytest.raises(DependencyFailed, match=failed.task_id):
        child.result(DEADLINE)
    with pytest.raises(DependencyFailed, match=child.task_id):
        grandchild.result(DEADLINE)
    assert ignoring.result(DEADLINE) == 4


def test_what_failed_upstream_is_run_again_on_request(shared: Session, work: ModuleType, tmp_path: Path) -> None:
    retrying = shared.options(on_failure="retry")
    with shared.batch():  # nothing has run before the child is known
        first = shared.submit(work.fail_once, str(tmp_path / "early"))
        child = retrying.submit(work.largest, first)
    assert child.result(DEADLINE)["again"] == "second"
    assert first.result(DEADLINE) == "second"
    failed = shared.submit(work.fail_once, str(tmp_path / "late"))
    assert isinstance(failed.exception(DEADLINE), work.Odd)
    late = [retrying.submit(work.largest, failed), retrying.submit(work.square, 3, after=[failed])]
    assert [future.result(DEADLINE) for future in late] == [{"length": 6, "again": "second"}, 9]
    assert isinstance(failed.exception(), work.Odd)


def test_upstream_retries_come_to_an_end(shared: Session, work: ModuleType, tmp_path: Path) -> None:
    hopeless = shared.submit(work.note_and_fail, str(tmp_path))
    child = shared.options(on_failure="retry", upstream_retries=2).submit(work.square, 4, after=[hopeless])
    grandchild = shared.options(on_failure="retry").submit(work.square, 5, after=child)
    for future in (child, grandchild):
        with pytest.raises(DependencyFailed):
            future.result(DEADLINE)
    assert len(list(tmp_path.iterdir())) == 3


def test_retries_and_limits(shared: Session, work: ModuleType, tmp_path: Path) -> None:
    again = shared.options(retries=2, retry_on=work.Odd).submit(work.fail_once, str(tmp_path / "flag"))
    other = shared.options(retries=2, retry_on=(KeyError,)).submit(work.fail, 9)
    late = shared.options(timeout=0.5).submit(work.hold, str(tmp_path))
    assert again.result(DEADLINE) == "second"
    with pytest.raises(work.Odd):
        other.result(DEADLINE)
    assert other.record is not None
    assert other.record.attempts == 1
    with pytest.raises(TimeoutError, match="limit"):
        late.result(DEADLINE)


def test_cancelling_reaches_the_node(shared: Session, work: ModuleType, tmp_path: Path) -> None:
    future = shared.submit(work.hold, str(tmp_path))
    assert next(future.stream()) == "begun"
    assert future.running()
    assert future.stdout() == "begun\n"
    process = int(wait_until((tmp_path / "running").read_text, "the task"))
    assert future.cancel()
    assert future.cancelled()
    assert concurrent.futures.wait([future], 1).done == {future}
    wait_until(lambda: not is_alive(process), "the end of the task's process")


def test_files_in_and_out(open_session: Open, work: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data of today.txt").write_text("in")
    session = open_session(inputs=[tmp_path / "data of today.txt"])
    future = session.submit(work.give, "out.txt")
    assert future.files() == ["out.txt"]
    assert "data of today.txt" in future.result()
    assert [path.name for path in future.download(tmp_path / "one") if path.name == "out.txt"] == ["out.txt"]
    session.outputs.download(tmp_path / "all")
    assert (tmp_path / "all" / future.task_id / "out.txt").read_text() == "given"


def test_what_was_written_is_kept_and_empty_streams_are_not(shared: Session, work: ModuleType) -> None:
    spoke, silent = shared.submit(work.speak, "grüß dich"), shared.submit(work.square, 77)
    assert (spoke.result(DEADLINE), silent.result(DEADLINE)) == (None, 5929)
    storage = shared.manager.storage
    kept = {
        future: {
            blob.name.rpartition("/")[2]
            for blob in storage.list_blobs(storage.output_container, f"{future.job_id}/{future.task_id}/")
        }
        for future in (spoke, silent)
    }
    assert kept == {spoke: {"result.json", "stdout.txt"}, silent: {"result.json"}}
    assert (spoke.stdout(), spoke.stderr(), silent.stdout()) == ("grüß dich\n", "", "")


def test_integers_of_any_size_travel(shared: Session, work: ModuleType) -> None:
    large = shared.submit(work.square, 2**80)
    assert large.result(DEADLINE) == 2**160
    assert shared.submit(work.add, large, 1).result(DEADLINE) == 2**160 + 1
    assert shared.submit(work.total, [large, -(2**70), 3]).result(DEADLINE) == 2**160 - 2**70 + 3


def test_a_module_that_nodes_do_not_have(shared: Session, work: ModuleType) -> None:
    with pytest.raises(ModuleNotFoundError, match="pytest") as caught:
        shared.submit(work.use_pytest).result(DEADLINE)
    assert "requirements.txt among the inputs" in str(caught.value.__cause__)
    with pytest.raises(ModuleNotFoundError, match="pytest"):
        shared.submit(pytest.approx, 1).result(DEADLINE)


def test_arguments_without_end_are_refused(shared: Session, work: ModuleType) -> None:
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ConfigurationError, match=r"argument 1 of square.* holds itself"):
        shared.submit(work.square, itself)


def test_large_values_travel(shared: Session, work: ModuleType) -> None:
    text = "ä" * 100_000
    assert shared.submit(work.largest, text).result(DEADLINE) == {"length": 100_000, "again": text}


def test_pickles_only_where_asked_for(shared: Session, open_session: Open, work: ModuleType) -> None:
    with pytest.raises(ConfigurationError, match=r"argument 1 of square is a set.*pickle=True"):
        shared.submit(work.square, {1, 2})
    with pytest.raises(TaskFailed, match=r"JSON cannot hold.*pickle=True"):
        shared.submit(work.a_set).result(DEADLINE)
    pickling = open_session(pickle=True)
    assert pickling.submit(work.answer, "tuple").result(DEADLINE) == (1, "a")
    assert pickling.submit(work.answer, "bytes").result(DEADLINE) == b"raw"
    assert pickling.submit(work.add, (1,), b=(2,)).result(DEADLINE) == (1, 2)
    with pytest.raises(ConfigurationError, match="cannot be pickled"):
        pickling.submit(work.square, lambda: 1)


def test_functions_that_no_node_can_find(shared: Session, work: ModuleType) -> None:
    def inner() -> None:
        """Not at module level."""

    cases = {
        "a lambda cannot run": lambda: 1,
        "defined inside a function": inner,
        "functools.partial": __import__("functools").partial(work.square, 1),
        "method of an object": io.StringIO("").read,
    }
    for words, function in cases.items():
        with pytest.raises(ConfigurationError, match=words):
            shared.submit(function)


def test_as_completed_shows_how_far_it_is(shared: Session, work: ModuleType) -> None:
    shown = io.StringIO()
    futures = [*shared.map(work.square, range(3)), shared.submit(work.fail, 0)]
    assert set(as_completed(futures, DEADLINE, progress=LineProgress(shown))) == set(futures)
    assert "tasks, 1 failed: 4/4" in shown.getvalue()


def test_one_batch_and_at_most_one_running(open_session: Open, work: ModuleType, tmp_path: Path) -> None:
    session = open_session(at_most=1)
    with session.batch():
        futures = [session.submit(work.note, str(tmp_path), f"n{number}") for number in range(3)]
        time.sleep(0.1)
        assert not any(future.job_id for future in futures)
    assert session.gather(futures) == ["n0", "n1", "n2"]
    spans = sorted((future.record.started, future.record.ended) for future in futures if future.record)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_no_key_reaches_a_task(shared: Session, work: ModuleType) -> None:
    seen = shared.submit(work.environment).result(DEADLINE)
    account = shared.manager.settings
    assert account.batch.key is not None
    assert account.batch.key.reveal() not in str(seen)
    assert "AccountKey" not in str(seen)
    assert os.environ.get("HOME") != seen["HOME"]
