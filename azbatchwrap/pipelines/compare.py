"""What differs between what is wanted and what is there, as a person would say it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")
#: Properties that Azure answers in a spelling of its own.
_CASELESS = frozenset(
    {"location", "vmsize", "vmpriority", "authmode", "computetype", "datastoretype", "frequency", "name", "type"}
)
#: Properties that name a thing by its id or by its last word.
_REFERENCES = frozenset({"compute", "default_compute", "default_datastore", "computeid"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One property (dotted path). ``before`` is ``None`` where there is nothing yet."""

    path: str
    before: Any
    after: Any
    forces_replacement: bool = False


def differences(wanted: Any, there: Any, immutable: frozenset[str] = frozenset()) -> tuple[Difference, ...]:
    """What has to change so that ``there`` is as ``wanted``. What is not wanted is the service's business."""
    return tuple(
        Difference(path, before, after, _is_below(path, immutable)) for path, before, after in _walk("", wanted, there)
    )


def _is_below(path: str, roots: frozenset[str]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)


def _walk(path: str, wanted: Any, there: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, Mapping):
        found = {str(name).lower(): value for name, value in there.items()} if isinstance(there, Mapping) else {}
        for name, value in wanted.items():
            # The service may change the case of a property's name, too.
            yield from _walk(f"{path}.{name}" if path else name, value, found.get(str(name).lower()))
    elif not same(path.rpartition(".")[2], wanted, there):
        yield path, there, wanted


def same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of the property ``name`` mean the same."""
    return bool(_normal(name.lower(), one) == _normal(name.lower(), other))


def _normal(name: str, value: Any) -> Any:
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, list | tuple):
        return [_normal(name, each) for each in value]
    if isinstance(value, Mapping):
        words = {str(key).lower(): _normal(str(key).lower(), each) for key, each in value.items()}
        return {key: each for key, each in words.items() if each is not None} or None
    if not isinstance(value, str):
        return value
    return _normal_text(name, value)


def _normal_text(name: str, text: str) -> Any:
    text = text.removeprefix("azureml:")
    if name in _REFERENCES:
        return text.rpartition("/")[2].lower()
    if text.lower().startswith("/subscriptions/"):
        return text.lower().rstrip("/")
    seconds = _seconds(text)
    if seconds is not None:
        return seconds
    if name == "location":
        return text.lower().replace(" ", "")
    return text.lower() if name in _CASELESS else text


def _seconds(text: str) -> float | None:
    """``PT2M`` is ``PT120S``."""
    match = _DURATION.match(text)
    if match is None or text in {"P", "PT"} or text.endswith("T"):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
