"""One value of a task: the words of an input, a name, a number, a duration; each check says what is wrong with it."""

from __future__ import annotations

import math
import re
import reprlib
import shlex
from collections.abc import Mapping
from typing import TypeAlias

from azbatchwrap import names
from azbatchwrap.errors import ManifestError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

#: A node takes at most this many tasks at once (Azure Batch, ``taskSlotsPerNode``), so no task can need more slots.
MOST_SLOTS = 256
#: Nesting and number of values in one entry's input. YAML aliases can make a short file unfold without end.
DEEPEST_INPUT = 64
LARGEST_INPUT = 1_000_000

#: Python, ours and the node's, refuses to write integers of more than 4,300 digits.
LARGEST_NUMBER_BITS = 14_000

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SHORT_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)\s*(d|h|ms|m|s)\s*)", re.IGNORECASE)
_ISO_DURATION = re.compile(
    r"P(?=.)(?:(?P<w>\d+)W)?(?:(?P<d>\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?=.)(?:(?P<h>\d+(?:[.,]\d+)?)H)?(?:(?P<m>\d+(?:[.,]\d+)?)M)?(?:(?P<s>\d+(?:[.,]\d+)?)S)?)?\Z",
    re.IGNORECASE,
)
_NEEDS_SHELL_RULES = re.compile(r"['\"\\\x0b\x0c\x1c-\x1f]|[^\x00-\x7f]")


class Fault(ValueError):
    """What is wrong with one value; whoever knows the entry and the key adds them."""


def split_words(text: str) -> tuple[str, ...]:
    """``text`` split as a POSIX shell splits words: quotes and backslashes respected, nothing expanded.

    Raises ManifestError when a quote is not closed or the text ends in a backslash.
    """
    if _NEEDS_SHELL_RULES.search(text) is None:
        return tuple(text.split())
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ManifestError(f"{shortened(text)}: {_quote_fault(error)}") from error


def parse_duration(value: object) -> float:
    """Seconds from a positive number, ``"90"``, ``"10m"``, ``"1h30m"`` or an ISO 8601 duration such as ``"PT1H"``.

    Raises ManifestError for anything else; years and months have no fixed length and are refused.
    """
    try:
        return read_duration(value)
    except Fault as fault:
        raise ManifestError(f"{shortened(value)}: {fault}") from fault


def _quote_fault(error: ValueError) -> str:
    if "escaped" in str(error):
        return "ends in a backslash with nothing after it"
    return "has an unbalanced quote (a quote character as such is written \\' or \\\" outside quotes)"


def shortened(value: object) -> str:
    """``value`` as it is shown in a message: at most some 60 characters, whatever it holds."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        return "a number of thousands of digits"


def kind_of(value: object) -> str:
    words = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else words.get(type(value), f"a {type(value).__name__}")


def wrong_type(value: object, wanted: str) -> Fault:
    return Fault(f"must be {wanted}, not {kind_of(value)} ({shortened(value)})")


def json_value(value: object) -> JSON:
    """``value`` as JSON holds it (tuples become lists). Raises Fault for what JSON cannot hold."""
    budget = [LARGEST_INPUT]

    def check(item: object, depth: int) -> JSON:
        budget[0] -= 1
        if depth > DEEPEST_INPUT or budget[0] < 0:
            raise Fault(f"is nested deeper than {DEEPEST_INPUT} or holds more than {LARGEST_INPUT} values")
        if isinstance(item, int) and item.bit_length() > LARGEST_NUMBER_BITS:
            raise Fault("holds a number of thousands of digits")
        if item is None or isinstance(item, str | bool | int):
            return item
        if isinstance(item, float):
            if not math.isfinite(item):
                raise Fault(f"holds {item}, which JSON cannot hold")
            return item
        if isinstance(item, list | tuple):
            return [check(inner, depth + 1) for inner in item]
        if isinstance(item, Mapping):
            return {_json_key(key): check(inner, depth + 1) for key, inner in item.items()}
        raise Fault(f"holds {shortened(item)} of type {type(item).__name__}, which JSON cannot hold")

    return check(value, 0)


def _json_key(key: object) -> str:
    if not isinstance(key, str):
        raise Fault(f"holds an object with the key {shortened(key)}: keys are text")
    return key


def read_input(value: object) -> tuple[JSON, ...]:
    """The words of a TASK_INPUT: text is split, a list is taken as it is, nothing gives none, any other value is one."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            return split_words(value)
        except ManifestError as error:
            raise Fault(str(error)) from error
    checked = json_value(value)
    return tuple(checked) if isinstance(checked, list) else (checked,)


def read_module(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "the name of a task file")
    if not value.strip():
        raise Fault("is empty: name a task file such as 1_task.py")
    if "/" in value or "\\" in value or "\0" in value or value in {".", ".."}:
        bare = re.split(r"[/\\]", value)[-1]
        hint = f"; write {bare!r}" if bare.endswith(".py") else ""
        raise Fault(f"{shortened(value)} must be the bare name of a file, without folders{hint}")
    if not value.endswith(".py"):
        raise Fault(f"{shortened(value)} is not a Python file: its name must end in .py")
    return value


def read_id(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**63:
        value = str(value)
    if not isinstance(value, str):
        raise wrong_type(value, "text")
    if not names.is_id(value):
        raise Fault(f"{shortened(value)} may hold 1 to 64 of the characters A-Z a-z 0-9 _ - and no others")
    return value


def read_ids(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise wrong_type(value, "a list of IDs")
    return tuple(dict.fromkeys(read_id(item) for item in value))


def read_input_names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = list(read_input(value))
    if not isinstance(value, list | tuple):
        raise wrong_type(value, "a list of input file names")
    return tuple(dict.fromkeys(_relative(item) for item in value))


def _relative(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "the name of an input file")
    try:
        return names.safe_relative(value).as_posix()
    except ValueError as error:
        raise Fault(str(error)) from error


def read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(value, "true or false")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, "a whole number")
    if not least <= value <= most:
        raise Fault(f"must be a whole number from {least} to {most}, not {shortened(value)}")
    return value


def read_retries(value: object) -> int:
    return _whole(value, 0, 1000)


def read_slots(value: object) -> int:
    return _whole(value, 1, MOST_SLOTS)


def read_duration(value: object) -> float:
    if isinstance(value, str):
        seconds = _duration_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 1e12 else math.inf
    else:
        raise wrong_type(value, "seconds, or a duration such as 10m or PT10M")
    if not 0 < seconds < 1e9:
        raise Fault(f"must be more than 0 and less than 30 years, not {shortened(value)}")
    return seconds


def _duration_text(text: str) -> float:
    if re.fullmatch(r"[+-]?\d{1,12}(\.\d{1,12})?", text):
        return float(text)
    if iso := _ISO_DURATION.match(text):
        weeks = float(iso["w"] or 0) * 7 * 86400
        return weeks + sum(float((iso[unit] or "0").replace(",", ".")) * _UNITS[unit] for unit in "dhms")
    parts = _SHORT_DURATION.findall(text)
    if not parts or _SHORT_DURATION.sub("", text):
        raise Fault(f"{shortened(text)} is no duration: write seconds, 10m, 1h30m or PT10M")
    return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in parts)
