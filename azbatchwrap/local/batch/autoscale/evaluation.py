"""Runs a formula against a pool's samples."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

from . import functions
from .errors import EVALUATION, INSUFFICIENT, AutoscaleError
from .samples import METRICS, SAMPLE_PERIOD, Sample, SampleSource
from .syntax import (
    Assignment,
    Call,
    Chain,
    Choice,
    Constant,
    Expression,
    Member,
    MethodCall,
    Name,
    Position,
    Statement,
    Unary,
)
from .values import INTERVALS, Interval, Timestamp, Value, binary, member, read_time, show, type_name, unary

DEALLOCATION_OPTIONS: Final = frozenset({"requeue", "terminate", "taskcompletion", "retaineddata"})
#: What GetSample over a time wants where the formula does not say. Inferred from the service's documented answer
#: to such a formula on a pool without data: "wanted 10%, received 0%".
DEFAULT_SAMPLE_PERCENT: Final = 10.0

_DEDICATED: Final = "$TargetDedicatedNodes"
_LOW_PRIORITY: Final = "$TargetLowPriorityNodes"
_OPTION: Final = "$NodeDeallocationOption"
#: Two names of one target, each way. The full name wins where a formula sets both.
_OTHER_NAME: Final = {
    "$TargetDedicated": _DEDICATED,
    _DEDICATED: "$TargetDedicated",
    "$TargetLowPriority": _LOW_PRIORITY,
    _LOW_PRIORITY: "$TargetLowPriority",
}
#: Names of earlier versions of the service.
_METRIC_OF: Final = {**{name: name for name in METRICS}, "$CurrentDedicated": "$CurrentDedicatedNodes"}
_MAX_TARGET: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class PoolNow:
    """A pool as a formula finds it: its targets, and metrics' values at this moment where they are known."""

    target_dedicated: int = 0
    target_low_priority: int = 0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a formula came to. ``results`` is the text of the service's autoscale runs."""

    dedicated: int
    low_priority: int
    deallocation_option: str
    results: str
    variables: Mapping[str, Value]


class _Stop(Exception):
    """The formula wants no further statement."""


def check(formula: str) -> None:
    """Raises AutoscaleError (``is_refusal``) when ``formula`` may not be set on a pool."""
    _statements(formula)


def evaluate(
    formula: str,
    samples: SampleSource,
    now: datetime,
    pool: PoolNow | None = None,
    *,
    rand: Callable[[], float] = random.random,
) -> Evaluation:
    """Run ``formula`` at the aware time ``now``. Raises AutoscaleError; its ``results`` then tell the old targets."""
    run = _Run(samples, now.astimezone(timezone.utc), pool or PoolNow(), rand)
    try:
        return run.outcome(_statements(formula))
    except AutoscaleError as error:
        error.results = run.untouched()
        raise


def _statements(formula: str) -> Sequence[Statement]:
    from .grammar import read  # the parser generator is not worth loading before the first formula

    return read(formula)


