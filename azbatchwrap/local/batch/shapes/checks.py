"""The bodies of requests as tables of fields: what is allowed, what is filled in, how values are normalised.

A check is a function from the JSON value to the value that is kept; it raises `Refused`. Shapes are built once at
import, so that checking a task costs a few dictionary look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError, bad_property

Check = Callable[[Any], Any]
ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
UNLIMITED = wire.format_duration(wire.UNLIMITED)
INT32 = 2**31 - 1
#: A value that is accepted and never shown again: passwords and keys.
HIDDEN = object()


class Refused(Exception):
    """A value that a check turns down; ``path`` grows outward while the exception climbs."""

    def __init__(self, value: object, reason: str, code: str = "InvalidPropertyValue") -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.code = code
        self.path: list[str] = []

    def as_error(self) -> BatchError:
        """The answer to the client."""
        name = ".".join(reversed(self.path)) or "body"
        if self.code == "InvalidPropertyValue":
            return bad_property(name, self.value, self.reason)
        return BatchError(self.code, [("PropertyName", name), ("Reason", self.reason)])


def text(longest: int = 0, *, shortest: int = 0) -> Check:
    """A string of so many characters; 0 means any number."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(value, "The value must be a string.")
        if longest and len(value) > longest:
            raise Refused(value, f"The value has {len(value)} characters; at most {longest} are allowed.")
        if len(value) < shortest:
            raise Refused(value, "The value must not be empty.")
        return value

    return check


def identifier(value: Any) -> str:
    """The id of a pool, job, task or schedule."""
    if isinstance(value, str) and ID.match(value):
        return value
    raise Refused(value, "An id has 1 to 64 characters out of letters, digits, hyphen and underscore.")


def pool_prefix(value: Any) -> str:
    """The beginning of the ids of auto-pools: it must leave room for a GUID."""
    if isinstance(value, str) and ID.match(value) and len(value) <= 20:
        return value
    raise Refused(value, "A prefix has 1 to 20 characters out of letters, digits, hyphen and underscore.")


def integer(low: int = -INT32 - 1, high: int = INT32) -> Check:
    """A whole number, also when written as a string."""

    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,20}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(value, "The value must be a whole number.")
        if not low <= value <= high:
            raise Refused(value, f"The value must lie between {low} and {high}.")
        return value

    return check


def boolean(value: Any) -> bool:
    """True or false, also when written as a string."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise Refused(value, "The value must be true or false.")


def duration(least: int = 0, most: int = wire.UNLIMITED) -> Check:
    """An ISO 8601 duration between ``least`` and ``most`` ticks, normalised."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(value, "The value must be an ISO 8601 duration.")
        try:
            ticks = wire.parse_duration(value)
        except ValueError as error:
            raise Refused(value, f"The value must be an ISO 8601 duration: {error}.") from error
        if not least <= ticks <= most:
            low, high = wire.format_duration(least), wire.format_duration(most)
            raise Refused(value, f"The value must lie between {low} and {high}.")
        return wire.format_duration(ticks)

    return check


def moment(value: Any) -> str:
    """A point in time, normalised to UTC."""
    try:
        return wire.format_ticks(wire.parse_time(value))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(value, "The value must be an ISO 8601 time.") from error


def choice(*allowed: str) -> Check:
    """One of these words, whatever its case; kept as written here."""
    words = {word.lower(): word for word in allowed}

    def check(value: Any) -> str:
        word = words.get(value.lower()) if isinstance(value, str) else None
        if word is None:
            raise Refused(value, f"The value must be one of: {', '.join(allowed)}.")
        return word

    return check


def hidden(value: Any) -> Any:
    """A secret: accepted, forgotten."""
    if not isinstance(value, str):
        raise Refused("", "The value must be a string.")
    return HIDDEN


def anything(value: Any) -> Any:
    """Kept as it came."""
    return value


def lowercase(value: Any) -> str:
    """A string that the service shows in lower case."""
    if not isinstance(value, str) or not value:
        raise Refused(value, "The value must be a string.")
    return value.lower()


def listed(check: Check, longest: int = 0) -> Check:
    """A list whose items pass ``check``."""

    def run(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Refused(value, "The value must be a list.")
        if longest and len(value) > longest:
            raise Refused(len(value), f"The list has {len(value)} entries; at most {longest} are allowed.")
        kept = []
        for index, item in enumerate(value):
            try:
                kept.append(check(item))
            except Refused as refusal:
                refusal.path.append(f"[{index}]")
                raise
        return kept

    return run


class Shape:
    """An object with these fields. Values keep the order they came in, unless the shape is ``ordered``."""

    __slots__ = ("checks", "defaults", "is_ordered", "required", "rule")

    def __init__(
        self,
        fields: Mapping[str, Check],
        *,
        required: tuple[str, ...] = (),
        defaults: Mapping[str, Any] | None = None,
        rule: Callable[[dict[str, Any]], None] | None = None,
        is_ordered: bool = False,
    ) -> None:
        self.checks = dict(fields)
        self.required = required
        self.defaults = tuple((defaults or {}).items())
        self.rule = rule
        #: Whether the result has the order of the fields, which is that of the service's answers.
        self.is_ordered = is_ordered

    def __call__(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Refused(value, "The value must be an object.")
        kept: dict[str, Any] = {}
        checks = self.checks
        for name, item in value.items():
            if name not in checks:
                self._refuse_unknown(name)
            elif item is not None:
                try:
                    checked = checks[name](item)
                except Refused as refusal:
                    refusal.path.append(name)
                    raise
                if checked is not HIDDEN:
                    kept[name] = checked
        return self._completed(value, kept)

    def _completed(self, value: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
        """Defaults, required fields, the shape's own rule, and the order."""
        for name, default in self.defaults:
            if name not in kept:
                kept[name] = default
        for name in self.required:
            if value.get(name) is None:
                self._refuse_missing(name)
        if self.rule is not None:
            self.rule(kept)
        return {name: kept[name] for name in self.checks if name in kept} if self.is_ordered else kept

    @staticmethod
    def _refuse_missing(name: str) -> None:
        missing = Refused(None, "The property is required.", "MissingRequiredProperty")
        missing.path.append(name)
        raise missing

    @staticmethod
    def _refuse_unknown(name: str) -> None:
        """Annotations are let through and forgotten."""
        if not name.startswith(("odata.", "@odata")):
            unknown = Refused(None, f"The property '{name}' does not exist on this type.", "InvalidRequestBody")
            unknown.path.append(name)
            raise unknown

    def read(self, value: Any) -> dict[str, Any]:
        """The checked body; raises BatchError."""
        try:
            return self(value)
        except Refused as refusal:
            raise refusal.as_error() from None
