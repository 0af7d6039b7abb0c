"""One request and its answer, as the handlers see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import orjson

from azbatchwrap.local.arm.errors import ArmError, bad_request

#: A page of a list; Azure's own differ by service.
PAGE_SIZE = 100


def member(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the object ``name`` inside of a body, empty when it is left out. Raises ArmError for anything else."""
    value = holder.get(name)
    if value is not None and not isinstance(value, dict):
        raise bad_request(f"The value of '{name}' must be an object.")
    return dict(value or {})


def members(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The same for a list of objects."""
    value = holder.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise bad_request(f"The value of '{name}' must be a list of objects.")
    return value


@dataclass(slots=True)
class Request:
    """What a client asks. Header and query names are lower-case; ``base`` is our address as the client wrote it.

    ``names`` are the parameters of the address that the route found: decoded, in the client's spelling.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    base: str
    body: bytes = b""
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, method: str, raw_path: str, raw_query: str, headers: Mapping[str, str], base: str) -> Request:
        query = {name.lower(): value for name, value in parse_qsl(raw_query, keep_blank_values=True)}
        return cls(method, unquote(raw_path), query, headers, base)

    @property
    def version(self) -> str:
        return self.query.get("api-version", "")

    def json(self) -> dict[str, Any]:
        """The body, which must be a JSON object. Raises ArmError InvalidRequestContent."""
        try:
            content = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"The request content was invalid and could not be deserialized: '{error}'.") from None
        if not isinstance(content, dict):
            raise bad_request("The request content must be a JSON object.")
        return content

    def form(self) -> dict[str, str]:
        """The body as an HTML form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace")))


@dataclass(frozen=True, slots=True)
class Answer:
    """``is_lost``: what was asked is done, but the client gets no answer (see faults.py)."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_lost: bool = False


def page(request: Request, items: list[Any]) -> Answer:
    """One page of a list, with the address of the next. ``$top`` bounds it, ``$skipToken`` is ours."""
    try:
        start = int(request.query.get("$skiptoken", "0"))
        size = max(1, min(PAGE_SIZE, int(request.query.get("$top", PAGE_SIZE))))
    except ValueError:
        raise bad_request("$top and $skipToken must be numbers that this service gave.", "InvalidParameter") from None
    body: dict[str, Any] = {"value": items[start : start + size]}
    if start + size < len(items):
        query = dict(request.query) | {"$skiptoken": str(start + size)}
        body["nextLink"] = f"{request.base}{request.path}?{urlencode(query)}"
    return Answer(200, body)


def refusal(error: ArmError) -> Answer:
    return Answer(error.status, error.body(), error.headers)
