"""Deployment templates: the part of the expression language that templates of resource groups use."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from azbatchwrap.local.arm.errors import ArmError

_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+)|([A-Za-z_]\w*)|([().,\[\]]))")


def invalid(message: str) -> ArmError:
    return ArmError(400, "InvalidTemplate", f"Deployment template validation failed: {message}")


@dataclass(slots=True)
class Scope:
    """What expressions of one template may refer to. ``reference`` finds a resource's properties by id or name."""

    subscription: str
    group: Mapping[str, Any]
    tenant: str
    parameters: Mapping[str, Any]
    variables: Mapping[str, Any]
    reference: Callable[[str], Any]
    deployment: str = ""
    _variables: dict[str, Any] = field(default_factory=dict)

    def variable(self, name: str) -> Any:
        if name not in self._variables:
            if name not in self.variables:
                raise invalid(f"the template variable '{name}' is not found.")
            self._variables[name] = evaluate(self.variables[name], self)
        return self._variables[name]

    def parameter(self, name: str) -> Any:
        if name not in self.parameters:
            raise invalid(f"the template parameter '{name}' is not found.")
        return self.parameters[name]


def evaluate(value: Any, scope: Scope) -> Any:
    """``value`` with every expression in it (``"[…]"``) replaced by what it means. Raises ArmError InvalidTemplate."""
    if isinstance(value, dict):
        return {evaluate(name, scope): evaluate(each, scope) for name, each in value.items()}
    if isinstance(value, list):
        return [evaluate(each, scope) for each in value]
    if not isinstance(value, str) or not value.startswith("[") or not value.endswith("]"):
        return value
    if value.startswith("[["):
        return value[1:]
    return _Reader(value[1:-1], scope).read_all()


