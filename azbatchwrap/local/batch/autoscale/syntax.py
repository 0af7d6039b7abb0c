"""A formula as records: statements of expressions, each with its place in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Position(NamedTuple):
    """Where something stands in the formula; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or a quoted string."""

    value: float | str


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, a ``TimeInterval_`` constant or a deallocation option."""

    text: str
    at: Position


@dataclass(frozen=True, slots=True)
class Unary:
    """``operators`` before an operand, outermost first."""

    operators: tuple[tuple[str, Position], ...]
    operand: Expression


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands joined by operators of one precedence, evaluated from left to right."""

    first: Expression
    rest: tuple[tuple[str, Position, Expression], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """``condition ? then : otherwise``."""

    condition: Expression
    at: Position
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """A function's call; ``at`` is its opening bracket, where the service reports errors."""

    function: str
    at: Position
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class MethodCall:
    """A method of a metric; ``at`` is its opening bracket, where the service reports errors."""

    owner: Expression
    method: str
    at: Position
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a timestamp, such as ``.hour``."""

    owner: Expression
    member: str
    at: Position


@dataclass(frozen=True, slots=True)
class Assignment:
    variable: str
    at: Position
    value: Expression


Expression: TypeAlias = "Constant | Name | Unary | Chain | Choice | Call | MethodCall | Member"
Statement: TypeAlias = "Assignment | Expression"
