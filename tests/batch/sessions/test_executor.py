"""`SessionExecutor` is an executor of the standard library: CPython's own checks of executors, as far as they apply.

Pythons that bring their tests along, or have them from Debian's package, run CPython's mixins as well.
What does not apply: methods of objects (their code and state stay here), and what tests threads or forks.
"""

from __future__ import annotations

import gc
import importlib
import secrets
import shutil
import sys
import sysconfig
import time
import unittest
import weakref
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import CancelledError
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch.sessions import SessionExecutor
from tests.fixtures_stack import LocalStack

DEADLINE = 60.0


@pytest.fixture
def make(local_stack: LocalStack, pool_id: str) -> Iterator[Any]:
    made: list[SessionExecutor] = []

    def executor(max_workers: int | None = None, **arguments: Any) -> SessionExecutor:
        settings = local_stack.settings(project="sessions")
        made.append(SessionExecutor(max_workers, settings=settings, pool=pool_id, **arguments))
        return made[-1]

    yield executor
    for one in made:
        one.session.close(wait=False, cancel=True)


@pytest.fixture(scope="module")
def executor(local_stack: LocalStack, pool_id: str) -> Iterator[SessionExecutor]:
    with SessionExecutor(settings=local_stack.settings(project="sessions"), pool=pool_id) as one:
        yield one


def ended(result: Any = None, error: Exception | None = None) -> futures.Future[Any]:
    future: futures.Future[Any] = futures.Future()
    future.set_running_or_notify_cancel()
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    return future


def test_submit(executor: SessionExecutor, work: ModuleType) -> None:
    assert executor.submit(pow, 2, 8).result(DEADLINE) == 256
    assert executor.submit(work.capture, 1, self=2, fn=3).result(DEADLINE) == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor.submit(fn=work.capture, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(arg=1)  # type: ignore[call-arg]


def test_map(executor: SessionExecutor) -> None:
    expected = list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(10))) == expected
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == expected


def test_map_exception(executor: SessionExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_timeout(executor: SessionExecutor) -> None:
    with pytest.raises(futures.TimeoutError):
        list(executor.map(time.sleep, [0, 60], timeout=1))


def test_wait_and_as_completed(executor: SessionExecutor) -> None:
    slow = executor.submit(time.sleep, 60)
    fast = executor.submit(pow, 2, 2)
    good, bad = ended(1), ended(error=OSError())
    done, waiting = futures.wait([slow, fast], DEADLINE, futures.FIRST_COMPLETED)
    assert (done, waiting) == ({fast}, {slow})
    failing = executor.submit(divmod, 1, 0)
    done, waiting = futures.wait([failing, slow], DEADLINE, futures.FIRST_EXCEPTION)
    assert (done, waiting) == ({failing}, {slow})
    assert futures.wait([good, bad, slow], 0.05).not_done == {slow}
    assert set(futures.as_completed([good, bad, fast, failing, fast])) == {good, bad, fast, failing}
    with pytest.raises(futures.TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        list(futures.as_completed([good, slow], 0.05))
    assert slow.cancel()
    with pytest.raises(CancelledError):
        slow.result(0)


def test_callbacks_and_states(executor: SessionExecutor) -> None:
    heard: list[Any] = []
    future = executor.submit(pow, 3, 3)
    future.add_done_callback(heard.append)
    assert future.exception(DEADLINE) is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()
    assert heard == [future]


def test_results_are_not_held(executor: SessionExecutor, work: ModuleType) -> None:
    for result in executor.map(work.make_thing, range(3)):
        known = weakref.ref(result)
        del result
        deadline = time.monotonic() + DEADLINE
        while known() is not None:
            assert time.monotonic() < deadline, "the result is held after its future is gone"
            gc.collect()
            time.sleep(0.01)


def test_shutdown(make: Any) -> None:
    executor = make()
    given = [executor.submit(time.sleep, 0.01) for _ in range(8)]
    executor.shutdown()
    assert [future.result(0) for future in given] == [None] * 8
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 5)


def test_shutdown_cancels_what_does_not_run(make: Any) -> None:
    executor = make(max_workers=2)
    given = [executor.submit(time.sleep, 1) for _ in range(8)]
    futures.wait(given, 30, futures.FIRST_COMPLETED)
    executor.shutdown(cancel_futures=True)
    cancelled = [future for future in given if future.cancelled()]
    others = [future for future in given if not future.cancelled()]
    assert len(cancelled) >= 2
    assert others
    assert all(future.done() and future.exception() is None for future in others)


def test_shutdown_without_waiting(make: Any) -> None:
    executor = make()
    future = executor.submit(pow, 2, 5)
    executor.shutdown(wait=False)
    assert future.result(DEADLINE) == 32


def test_a_number_of_workers_is_positive(make: Any) -> None:
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            make(number)


#: CPython's mixins, by the file of its package since 3.12 (before that, one file has them all), and what of them does
#: not apply: methods of objects, programs that look for the executor in ``concurrent.futures``, and that a worker has
#: begun by the time `shutdown` is called.
CPYTHON = {
    "executor": ("ExecutorTest", {"test_no_stale_references"}),
    "test_shutdown": (
        "ExecutorShutdownTest",
        {
            "test_interpreter_shutdown",
            "test_submit_after_interpreter_shutdown",
            "test_hang_gh83386",
            "test_cancel_futures",
        },
    ),
    "test_as_completed": ("AsCompletedTests", set()),
    "test_wait": ("WaitTests", set()),
}


def cpython_tests() -> Path | None:
    """CPython's own tests of executors, a file or a folder, where this Python or Debian's package has brought them."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for folder in (Path(sysconfig.get_path("stdlib")), Path(f"/usr/lib/python{version}")):
        for name in ("test_concurrent_futures", "test_concurrent_futures.py"):
            if (path := folder / "test" / name).exists():
                return path
    return None


@pytest.fixture(scope="module")
def cpython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name under which those tests can be imported, as modules of the user's own: so they travel to the nodes."""
    found = cpython_tests()
    if found is None:
        pytest.skip("this Python came without its tests (Debian: apt-get install libpython3.X-testsuite)")
    folder, name = tmp_path_factory.mktemp("cpython"), f"cpython_executors_{secrets.token_hex(3)}"
    if found.is_dir():
        shutil.copytree(found, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(found, folder / f"{name}.py")
    sys.path.insert(0, str(folder))
    yield name
    sys.path.remove(str(folder))


@pytest.mark.parametrize("part", CPYTHON)
def test_as_cpython_tests_its_own(make: Any, cpython: str, part: str) -> None:
    mixin, inapplicable = CPYTHON[part]
    whole = importlib.import_module(cpython)
    tests = importlib.import_module(f"{cpython}.{part}") if hasattr(whole, "__path__") else whole

    class Case(getattr(tests, mixin), unittest.TestCase):  # type: ignore[misc]
        worker_count = 4
        executor_type = SessionExecutor

        def setUp(self) -> None:
            self.executor = make(self.worker_count)

        def tearDown(self) -> None:
            self.executor.session.close(wait=False, cancel=True)

    names = [name for name in unittest.defaultTestLoader.getTestCaseNames(Case) if name not in inapplicable]
    result = unittest.TestSuite(map(Case, names)).run(unittest.TestResult())
    assert result.testsRun == len(names) > 0
    assert [(str(case), text) for case, text in [*result.failures, *result.errors, *result.skipped]] == []