class _Reader:
    """Reads one expression and evaluates it on the way."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text, self._scope = text, scope
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise invalid(f"the expression '{text}' cannot be read at position {at}.")
            self._tokens.append(match.group().strip())
            at = match.end()
        self._at = 0

    def read_all(self) -> Any:
        value = self._value()
        if self._at != len(self._tokens):
            raise invalid(f"the expression '{self._text}' goes on where it should end.")
        return value

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise invalid(f"the expression '{self._text}' ends too early.")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _value(self) -> Any:
        token = self._next()
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token.lstrip("-").isdigit():
            return int(token)
        value = self._call(token)
        while self._peek() in {".", "["}:
            step: Any = self._next()
            if step == ".":
                step = self._next()
            else:
                step = self._value()
                self._expect("]")
            value = self._step(value, step)
        return value

    def _step(self, value: Any, step: Any) -> Any:
        try:
            if isinstance(value, dict):
                wanted = str(step).lower()
                return next(each for name, each in value.items() if name.lower() == wanted)
            return value[step]
        except (StopIteration, KeyError, IndexError, TypeError):
            raise invalid(f"the expression '{self._text}' has no '{step}'.") from None

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise invalid(f"the expression '{self._text}' misses '{token}'.")

    def _call(self, name: str) -> Any:
        self._expect("(")
        arguments = []
        while self._peek() != ")":
            arguments.append(self._value())
            if self._peek() == ",":
                self._next()
        self._next()
        function = _FUNCTIONS.get(name.lower())
        if function is None:
            raise invalid(f"this service does not know the template function '{name}'.")
        try:
            return function(self._scope, *arguments)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise invalid(f"the function '{name}' cannot be applied in '{self._text}': {error}.") from None


# Functions


def resource_id(scope: Scope, *words: str) -> str:
    """``resourceId([subscription], [group], type, name …)``."""
    at = next(index for index, word in enumerate(words) if "/" in str(word))
    kind, names = str(words[at]), words[at + 1 :]
    before = [str(word) for word in words[:at]]
    group = before.pop() if before else str(scope.group["name"])
    subscription = before.pop() if before else scope.subscription
    namespace, *types = kind.split("/")
    pairs = "".join(f"/{one}/{name}" for one, name in zip(types, names, strict=True))
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{namespace}{pairs}"


def _subscription_resource_id(scope: Scope, *words: str) -> str:
    namespace, *types = words[0].split("/")
    pairs = "".join(f"/{one}/{name}" for one, name in zip(types, words[1:], strict=True))
    return f"/subscriptions/{scope.subscription}/providers/{namespace}{pairs}"


def _concat(_scope: Scope, *parts: Any) -> Any:
    if parts and isinstance(parts[0], list):
        return [each for part in parts for each in part]
    return "".join(_text(part) for part in parts)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return value if isinstance(value, str) else json.dumps(value)


def _unique(*parts: str) -> str:
    """Thirteen letters and digits that depend on ``parts`` alone (Azure's own algorithm is not public)."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:9], "big")
    letters = ""
    for _ in range(13):
        number, digit = divmod(number, 32)
        letters += "abcdefghijklmnopqrstuvwxyz234567"[digit]
    return letters


def _equals(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    return bool(left == right)


def _format(_scope: Scope, text: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda match: _text(values[int(match.group(1))]), text)


def _union(_scope: Scope, *parts: Any) -> Any:
    if isinstance(parts[0], dict):
        return {name: value for part in parts for name, value in part.items()}
    return list(dict.fromkeys(each for part in parts for each in part))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "parameters": lambda scope, name: scope.parameter(name),
    "variables": lambda scope, name: scope.variable(name),
    "resourcegroup": lambda scope: scope.group,
    "subscription": lambda scope: {
        "subscriptionId": scope.subscription,
        "tenantId": scope.tenant,
        "id": f"/subscriptions/{scope.subscription}",
    },
    "tenant": lambda scope: {"tenantId": scope.tenant},
    "deployment": lambda scope: {"name": scope.deployment},
    "resourceid": resource_id,
    "subscriptionresourceid": _subscription_resource_id,
    "reference": lambda scope, target, *_: scope.reference(target),
    "concat": _concat,
    "format": _format,
    "string": lambda _scope, value: _text(value),
    "int": lambda _scope, value: int(value),
    "bool": lambda _scope, value: str(value).lower() in {"true", "1"},
    "tolower": lambda _scope, text: text.lower(),
    "toupper": lambda _scope, text: text.upper(),
    "trim": lambda _scope, text: text.strip(),
    "replace": lambda _scope, text, old, new: text.replace(old, new),
    "substring": lambda _scope, text, start=0, length=None: text[start : None if length is None else start + length],
    "split": lambda _scope, text, separator: text.split(separator),
    "take": lambda _scope, whole, count: whole[:count],
    "length": lambda _scope, whole: len(whole),
    "first": lambda _scope, whole: whole[0],
    "last": lambda _scope, whole: whole[-1],
    "contains": lambda _scope, whole, part: part in whole,
    "uniquestring": lambda _scope, *parts: _unique(*parts),
    "guid": lambda _scope, *parts: str(uuid.uuid5(uuid.NAMESPACE_URL, "-".join(parts))),
    "newguid": lambda _scope: str(uuid.uuid4()),
    "equals": lambda _scope, left, right: _equals(left, right),
    "not": lambda _scope, value: not value,
    "and": lambda _scope, *values: all(values),
    "or": lambda _scope, *values: any(values),
    "if": lambda _scope, condition, yes, no: yes if condition else no,
    "true": lambda _scope: True,
    "false": lambda _scope: False,
    "null": lambda _scope: None,
    "empty": lambda _scope, value: not value,
    "coalesce": lambda _scope, *values: next((value for value in values if value is not None), None),
    "json": lambda _scope, text: json.loads(text),
    "array": lambda _scope, value: value if isinstance(value, list) else [value],
    "createarray": lambda _scope, *values: list(values),
    "createobject": lambda _scope, *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "union": _union,
}
