"""Request lines and result lines: the seed's, the newer public envelope, and OpenAI batch lines.

Inside, a request is a `queues.Item`: ``body`` is posted as it is, ``meta`` is a JSON object (or empty) with what else
matters to sending it: ``path`` of the endpoint, ``headers``, ``tenant``.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from azbatchwrap.queues import Code, Item, Refused, Result, refused_id

log = logging.getLogger(__name__)

#: Ids are keys in every queue and go into a header.
ID_LENGTH = 512
#: A larger message is refused rather than stored (bytes).
SIZE_LIMIT = 16 * 1024 * 1024
#: How long a request without a deadline may wait (seconds): the completion window of OpenAI's batches.
DEFAULT_LIFE = 86_400.0

#: Headers that a message may not bring: credentials are never stored with messages, the others belong to the transport.
FORBIDDEN_HEADERS = frozenset({
    "authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "ocp-apim-subscription-key",
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
})  # fmt: skip
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4096}\Z")
_PATH = re.compile(r"/[!-~]{0,2047}\Z")


class InvalidRequest(ValueError):
    """A message is no request; says why."""


@dataclass(frozen=True, slots=True)
class Meta:
    """How a request is to be sent."""

    path: str = ""
    headers: Mapping[str, str] | None = None
    tenant: str = ""

    def encoded(self) -> bytes:
        facts: dict[str, Any] = {}
        if self.path:
            facts["path"] = self.path
        if self.headers:
            facts["headers"] = dict(sorted(self.headers.items()))
        if self.tenant:
            facts["tenant"] = self.tenant
        return orjson.dumps(facts) if facts else b""

    @classmethod
    def decoded(cls, raw: bytes) -> Meta:
        if not raw:
            return _NO_META
        facts = orjson.loads(raw)
        return cls(facts.get("path", ""), facts.get("headers"), facts.get("tenant", ""))


_NO_META = Meta()


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads messages. ``life`` is given to requests without a deadline (seconds); ``clock`` gives Unix seconds."""

    life: float = DEFAULT_LIFE
    size_limit: int = SIZE_LIMIT
    clock: Callable[[], float] = time.time

    def __call__(self, raw: bytes) -> Item | Refused:
        """The request in ``raw``, or why it is none; its id is kept when it can be read."""
        facts: object = None
        try:
            if len(raw) > self.size_limit:
                raise InvalidRequest(f"it has {len(raw)} bytes; {self.size_limit} are allowed")  # noqa: TRY301
            facts = _json_object(raw)
            return self.item(facts)
        except InvalidRequest as error:
            return Refused(_readable_id(facts) or refused_id(raw), raw, str(error))

    def item(self, facts: dict[str, Any]) -> Item:
        """The request that ``facts`` describes. Raises InvalidRequest."""
        if "custom_id" in facts:
            return self._openai(facts)
        if isinstance(facts.get("data"), dict) and ("internal" in facts or "request_kind" in facts):
            facts = facts["data"]
        metadata = facts.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        if "payload" not in facts:
            raise InvalidRequest("it has no payload")
        if not isinstance(facts["payload"], dict):
            raise InvalidRequest("its payload is no object")
        meta = Meta(
            _path(facts.get("endpoint", "")),
            _headers(facts.get("headers"), str(facts.get("id"))),
            _tenant(facts.get("tenant", metadata.get("userid", ""))),
        )
        return Item(
            _id(facts.get("id")),
            orjson.dumps(facts["payload"]),
            self._deadline(facts.get("deadline")),
            _priority(facts.get("priority", 0)),
            meta.encoded(),
        )

    def _openai(self, facts: dict[str, Any]) -> Item:
        if facts.get("method", "POST") != "POST":
            raise InvalidRequest(f"its method is {facts['method']!r}; only POST is known")
        if not isinstance(facts.get("body"), dict):
            raise InvalidRequest("its body is no object")
        path = _path(facts.get("url"))
        if not path:
            raise InvalidRequest("it has no url")
        meta = Meta(path, None, _tenant(facts.get("tenant", "")))
        deadline = self._deadline(facts.get("deadline"))
        priority = _priority(facts.get("priority", 0))
        return Item(_id(facts["custom_id"]), orjson.dumps(facts["body"]), deadline, priority, meta.encoded())

    def _deadline(self, value: object) -> float:
        """Unix seconds, as a number or as text (seed: "deadline in Unix seconds")."""
        if value is None:
            return self.clock() + self.life
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            seconds = math.nan
        if not math.isfinite(seconds) or seconds <= 0:
            raise InvalidRequest(f"its deadline {_shown(value)} is no time in Unix seconds")
        return seconds


def result_line(result: Result) -> bytes:
    """One JSON line for a result: ``id`` with ``payload`` or ``error``, and how it came about."""
    facts: dict[str, Any] = {"id": result.id}
    if result.code is Code.OK:
        facts["payload"] = orjson.Fragment(one_line(result.payload))
    else:
        facts |= {"error": result.error or result.code.value, "code": result.code.value}
    facts |= {"status": result.status, "attempts": result.attempts}
    return orjson.dumps(facts) + b"\n"


def one_line(payload: bytes) -> bytes:
    """JSON text without line breaks: some endpoints print it prettily."""
    return orjson.dumps(orjson.loads(payload)) if b"\n" in payload or b"\r" in payload else payload


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        facts = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"it is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise InvalidRequest("it is no JSON object")
    return facts


def _readable_id(facts: object) -> str | None:
    if not isinstance(facts, dict):
        return None
    inner = facts.get("data")
    for place in (facts, inner if isinstance(inner, dict) else {}):
        for key in ("id", "custom_id"):
            try:
                return _id(place.get(key))
            except InvalidRequest:
                continue
    return None


def _id(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InvalidRequest("it has no id" if value in (None, "") else f"its id {_shown(value)} is no text")
    if len(value) > ID_LENGTH:
        raise InvalidRequest(f"its id has {len(value)} characters; {ID_LENGTH} are allowed")
    return value


def _path(value: object) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not _PATH.match(value) or value.startswith("//"):
        raise InvalidRequest(f"its endpoint {_shown(value)} is no path such as /v1/completions")
    return value


def _headers(value: object, id_: str) -> dict[str, str] | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("its headers are no object")
    kept = {}
    for name, text in value.items():
        if not _HEADER_NAME.match(name) or not isinstance(text, str) or not _HEADER_VALUE.match(text):
            raise InvalidRequest(f"its header {_shown(name)} is not allowed in HTTP")
        if name.lower() in FORBIDDEN_HEADERS:
            log.warning("message %s: its header %s is left out (credentials are not kept with messages)", id_, name)
        else:
            kept[name.lower()] = text
    return kept or None


def _tenant(value: object) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise InvalidRequest(f"its tenant {_shown(value)} is no text of at most 256 characters")
    return value


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"its priority {_shown(value)} is no whole number")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
