"""What a ``$filter`` says, as records, before anyone asks whether its properties exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

#: Ticks are 100 ns units, the resolution of the service's times.
TICKS_PER_SECOND: Final = 10_000_000

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:(Z)|([+-])(\d\d):?(\d\d))?)?\Z",
    re.IGNORECASE | re.ASCII,
)
_YEAR_ONE = datetime(1, 1, 1)  # noqa: DTZ001 - arithmetic in UTC, offsets are subtracted by hand


class SyntaxFault(ValueError):
    """The text is no filter; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment in ticks: 100 ns units since the year 1, UTC."""

    ticks: int


Literal: TypeAlias = "str | int | float | bool | Instant | None"
Syntax: TypeAlias = "Comparison | Negation | Junction"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``path operator literal``; a function such as ``startswith`` counts as an operator."""

    path: str
    operator: str
    literal: Literal


@dataclass(frozen=True, slots=True)
class Negation:
    part: Syntax
    depth: int


@dataclass(frozen=True, slots=True)
class Junction:
    """``parts`` joined by ``and`` (``is_every``) or by ``or``."""

    is_every: bool
    parts: tuple[Syntax, ...]
    depth: int


def instant(text: str) -> Instant | None:
    """An ISO 8601 date or date and time; without an offset it is UTC. None when ``text`` is no such thing."""
    match = _ISO.match(text)
    if match is None:
        return None
    try:
        moment = datetime(*(int(part or 0) for part in match.group(1, 2, 3, 4, 5, 6)))  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None
    since = moment - _YEAR_ONE
    seconds = since.days * 86_400 + since.seconds
    if match[9]:
        offset = int(match[10]) * 3600 + int(match[11]) * 60
        if offset > 14 * 3600 or int(match[11]) > 59:
            return None
        seconds += offset if match[9] == "-" else -offset
    return Instant(seconds * TICKS_PER_SECOND + int((match[7] or "0").ljust(9, "0")[:7]))
