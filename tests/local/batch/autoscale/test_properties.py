"""Whatever the text, a formula has a result or an AutoscaleError, never anything else."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from azbatchwrap.local.batch import autoscale

NOW = datetime(2016, 10, 13, 19, 18, 47, tzinfo=timezone.utc)
NAMES = [
    "x", "$y", "$TargetDedicatedNodes", "$TargetLowPriority", "$NodeDeallocationOption", "$ActiveTasks",
    "$CPUPercent", "TimeInterval_Minute", "TimeInterval_Year", "TimeInterval_Zero", "requeue", "nothing",
]  # fmt: skip
NUMBERS = ["0", "1", "2.5", "70", "1e308", "1e-320", "9007199254740993"]
TEXTS = [
    '""', '"2016-10-13"', '"Thu, 13 Oct 2016 19:18:47 GMT"', '"Mon, 99 Jan"', '"0001-01-01T00:00+14:00"',
    '"9999-12-31"', '"Fri, 31 Dec 9999 23:59:00 -1400"', '"2016-01-01T00:00+99:99"',
]  # fmt: skip
FUNCTIONS = [
    "avg", "ceil", "floor", "len", "lg", "ln", "log", "max", "min", "norm", "percentile", "rand", "range", "round",
    "std", "stop", "sum", "time", "val", "vec", "foo",
]  # fmt: skip
METHODS = ["GetSample", "GetSamplePercent", "GetSamplePeriod", "Count", "HistoryBeginTime", "Foo"]
MEMBERS = ["year", "weekday", "second", "foo"]
OPERATORS = ["+", "-", "*", "/", "<", "<=", "==", ">=", ">", "!=", "&&", "||"]

atoms = st.sampled_from(NAMES + NUMBERS + TEXTS)


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(OPERATORS), inner),
        st.builds("({})".format, inner),
        st.builds("{}{}".format, st.sampled_from("-!"), inner),
        st.builds("{} ? {} : {}".format, inner, inner, inner),
        st.builds("{}({})".format, st.sampled_from(FUNCTIONS), arguments),
        st.builds("{}.{}({})".format, st.sampled_from(NAMES), st.sampled_from(METHODS), arguments),
        st.builds("({}).{}".format, inner, st.sampled_from(MEMBERS)),
    )


expressions = st.recursive(atoms, grow, max_leaves=10)
statements = st.one_of(expressions, st.builds("{} = {}".format, st.sampled_from(NAMES), expressions))
formulas = st.lists(statements, min_size=1, max_size=5).map(";\n".join)
noise = st.text(st.sampled_from('$x1.e=<>!&|?:;,()"+-*/ \n_tim'), max_size=50)


@settings(max_examples=500, deadline=None)
@given(formulas)
def test_a_random_formula_has_a_result_or_an_autoscale_error(formula: str) -> None:
    outcome(formula)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | noise)
def test_random_text_has_a_result_or_an_autoscale_error(text: str) -> None:
    outcome(text)


def outcome(formula: str) -> None:
    history = autoscale.SampleHistory()
    for age in range(30, -1, -1):
        history.record({"$ActiveTasks": age}, NOW - age * autoscale.SAMPLE_PERIOD)
    with contextlib.suppress(autoscale.AutoscaleError):
        evaluation = autoscale.evaluate(formula, history, NOW, autoscale.PoolNow(5, 1))
        assert evaluation.results.startswith(f"$TargetDedicatedNodes={evaluation.dedicated};")
        assert 0 <= evaluation.dedicated < 1 << 31
        assert evaluation.deallocation_option in autoscale.DEALLOCATION_OPTIONS