class _Run:
    """One evaluation: the variables so far and the way to values."""

    def __init__(self, samples: SampleSource, now: datetime, pool: PoolNow, rand: Callable[[], float]) -> None:
        self._samples = samples
        self._now = now
        self._pool = pool
        self._rand = rand
        self._histories: dict[str, Sequence[Sample]] = {}
        self._variables: dict[str, Value] = {}
        self._initial: dict[str, Value] = {
            _DEDICATED: float(pool.target_dedicated),
            _LOW_PRIORITY: float(pool.target_low_priority),
            _OPTION: "requeue",
        }

    def untouched(self) -> str:
        """The results of a run that failed: nothing changes."""
        return ";".join(f"{name}={show(value)}" for name, value in self._initial.items())

    def outcome(self, statements: Sequence[Statement]) -> Evaluation:
        try:
            for statement in statements:
                self._execute(statement)
        except _Stop:
            pass
        service = {name: self._service_value(name) for name in self._initial}
        own = {
            name: value
            for name, value in sorted(self._variables.items(), key=lambda item: (item[0].lower(), item[0]))
            if name not in self._initial and name not in _OTHER_NAME
        }
        results = ";".join(f"{name}={show(value)}" for name, value in {**service, **own}.items())
        targets = [int(value) for value in service.values() if isinstance(value, float)]
        return Evaluation(targets[0], targets[1], str(service[_OPTION]), results, own)

    def _service_value(self, name: str) -> Value:
        """A target as the whole number of nodes it asks for; the option as it is."""
        value = self._lookup(name)
        return float(math.floor(value)) if isinstance(value, float) else value

    def _lookup(self, name: str) -> Value:
        if name in self._variables:
            return self._variables[name]
        other = _OTHER_NAME.get(name, name)
        if other in self._variables:
            return self._variables[other]
        return self._initial[name if name in self._initial else other]

    def _execute(self, statement: Statement) -> None:
        if not isinstance(statement, Assignment):
            self._value(statement)
            return
        value = self._value(statement.value)
        self._check_assignment(statement.variable, value, statement.at)
        self._variables[statement.variable] = value

    def _check_assignment(self, name: str, value: Value, at: Position) -> None:
        if name in _METRIC_OF or name in INTERVALS or name in DEALLOCATION_OPTIONS:
            raise AutoscaleError(EVALUATION, f"'{name}' cannot be assigned to", at)
        if name == _OPTION and value not in DEALLOCATION_OPTIONS:
            options = ", ".join(sorted(DEALLOCATION_OPTIONS))
            raise AutoscaleError(EVALUATION, f"{_OPTION} must be one of {options}, not {show(value)}", at)
        if name in _OTHER_NAME and not (isinstance(value, float) and 0 <= value <= _MAX_TARGET):
            raise AutoscaleError(EVALUATION, f"{name} must be a number of nodes, not {show(value)}", at)

    def _value(self, node: Expression) -> Value:  # noqa: PLR0911 - one return for each kind of node
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Name):
            return self._named(node)
        if isinstance(node, Chain):
            return self._chain(node)
        if isinstance(node, Choice):
            chosen = node.then if self._truth(node.condition, node.at) else node.otherwise
            return self._value(chosen)
        if isinstance(node, Unary):
            value = self._value(node.operand)
            for symbol, at in reversed(node.operators):
                value = unary(symbol, value, at)
            return value
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, MethodCall):
            return self._method(node)
        return self._member(node)

    def _named(self, node: Name) -> Value:
        name = node.text
        if name in self._variables:
            return self._variables[name]
        if name in _OTHER_NAME or name == _OPTION:
            return self._lookup(name)
        if name in _METRIC_OF:
            return self._metric_now(name, node.at)
        if name in INTERVALS:
            return INTERVALS[name]
        if name in DEALLOCATION_OPTIONS:
            return name
        raise AutoscaleError(EVALUATION, f"The variable '{name}' is not defined", node.at)

    def _metric_now(self, name: str, at: Position) -> float:
        """A metric used as a number: its value at this moment, else its newest sample."""
        metric = _METRIC_OF[name]
        if metric in self._pool.values:
            return float(self._pool.values[metric])
        history = self._history(metric)
        if not history:
            raise AutoscaleError(INSUFFICIENT, f"Insufficient data from data set: {name} has no samples", at)
        return float(history[-1].value)

    def _history(self, metric: str) -> Sequence[Sample]:
        """The metric's samples, fetched once in a run."""
        if metric not in self._histories:
            self._histories[metric] = self._samples.samples(metric, self._now)
        return self._histories[metric]

    def _chain(self, node: Chain) -> Value:
        value = self._value(node.first)
        for symbol, at, operand in node.rest:
            if symbol in {"&&", "||"}:
                value = self._joined(symbol, value, operand, at)
            else:
                value = binary(symbol, value, self._value(operand), at)
        return value

    def _joined(self, symbol: str, left: Value, operand: Expression, at: Position) -> float:
        is_true = _is_true(left, at)
        if is_true == (symbol == "||"):
            return float(is_true)
        return float(self._truth(operand, at))

    def _truth(self, node: Expression, at: Position) -> bool:
        return _is_true(self._value(node), at)

    def _call(self, node: Call) -> Value:
        arguments = [self._value(argument) for argument in node.arguments]
        if node.function == "time":
            return self._time(arguments, node.at)
        if node.function not in {"stop", "rand"}:
            return functions.call(node.function, arguments, node.at)
        if arguments:
            raise AutoscaleError(EVALUATION, f"{node.function} takes no arguments", node.at)
        if node.function == "stop":
            raise _Stop
        return float(self._rand())

    def _time(self, arguments: list[Value], at: Position) -> Timestamp:
        if not arguments or arguments == [""]:
            return Timestamp.of(self._now)
        if len(arguments) > 1 or not isinstance(arguments[0], str):
            raise AutoscaleError(EVALUATION, "time takes one string at most", at)
        return read_time(arguments[0], at)

    def _member(self, node: Member) -> float:
        return member(self._value(node.owner), node.member, node.at)

    def _method(self, node: MethodCall) -> Value:
        if not isinstance(node.owner, Name) or node.owner.text not in _METRIC_OF:
            raise AutoscaleError(EVALUATION, f"Only metrics of the service have a method '{node.method}'", node.at)
        history = self._history(_METRIC_OF[node.owner.text])
        arguments = [self._value(argument) for argument in node.arguments]
        metric = _Metric(node.owner.text, history, Timestamp.of(self._now), node.at)
        return metric.call(node.method, arguments)


