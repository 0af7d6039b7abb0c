"""The types of the formula language and what its operators do to them.

Source: the table of operations in the product's documentation on autoscale formulas. What the table lacks is an
error: there is no ``timestamp - timeinterval`` and no ``double - doubleVec``.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias

from .errors import EVALUATION, AutoscaleError
from .syntax import Position

#: Times count in 100 ns, as the language's smallest interval.
TICKS_PER_SECOND: Final = 10_000_000
_TICKS_PER_DAY: Final = 86_400 * TICKS_PER_SECOND
_YEAR_ONE: Final = datetime(1, 1, 1, tzinfo=timezone.utc)
_LAST_TICK: Final = 3_155_378_975_999_999_999  # the end of the year 9999
_LAST_INTERVAL: Final = (1 << 63) - 1
#: Ours: ``vec`` could double a vector a hundred times in one formula. A day has 2,880 samples of a metric.
MAX_VECTOR: Final = 10_000


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A ``timeinterval`` in ticks of 100 ns."""

    ticks: int

    def __str__(self) -> str:
        sign, ticks = ("-", -self.ticks) if self.ticks < 0 else ("", self.ticks)
        days, rest = divmod(ticks, _TICKS_PER_DAY)
        seconds, fraction = divmod(rest, TICKS_PER_SECOND)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{sign}{f'{days}.' if days else ''}{clock}{f'.{fraction:07}' if fraction else ''}"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A ``timestamp`` in ticks of 100 ns since the year 1, UTC."""

    ticks: int

    @classmethod
    def of(cls, moment: datetime) -> Timestamp:
        """An aware ``moment``."""
        return cls((moment - _YEAR_ONE) // timedelta(microseconds=1) * 10)

    def moment(self) -> datetime:
        return _YEAR_ONE + timedelta(microseconds=self.ticks // 10)

    def __str__(self) -> str:
        return f"{self.moment().replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


Vector: TypeAlias = "tuple[float, ...]"
Value: TypeAlias = "float | str | Vector | Interval | Timestamp"

INTERVALS: Final[Mapping[str, Interval]] = {
    f"TimeInterval_{name}": Interval(ticks)
    for name, ticks in {
        "Zero": 0,
        "100ns": 1,
        "Microsecond": 10,
        "Millisecond": 10_000,
        "Second": TICKS_PER_SECOND,
        "Minute": 60 * TICKS_PER_SECOND,
        "Hour": 3600 * TICKS_PER_SECOND,
        "Day": _TICKS_PER_DAY,
        "Week": 7 * _TICKS_PER_DAY,
        "Year": 365 * _TICKS_PER_DAY,
    }.items()
}

_TYPE_NAMES: Final = {
    float: "double",
    str: "string",
    tuple: "doubleVec",
    Interval: "timeinterval",
    Timestamp: "timestamp",
}
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
    "!=": operator.ne,
}
_MEMBERS: Final[Mapping[str, Callable[[datetime], int]]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "day": lambda moment: moment.day,
    "weekday": lambda moment: moment.isoweekday() % 7,  # Monday is 1, Sunday 0
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
}


def type_name(value: Value) -> str:
    """The language's name for the type of ``value``."""
    return _TYPE_NAMES[type(value)]


def _divide(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}


def binary(symbol: str, left: Value, right: Value, at: Position) -> Value:
    """``left symbol right``. Raises AutoscaleError for types the operator does not take."""
    if symbol in _COMPARISONS:
        return _compared(symbol, left, right, at)
    if isinstance(left, float) and isinstance(right, float):
        return _ARITHMETIC[symbol](left, right)
    if isinstance(left, tuple) and isinstance(right, float | tuple):
        return _vectors(symbol, left, right, at)
    result = _times(symbol, left, right, at)
    if result is None:
        raise _mismatch(symbol, left, right, at)
    return result


def _compared(symbol: str, left: Value, right: Value, at: Position) -> float:
    if type(left) is not type(right) or isinstance(left, tuple):
        raise _mismatch(symbol, left, right, at)
    return float(_COMPARISONS[symbol](left, right))


def _vectors(symbol: str, left: Vector, right: float | Vector, at: Position) -> Vector:
    action = _ARITHMETIC[symbol]
    if isinstance(right, float):
        return tuple(action(item, right) for item in left)
    if len(left) != len(right):
        raise AutoscaleError(EVALUATION, f"The vectors have different lengths: {len(left)} and {len(right)}", at)
    return tuple(map(action, left, right))


def _times(symbol: str, left: Value, right: Value, at: Position) -> Value | None:
    """Arithmetic with intervals and timestamps; None where the language has none."""
    if isinstance(left, Interval) and isinstance(right, Interval) and symbol in "+-":
        return interval(left.ticks + (right.ticks if symbol == "+" else -right.ticks), at)
    if isinstance(left, Timestamp) and isinstance(right, Timestamp) and symbol == "-":
        return Interval(left.ticks - right.ticks)
    if symbol == "+" and {type(left), type(right)} == {Interval, Timestamp}:
        return _timestamp(left.ticks + right.ticks, at)  # type: ignore[union-attr]
    if symbol == "*" and isinstance(left, float) and isinstance(right, Interval):
        return interval(left * right.ticks, at)
    if symbol in "*/" and isinstance(left, Interval) and isinstance(right, float):
        return interval(_ARITHMETIC[symbol](left.ticks, right), at)
    return None


def _mismatch(symbol: str, left: Value, right: Value, at: Position) -> AutoscaleError:
    return AutoscaleError(EVALUATION, f"'{type_name(left)} {symbol} {type_name(right)}' is not supported", at)


def interval(ticks: float, at: Position) -> Interval:
    """An interval of so many ticks, rounded. Raises AutoscaleError when it is no such number."""
    if not math.isfinite(ticks) or abs(ticks) > _LAST_INTERVAL:
        raise AutoscaleError(EVALUATION, "The time interval is out of range", at)
    return Interval(round(ticks))


def _timestamp(ticks: int, at: Position) -> Timestamp:
    if not 0 <= ticks <= _LAST_TICK:
        raise AutoscaleError(EVALUATION, "The time is out of range", at)
    return Timestamp(ticks)


def unary(symbol: str, value: Value, at: Position) -> Value:
    """``-value`` or ``!value``."""
    if isinstance(value, float):
        return float(value == 0) if symbol == "!" else -value
    if isinstance(value, Interval) and symbol == "-":
        return Interval(-value.ticks)
    raise AutoscaleError(EVALUATION, f"'{symbol}{type_name(value)}' is not supported", at)


def member(value: Value, name: str, at: Position) -> float:
    """A part of a timestamp."""
    if not isinstance(value, Timestamp) or name not in _MEMBERS:
        raise AutoscaleError(EVALUATION, f"A {type_name(value)} has no member '{name}'", at)
    return float(_MEMBERS[name](value.moment()))


_W3C = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?\Z", re.ASCII
)


