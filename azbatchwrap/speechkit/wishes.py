"""How sound is to be transcribed: the settings of a batch, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from azbatchwrap.errors import ConfigurationError


class Diarization(Enum):
    """Whether speakers are told apart, and whether the service may recognise who they are."""

    NONE = "None"
    IDENTITY = "Identity"
    ANONYMOUS = "Anonymous"


class Profanity(Enum):
    """What becomes of swear words."""

    MASKED = "Masked"
    RAW = "Raw"
    REMOVED = "Removed"


class Channels(Enum):
    """Whether each channel of a file is transcribed by itself, or all of them mixed into one."""

    SEPARATE = "separate"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Wishes:
    """``languages``: one, or the candidates among which the service finds out what is spoken.

    ``nbest``: at most so many readings per phrase. ``max_segment``: with several languages, sound is sent in pieces of
    at most this many seconds. ``resume``: go on where an earlier, failed attempt at the same file ended.
    """

    languages: tuple[str, ...] = ("en-US",)
    nbest: int = 1
    diarization: Diarization = Diarization.NONE
    profanity: Profanity = Profanity.MASKED
    channels: Channels = Channels.SEPARATE
    sentiment: bool = False
    resume: bool = False
    max_segment: int = 3600

    def __post_init__(self) -> None:
        if not self.languages or not all(isinstance(name, str) and name for name in self.languages):
            raise ConfigurationError(f"language: expected names such as en-US, found {self.languages!r}")
        for name in ("nbest", "max_segment"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name}: expected a whole number from 1, found {value!r}")

    @property
    def language(self) -> str:
        return self.languages[0]

    @property
    def is_multilingual(self) -> bool:
        return len(self.languages) > 1


#: What the document of a submitted batch calls the settings.
DOCUMENT_NAMES = {
    "language": "languages",
    "nbest": "nbest",
    "diarization": "diarization",
    "profanity": "profanity",
    "channels": "channels",
    "sentiment": "sentiment",
    "allow_resume": "resume",
    "max_segment_length": "max_segment",
}


def _one_of(kind: type[Enum]) -> dict[str, Any]:
    return {"type": "string", "enum": [member.value for member in kind]}


_NAME = {"type": "string", "minLength": 1}
#: JSON schemas of the settings in such a document.
WISHES_SCHEMA: dict[str, Any] = {
    "language": {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1}]},
    "nbest": {"type": "integer", "minimum": 1},
    "diarization": _one_of(Diarization),
    "profanity": _one_of(Profanity),
    "channels": _one_of(Channels),
    "sentiment": {"type": "boolean"},
    "allow_resume": {"type": "boolean"},
    "max_segment_length": {"type": "integer", "minimum": 1},
}


def changed(wishes: Wishes, document: Mapping[str, Any]) -> Wishes:
    """``wishes`` with what a submitted document says otherwise. Raises ConfigurationError that names the setting."""
    kinds = {field.name: type(getattr(wishes, field.name)) for field in fields(wishes)}
    found = {
        field: _read(name, document[name], kinds[field]) for name, field in DOCUMENT_NAMES.items() if name in document
    }
    return replace(wishes, **found)


def _read(name: str, value: Any, kind: type) -> Any:
    if kind is tuple:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    if issubclass(kind, Enum):
        return _choice(name, value, kind)
    if kind is bool:
        return _truth(name, value)
    return value


def _choice(name: str, value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if isinstance(value, str) and member.value.lower() == value.lower():
            return member
    raise ConfigurationError(f"{name}: expected one of {', '.join(member.value for member in kind)}, found {value!r}")


def _truth(name: str, value: Any) -> bool:
    """The public kit's clients also write booleans as words."""
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ConfigurationError(f"{name}: expected true or false, found {value!r}")
