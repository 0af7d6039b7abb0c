"""The functions of the formula language.

Source: the table of functions in the product's documentation. Aggregates take any mix of doubles and vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .errors import EVALUATION, AutoscaleError
from .syntax import Position
from .values import MAX_VECTOR, Value, Vector, type_name


def _logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    """``function`` that answers as IEEE 754 does where Python raises."""

    def answer(number: float) -> float:
        if number == 0:
            return -math.inf
        return math.nan if number < 0 or math.isnan(number) else function(number)

    return answer


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda number: float(function(number)) if math.isfinite(number) else number


def _round(number: float) -> int:
    """The nearest integer; halves go away from zero."""
    size = abs(number)
    below = math.floor(size)
    nearest = below + 1 if size - below >= 0.5 else below
    return -nearest if number < 0 else nearest


def _average(items: Vector) -> float:
    return sum(items) / len(items)


def _deviation(items: Vector) -> float:
    """The sample standard deviation; a single value has none."""
    if len(items) < 2:
        return math.nan
    mean = _average(items)
    return math.sqrt(sum((item - mean) * (item - mean) for item in items) / (len(items) - 1))


def _least(items: Vector) -> float:
    return math.nan if any(map(math.isnan, items)) else min(items)


def _greatest(items: Vector) -> float:
    return math.nan if any(map(math.isnan, items)) else max(items)


#: One number or, of a list, one number for each element.
_ELEMENTWISE: Final[Mapping[str, Callable[[float], float]]] = {
    "ceil": _whole(math.ceil),
    "floor": _whole(math.floor),
    "lg": _logarithm(math.log2),
    "ln": _logarithm(math.log),
    "log": _logarithm(math.log10),
    "round": _whole(_round),
}
#: A list to one number; nothing to nothing is possible only where the value is obvious.
_AGGREGATES: Final[Mapping[str, Callable[[Vector], float]]] = {
    "avg": _average,
    "max": _greatest,
    "min": _least,
    "range": lambda items: _greatest(items) - _least(items),
    "std": _deviation,
}
_TOTALS: Final[Mapping[str, Callable[[Vector], float]]] = {
    "len": lambda items: float(len(items)),
    "norm": lambda items: math.hypot(*items),
    "sum": lambda items: float(sum(items)),
}


def call(name: str, arguments: Sequence[Value], at: Position) -> Value:
    """The value of ``name(arguments)``. Raises AutoscaleError for an unknown name or unfit arguments."""
    if name in _ELEMENTWISE:
        return _elementwise(name, arguments, at)
    if name in _TOTALS:
        return _TOTALS[name](flatten(arguments, at))
    if name in _AGGREGATES:
        return _aggregate(name, flatten(arguments, at), at)
    if name == "vec":
        return flatten(arguments, at)
    if name in {"val", "percentile"}:
        return _picked(name, arguments, at)
    raise AutoscaleError(EVALUATION, f"The function '{name}' is not defined", at)


def flatten(arguments: Sequence[Value], at: Position) -> Vector:
    """A doubleVecList as one vector."""
    items: list[float] = []
    for argument in arguments:
        if isinstance(argument, float):
            items.append(argument)
        elif isinstance(argument, tuple):
            items.extend(argument)
        else:
            raise AutoscaleError(EVALUATION, f"A {type_name(argument)} is neither a double nor a doubleVec", at)
    if len(items) > MAX_VECTOR:
        raise AutoscaleError(EVALUATION, f"The vector has more than {MAX_VECTOR} elements", at)
    return tuple(items)


def _elementwise(name: str, arguments: Sequence[Value], at: Position) -> Value:
    function = _ELEMENTWISE[name]
    if len(arguments) == 1 and isinstance(arguments[0], float):
        return function(arguments[0])
    return tuple(map(function, flatten(arguments, at)))


def _aggregate(name: str, items: Vector, at: Position) -> float:
    if not items:
        raise AutoscaleError(EVALUATION, f"{name} has no values to work on", at)
    return _AGGREGATES[name](items)


def _picked(name: str, arguments: Sequence[Value], at: Position) -> float:
    """An element by its place (``val``) or by its rank (``percentile``, nearest rank, 0 to 100)."""
    if len(arguments) != 2:
        raise AutoscaleError(EVALUATION, f"{name} takes 2 arguments, not {len(arguments)}", at)
    items, place = arguments
    if not isinstance(items, tuple) or not isinstance(place, float):
        given = f"{type_name(items)}, {type_name(place)}"
        raise AutoscaleError(EVALUATION, f"{name} takes a doubleVec and a double, not {given}", at)
    if name == "percentile":
        if not 0 <= place <= 100 or not items:
            raise AutoscaleError(EVALUATION, f"percentile {place:g} of {len(items)} values does not exist", at)
        return sorted(items)[max(0, math.ceil(place / 100 * len(items)) - 1)]
    if not 0 <= place < len(items):
        raise AutoscaleError(EVALUATION, f"Element {place:g} of {len(items)} values does not exist", at)
    return items[int(place)]
