"""One request and its answer, as the handlers see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError, bad_header
from azbatchwrap.local.batch.shapes.checks import Shape

#: What .NET's writers like to put before UTF-8.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


class Request:
    """What a client asks. Header and query names are lower-case; ``path`` holds the decoded ids of the address."""

    __slots__ = ("base", "body", "headers", "host", "method", "path", "query", "raw_path", "raw_query", "request_id")

    def __init__(
        self, method: str, raw_path: str, raw_query: str, headers: Mapping[str, str], *, base: str, request_id: str
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.headers = headers
        self.base = base
        self.request_id = request_id
        self.path: tuple[str, ...] = ()
        self.body = b""
        self.query = _parse_query(raw_query)

    @property
    def version(self) -> str:
        """The api-version asked for; compares by its date."""
        return self.query["api-version"]

    @property
    def url(self) -> str:
        """The address without the query."""
        return self.base + self.raw_path

    def read(self, shape: Shape) -> dict[str, Any]:
        """The checked JSON body. Raises BatchError."""
        return shape.read(self.json())

    def read_optional(self, shape: Shape) -> dict[str, Any]:
        """As `read`; no body means an empty object."""
        return shape.read(self.json()) if self.body.strip() else {}

    def json(self) -> Any:
        if not self.body.strip():
            raise BatchError("InvalidRequestBody", [("Reason", "The request needs a JSON body.")])
        try:
            return orjson.loads(self.body.removeprefix(_BYTE_ORDER_MARK))
        except orjson.JSONDecodeError as error:
            raise BatchError("InvalidRequestBody", [("Reason", f"The body is not valid JSON: {error}.")]) from None

    def check_conditions(self, modified: int) -> None:
        """Raises ConditionNotMet unless the conditional headers fit something last modified at these ticks."""
        headers = self.headers
        if _CONDITIONS.isdisjoint(headers):
            return
        if "if-match" in headers and "if-none-match" in headers:
            raise BatchError("MultipleConditionHeadersNotSupported")
        tag = wire.etag(modified)
        if (match := headers.get("if-match")) and not _names(match, tag):
            raise BatchError("ConditionNotMet")
        status = 304 if self.method in {"GET", "HEAD"} else 412
        if (none := headers.get("if-none-match")) and _names(none, tag):
            raise BatchError("ConditionNotMet", status=status)
        second = modified - modified % wire.TICKS_PER_SECOND
        if (since := headers.get("if-unmodified-since")) and second > self._date("if-unmodified-since", since):
            raise BatchError("ConditionNotMet")
        if (since := headers.get("if-modified-since")) and second <= self._date("if-modified-since", since):
            raise BatchError("ConditionNotMet", status=status)

    @staticmethod
    def _date(name: str, value: str) -> int:
        try:
            return wire.parse_http_date(value)
        except ValueError:
            raise bad_header(name, value) from None


@lru_cache(maxsize=256)
def _pairs(raw_query: str) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in parse_qsl(raw_query, keep_blank_values=True))


def _parse_query(raw_query: str) -> dict[str, str]:
    """Names in lower case. Most requests of a client carry the api-version alone: those are read once."""
    return dict(_pairs(raw_query))


def _names(header: str, tag: str) -> bool:
    tags = {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
    return "*" in tags or tag in tags


class Response:
    """An answer. ``stream`` takes the place of ``body`` for the content of files."""

    __slots__ = ("body", "has_length", "headers", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        stream: AsyncIterator[bytes] | None = None,
        *,
        has_length: bool = False,
    ) -> None:
        #: Whether ``headers`` tell the length of the body.
        self.has_length = has_length
        self.status = status
        self.body = body
        self.headers = headers
        self.stream = stream


def tagged(modified: int) -> tuple[tuple[bytes, bytes], ...]:
    """ETag and Last-Modified of something last modified at these ticks."""
    return ((b"etag", b"0x%X" % modified), (b"last-modified", wire.http_date(modified).encode()))


def created(modified: int, url: str) -> Response:
    """201 for a new pool, job, schedule or task."""
    place = url.encode()
    return Response(201, b"", (*tagged(modified), (b"dataserviceid", place), (b"location", place)))


def done(request: Request, status: int, modified: int | None = None) -> Response:
    """The empty answer of an update or action; ``modified`` is the changed entity's."""
    tags = tagged(modified) if modified is not None else ()
    return Response(status, b"", (*tags, (b"dataserviceid", request.url.encode())))


def entity(request: Request, kind: str, view: dict[str, Any], modified: int | None = None) -> Response:
    """200 with one entity; ``kind`` is its word in the metadata address, such as ``pools``."""
    body = {"odata.metadata": f"{request.base}/$metadata#{kind}/@Element", **view}
    return Response(200, orjson.dumps(body), tagged(modified) if modified is not None else ())
