"""A ``$filter`` that is known to fit its list: decides over an entity, or becomes the WHERE of a query.

Rules (OData): a property that is absent is null; null equals only null and is neither above nor below anything.
"""

from __future__ import annotations

import operator
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from .fields import Field, Fields, Kind
from .syntax import Comparison, Instant, Junction, Syntax, SyntaxFault, instant
from .syntax import Literal as LiteralValue

#: Clients repeat a few filters for hours, with a growing time in them at most.
_CACHED_FILTERS: Final = 512

Value: TypeAlias = "str | int | float | bool | None"
Entity: TypeAlias = Mapping[str, Any]
Where: TypeAlias = tuple[str, tuple[Any, ...]]

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_SQL: Final = {"eq": "=", "ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class FilterError(ValueError):
    """The ``$filter`` is refused. ``reason`` goes into the values of ``InvalidQueryParameterValue``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Column:
    """Where a property lies in a table.

    ``sql`` is an expression that is NULL when the property is absent. ``kind`` says what it holds: ``nocase`` and
    ``text`` strings, ``ticks`` 100 ns since the year 1 (UTC), ``int`` numbers and 0/1, ``enum`` the integers that
    ``values`` gives for the lower-case words: one, or several where the table tells more apart than the service.
    """

    sql: str
    kind: Literal["text", "nocase", "ticks", "int", "enum"]
    values: Mapping[str, int | tuple[int, ...]] | None = None


#: The columns a property of each kind can be looked up in.
_FITS: Final[Mapping[Kind, frozenset[str]]] = {
    "id": frozenset({"text", "nocase"}),
    "text": frozenset({"text", "nocase"}),
    "enum": frozenset({"text", "nocase", "enum"}),
    "time": frozenset({"ticks"}),
    "number": frozenset({"int"}),
    "boolean": frozenset({"int"}),
}


def fold(text: str) -> str:
    """``text`` with ASCII letters lowered: what SQLite's NOCASE compares, in Python."""
    return text.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class _Test:
    """One comparison: the property at ``path`` against ``value``, both normalised to the field's kind."""

    path: tuple[str, ...]
    operator: str
    value: Value
    kind: Kind

    def matches(self, entity: Entity) -> bool:
        found: Any = entity
        for name in self.path:
            found = found.get(name) if isinstance(found, Mapping) else None
        found = None if found is None else _stored(self.kind, found)
        if self.operator == "eq":
            return bool(found == self.value)
        if self.operator == "ne":
            return bool(found != self.value)
        if found is None:
            return False
        if self.operator == "startswith":
            return bool(found.startswith(self.value))
        return _ORDER[self.operator](found, self.value)

    def sql(self, columns: Mapping[str, Column], *, negated: bool) -> Where | None:
        column = columns.get("/".join(self.path))
        if column is None or column.kind not in _FITS[self.kind]:
            return None
        if self.operator in {"eq", "ne"}:
            return self._equality(column, is_equal=(self.operator == "eq") != negated)
        text, parameters = self._range(column)
        return (f"({column.sql} IS NULL OR NOT ({text}))" if negated else f"({text})"), parameters

    def _equality(self, column: Column, *, is_equal: bool) -> Where:
        if self.value is None:
            return f"{column.sql} {'IS' if is_equal else 'IS NOT'} NULL", ()
        operator = "=" if is_equal else "IS NOT"
        if column.kind != "enum":
            return f"{column.sql} {operator} ?{self._collation()}", (self.value,)
        stored = (column.values or {}).get(str(self.value))
        if stored is None:  # a word that the table cannot hold
            return ("0" if is_equal else "1"), ()
        if isinstance(stored, int):
            return f"{column.sql} {operator} ?", (stored,)
        marks = f"({', '.join('?' * len(stored))})"
        unequal = f"({column.sql} IS NULL OR {column.sql} NOT IN {marks})"
        return (f"{column.sql} IN {marks}" if is_equal else unequal), stored

    def _range(self, column: Column) -> Where:
        collation = self._collation()
        if self.operator != "startswith":
            return f"{column.sql} {_SQL[self.operator]} ?{collation}", (self.value,)
        prefix = str(self.value)
        above = _after(prefix, folded=self.kind == "id")
        if above is None:
            return f"{column.sql} >= ?{collation}", (prefix,)
        return f"{column.sql} >= ?{collation} AND {column.sql} < ?{collation}", (prefix, above)

    def _collation(self) -> str:
        if self.kind in {"id", "enum"} and isinstance(self.value, str):
            return " COLLATE NOCASE"
        return " COLLATE BINARY" if self.kind == "text" else ""


@dataclass(frozen=True, slots=True)
class _Not:
    part: _Node

    def matches(self, entity: Entity) -> bool:
        return not self.part.matches(entity)

    def sql(self, columns: Mapping[str, Column], *, negated: bool) -> Where | None:
        return self.part.sql(columns, negated=not negated)


@dataclass(frozen=True, slots=True)
class _Joined:
    is_every: bool
    parts: tuple[_Node, ...]

    def matches(self, entity: Entity) -> bool:
        return (all if self.is_every else any)(part.matches(entity) for part in self.parts)

    def sql(self, columns: Mapping[str, Column], *, negated: bool) -> Where | None:
        wheres = [part.sql(columns, negated=negated) for part in self.parts]
        known = [where for where in wheres if where is not None]
        if len(known) < len(wheres):
            return None
        return _balanced(known, " AND " if self.is_every != negated else " OR ")


_Node: TypeAlias = "_Test | _Not | _Joined"


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked ``$filter``; ``text`` is as the client sent it."""

    text: str
    _root: _Node

    def matches(self, entity: Entity) -> bool:
        """Whether the wire form of an entity passes."""
        return self._root.matches(entity)

    def sql(self, columns: Mapping[str, Column]) -> Where | None:
        """The condition and its parameters over a table, or None when a property has no fitting column."""
        return self._root.sql(columns, negated=False)


@lru_cache(maxsize=_CACHED_FILTERS)
def parse(text: str, fields: Fields) -> Filter:
    """The filter that ``text`` asks of a list with these ``fields``. Raises FilterError."""
    from .grammar import read  # the parser generator is not worth loading before the first filter

    try:
        syntax = read(text)
    except SyntaxFault as fault:
        raise FilterError(str(fault)) from fault
    return Filter(text, _checked(syntax, fields.by_path))


def _checked(syntax: Syntax, fields: Mapping[str, Field]) -> _Node:
    if isinstance(syntax, Comparison):
        return _test(syntax, fields)
    if isinstance(syntax, Junction):
        return _Joined(syntax.is_every, tuple(_checked(part, fields) for part in syntax.parts))
    return _Not(_checked(syntax.part, fields))


def _test(comparison: Comparison, fields: Mapping[str, Field]) -> _Test:
    field = fields.get(comparison.path)
    if field is None:
        raise FilterError(f"The property '{comparison.path}' cannot be filtered by in this list.")
    if comparison.operator not in field.operators:
        allowed = ", ".join(sorted(field.operators))
        raise FilterError(
            f"'{comparison.operator}' is not supported for the property '{comparison.path}'; supported are {allowed}."
        )
    if comparison.literal is None and comparison.operator not in {"eq", "ne"}:
        raise FilterError(f"null can only be compared with eq and ne ('{comparison.path}').")
    value = None if comparison.literal is None else _wanted(field.kind, comparison.literal)
    if value is None and comparison.literal is not None:
        raise FilterError(f"The property '{comparison.path}' cannot be compared with a value of that type.")
    return _Test(tuple(comparison.path.split("/")), comparison.operator, value, field.kind)


def _wanted(kind: Kind, literal: LiteralValue) -> Value:
    """A literal as a value of that kind; None when it is of another type."""
    if kind == "time":
        moment = instant(literal) if isinstance(literal, str) else literal
        return moment.ticks if isinstance(moment, Instant) else None
    return None if isinstance(literal, Instant) else _stored(kind, literal)


def _stored(kind: Kind, value: Any) -> Value:
    """What an entity holds as a value of that kind; None when it holds nothing comparable."""
    if isinstance(value, str):
        if kind == "time":
            moment = instant(value)
            return None if moment is None else moment.ticks
        if kind in {"id", "enum"}:
            return fold(value)
        return value if kind == "text" else None
    if isinstance(value, bool):
        return value if kind == "boolean" else None
    return value if kind == "number" and isinstance(value, int | float) else None


def _balanced(wheres: Sequence[Where], joint: str) -> Where:
    """The conditions joined as a balanced tree: SQLite refuses expressions deeper than 1000."""
    if len(wheres) == 1:
        return wheres[0]
    half = len(wheres) // 2
    left, right = _balanced(wheres[:half], joint), _balanced(wheres[half:], joint)
    return f"({left[0]}{joint}{right[0]})", left[1] + right[1]


def _after(prefix: str, *, folded: bool) -> str | None:
    """The first string above every string that starts with ``prefix``; None when there is no such string.

    ``folded``: in an order without upper-case letters, where ``[`` follows ``@``.
    """
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:  # surrogates are no characters
        following = 0xE000
    if folded and chr(following) == "A":
        following = ord("[")
    return kept[:-1] + chr(following)
