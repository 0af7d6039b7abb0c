"""Bodies that set every property of a client's models, and what of them an answer has lost."""

from __future__ import annotations

import datetime as dt
import enum
import typing
from collections.abc import Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

#: Taken and never shown again.
SECRETS = frozenset({"password", "accountKey", "sasKey", "sshPrivateKey", "protectedSettings"})
_PLAIN: dict[Any, Any] = {int: 7, float: 1.5, dt.timedelta: "PT20M", dt.datetime: "2031-02-03T04:05:06.1234567Z"}


class Filler:
    """Makes bodies from the annotations of ``models``, a package of one of the new Azure SDKs.

    ``own`` holds values for addresses that end with the key (``pool.vmSize``, ``.subnetId``): a list is gone through
    round by round, None leaves the property out. So is every enumeration, and flags are true in every other round.
    """

    def __init__(self, models: ModuleType, own: Mapping[str, Any]) -> None:
        self._own = own
        words = {name: getattr(models, name) for name in dir(models)} | vars(models._models)
        self._names = {**vars(typing), "datetime": dt, "_models": SimpleNamespace(**words), "_types": models}

    def body(self, model: type, number: int, place: str = "") -> dict[str, Any]:
        """One body, as JSON has it."""
        model({})  # type: ignore[call-arg]  # the fields are worked out when the first one is made
        made: dict[str, Any] = {}
        for attribute, field in model._attr_to_rest_field.items():  # type: ignore[attr-defined]
            name = field._rest_name
            if field._visibility and not {"create", "update"} & set(field._visibility):
                continue
            value = self._value(self._hint(model, attribute), f"{place}.{name}", number)
            if value is not None:
                made[name] = value
        return made

    def _hint(self, model: type, attribute: str) -> Any:
        holder = next(each for each in model.__mro__ if attribute in getattr(each, "__annotations__", {}))
        return self._kind(holder.__annotations__[attribute])

    def _kind(self, hint: Any) -> Any:
        """A class, or a list or dict of something: of alternatives the richest."""
        if isinstance(hint, typing.ForwardRef):
            hint = hint.__forward_arg__
        if isinstance(hint, str):
            hint = eval(hint, self._names)  # the annotations of an installed package
        if typing.get_origin(hint) is not typing.Union:
            return hint
        kinds = [self._kind(each) for each in typing.get_args(hint) if each is not type(None)]
        return next((each for each in kinds if isinstance(each, type) and each is not str), kinds[0])

    def _value(self, kind: Any, place: str, number: int) -> Any:
        for end, given in self._own.items():
            if place.endswith(end):
                return given[number % len(given)] if isinstance(given, list) else given
        if typing.get_origin(kind) is list:
            return [self._value(self._kind(typing.get_args(kind)[0]), place, number)]
        return self._single(kind, place, number)

    def _single(self, kind: Any, place: str, number: int) -> Any:
        if kind is bool:
            return number % 2 == 0
        if hasattr(kind, "as_dict"):
            return self.body(kind, number, place)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            words = [each.value for each in kind]
            return words[number % len(words)]
        if typing.get_origin(kind) is dict:
            return {"key": "value"}
        return _PLAIN.get(kind, place.rpartition(".")[2][:15])


def lost(sent: Any, shown: Any, place: str = "") -> Iterator[str]:
    """What ``shown`` lacks of ``sent``, or has another way; capitals alone make no difference. Secrets must be gone."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        for name, value in sent.items():
            if name in SECRETS:
                yield from [f"{place}.{name} is shown"] if name in shown else []
            else:
                yield from lost(value, shown.get(name), f"{place}.{name}")
    elif isinstance(sent, list) and isinstance(shown, list) and len(sent) == len(shown):
        for index, (value, found) in enumerate(zip(sent, shown, strict=True)):
            yield from lost(value, found, f"{place}[{index}]")
    elif type(sent) is not type(shown) or _folded(sent) != _folded(shown):
        yield f"{place}: {sent!r} became {shown!r}"


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
