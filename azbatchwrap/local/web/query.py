"""The words of a query as the page's own scripts write them; anything else is refused."""

from __future__ import annotations

#: Enough for a moment in ticks, and never too long for the database.
MOST_DIGITS = 18


class BadQuery(Exception):
    """The query's words make no sense; the text says which."""


def whole(text: str, name: str) -> int:
    """A whole number. Raises BadQuery with its name."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS):
        raise BadQuery(f"{name} is not a whole number")
    return int(text)