def read_time(text: str, at: Position) -> Timestamp:
    """The moment a W3C-DTF or RFC 1123 text names; without an offset it is UTC."""
    try:
        ticks = _w3c(text)
        if ticks is None:
            moment = parsedate_to_datetime(text)
            ticks = Timestamp.of(moment.replace(tzinfo=moment.tzinfo or timezone.utc)).ticks
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise AutoscaleError(EVALUATION, f"'{text}' is not a date and time", at) from error
    return _timestamp(ticks, at)


def _w3c(text: str) -> int | None:
    """The ticks of a W3C-DTF text, None when it is of another form. Raises ValueError for a 13th month and the like."""
    match = _W3C.match(text)
    if match is None:
        return None
    parts = zip(match.group(1, 2, 3, 4, 5, 6), (1, 1, 1, 0, 0, 0), strict=True)
    year, month, day, hour, minute, second = (int(part or least) for part, least in parts)
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return Timestamp.of(moment).ticks + int((match[7] or "").ljust(7, "0")) - _offset(match[8])


def _offset(text: str | None) -> int:
    if text is None or text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if minutes > 14 * 60 or int(text[4:6]) > 59:
        raise ValueError(f"{text} is no offset from UTC")
    return (-minutes if text[0] == "-" else minutes) * 60 * TICKS_PER_SECOND


def show(value: Value) -> str:
    """``value`` as the results of a run write it."""
    if isinstance(value, float):
        return _show_number(value)
    if isinstance(value, tuple):
        return f"[{','.join(map(_show_number, value))}]"
    return str(value)


def _show_number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value).replace("e", "E")
