"""What identifies a call, how it is written, and how values travel: without any service."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.batch.sessions.calls import Call, Caller, Options, depends_on
from azbatchwrap.batch.sessions.future import Future
from azbatchwrap.batch.sessions.values import packed, unpacked
from azbatchwrap.engine import values as node
from azbatchwrap.engine.facts import Facts
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError


def make(caller: Caller, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return caller.make(None, function, args, kwargs, after=(), options=Options())


def test_equal_calls_have_the_same_ids_in_every_run(work: ModuleType) -> None:
    runs = []
    for _ in range(2):
        caller = Caller(by_pickle=False)
        calls = [make(caller, work.square, n) for n in (1, 2, 1)] + [make(caller, work.Shop.price, n=1)]
        runs.append([call.future.task_id for call in calls])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 4
    assert runs[0][2] == f"{runs[0][0]}-2"
    assert runs[0][3].startswith("Shop-price-")


def test_what_makes_calls_different(work: ModuleType) -> None:
    caller = Caller(by_pickle=False)
    parent = make(caller, work.square, 1).future
    made = [
        make(caller, work.square, 2),
        make(caller, work.add, 2),
        make(caller, work.square, parent),
        caller.make(None, work.square, (2,), {}, after=[parent], options=Options()),
        caller.make(None, work.square, (2,), {}, after=(), options=Options(retries=1)),
    ]
    assert len({call.future.task_id for call in made}) == len(made)
    assert [call.parents for call in made] == [(), (), (parent,), (parent,), ()]
    assert [call.marked for call in made] == [False, False, True, False, False]


def test_calls_that_the_service_cannot_hold_wait_here(work: ModuleType) -> None:
    caller = Caller(by_pickle=False)
    few = [Future(None, f"task-{n:020}") for n in range(10)]  # type: ignore[arg-type]
    many = [Future(None, f"task-{n:020}") for n in range(3000)]  # type: ignore[arg-type]
    numbered = [Future(None, str(n)) for n in range(100_000)]  # type: ignore[arg-type]
    ignoring = Options(on_failure="ignore")
    held = [
        caller.make(None, work.total, (parents,), {}, after=(), options=options).is_held
        for parents, options in (
            (few, Options()),
            (few, ignoring),
            (many, Options()),
            (numbered, Options()),
            ((), ignoring),
        )
    ]
    assert held == [False, True, True, False, False]


def test_numbers_in_a_row_become_ranges() -> None:
    assert depends_on(["a", "5", "6", "7", "b", "9"]) == {
        "taskIds": ["a", "b"],
        "taskIdRanges": [{"start": 5, "end": 7}, {"start": 9, "end": 9}],
    }
    assert depends_on(["a"]) == {"taskIds": ["a"]}


def test_options_as_a_user_writes_them(work: ModuleType) -> None:
    options = Options.of({"timeout": "10m", "retries": 2, "retry_on": (work.Odd, KeyError), "inputs": ["a.txt"]})
    assert options.timeout == 600
    assert options.retry_on == (f"{work.__name__}.Odd", "builtins.KeyError")
    for wrong in ({"retry": 1}, {"on_failure": "maybe"}, {"retries": -1}, {"slots": 0}, {"upstream_retries": 0}):
        with pytest.raises(ConfigurationError):
            Options.of(wrong)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANYTHING = st.recursive(
    JSON
    | st.binary()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.sets(st.integers(), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def there_and_back(value: Any, *, by_pickle: bool) -> Any:
    """Through the client's packing, the node's unpacking and packing, and the client's unpacking."""
    sent, marked = packed(value, lambda _value: None, by_pickle=by_pickle, where="it")
    arrived = node.unpack(sent, Facts({}, "", "")) if marked else sent
    return unpacked(node.pack(arrived, by_pickle=by_pickle), by_pickle=by_pickle)


@given(JSON)
def test_json_travels_as_it_is(value: Any) -> None:
    assert there_and_back(value, by_pickle=False) == value


@given(ANYTHING)
def test_with_pickle_everything_travels(value: Any) -> None:
    found = there_and_back(value, by_pickle=True)
    assert found == value
    assert type(found) is type(value)


def test_numpy_travels() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(12, dtype="float32").reshape(3, 4)
    back = there_and_back(array, by_pickle=False)
    assert back.dtype == array.dtype
    assert (back == array).all()
    assert there_and_back({"a": [np.int64(3), np.float64(0.5)]}, by_pickle=False) == {"a": [3, 0.5]}


def test_pandas_travels() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}, index=["first", "second"])
    assert there_and_back(frame, by_pickle=False).equals(frame)
    for series in (frame["x"], frame["y"].rename(None), frame.set_index("x")["y"]):
        back = there_and_back([series], by_pickle=False)[0]
        assert back.equals(series)
        assert (back.name, back.index.name) == (series.name, series.index.name)


def test_a_result_that_is_not_read_here() -> None:
    pickled = {"$azbatchwrap": "pickle", "python": [2, 7], "data": ""}
    with pytest.raises(AzBatchWrapError, match="pickle=True"):
        unpacked(pickled, by_pickle=False)
    with pytest.raises(AzBatchWrapError, match=r"Python 2\.7"):
        unpacked([pickled], by_pickle=True)