def _is_true(value: Value, at: Position) -> bool:
    if not isinstance(value, float):
        raise AutoscaleError(EVALUATION, f"A condition must be a double, not a {type_name(value)}", at)
    return value != 0


def _taken(sample: Sample) -> int:
    return Timestamp.of(sample.taken).ticks


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric's visible samples, and the methods a formula calls on them."""

    name: str
    history: Sequence[Sample]
    now: Timestamp
    at: Position

    def call(self, method: str, arguments: list[Value]) -> Value:
        if method == "GetSample":
            return self._get_sample(arguments)
        if method == "GetSamplePercent":
            if not 1 <= len(arguments) <= 2:
                raise self._misused(method, arguments)
            return self._percent(*self._window(method, arguments))
        if method not in {"Count", "GetSamplePeriod", "HistoryBeginTime"}:
            raise AutoscaleError(EVALUATION, f"'{self.name}' has no method '{method}'", self.at)
        if arguments:
            raise self._misused(method, arguments)
        if method == "Count":
            return float(len(self.history))
        if method == "GetSamplePeriod":
            return Interval(SAMPLE_PERIOD // timedelta(microseconds=1) * 10)
        return Timestamp.of(self.history[0].taken) if self.history else self.now

    def _get_sample(self, arguments: list[Value]) -> Value:
        if len(arguments) == 1 and isinstance(arguments[0], float):
            return self._newest(arguments[0])
        times, wanted = arguments, DEFAULT_SAMPLE_PERCENT
        if len(arguments) > 1 and isinstance(arguments[-1], float):
            times, wanted = arguments[:-1], arguments[-1]
        if not 1 <= len(times) <= 2:
            raise self._misused("GetSample", arguments)
        start, end = self._window("GetSample", times)
        received = self._percent(start, end)
        if not received >= wanted:
            detail = f"{self.name} wanted {wanted:g}%, received {int(received)}%"
            raise AutoscaleError(INSUFFICIENT, f"Insufficient data from data set: {detail}", self.at)
        return tuple(float(sample.value) for sample in self._between(start, end))

    def _newest(self, count: float) -> Value:
        if not 0 <= count <= _MAX_TARGET:
            raise AutoscaleError(EVALUATION, f"GetSample cannot take {count:g} samples", self.at)
        kept = min(int(count), len(self.history))
        return tuple(float(sample.value) for sample in self.history[len(self.history) - kept :])

    def _window(self, method: str, times: list[Value]) -> tuple[int, int]:
        """From and to, in ticks. Intervals look back from now; the order of the two does not matter."""
        bounds = []
        for time in times:
            if isinstance(time, Interval):
                bounds.append(self.now.ticks - time.ticks)
            elif isinstance(time, Timestamp):
                bounds.append(time.ticks)
            else:
                raise self._misused(method, times)
        if len(bounds) == 1:
            bounds.append(self.now.ticks)
        return min(bounds), max(bounds)

    def _between(self, start: int, end: int) -> Sequence[Sample]:
        """The samples taken after ``start``, up to ``end``."""
        first = bisect_right(self.history, start, key=_taken)
        return self.history[first : bisect_right(self.history, end, key=_taken)]

    def _percent(self, start: int, end: int) -> float:
        """Samples there are, of those the service takes in that time."""
        period = SAMPLE_PERIOD // timedelta(microseconds=1) * 10
        expected = max(1, (end - start) // period)
        return min(100.0, 100.0 * len(self._between(start, end)) / expected)

    def _misused(self, method: str, arguments: list[Value]) -> AutoscaleError:
        given = ", ".join(map(type_name, arguments))
        return AutoscaleError(EVALUATION, f"{method} does not take ({given})", self.at)
