"""Lists as the service answers them: ``$filter``, ``$select``, ``$expand``, ``maxresults`` and ``odata.nextLink``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import orjson

from azbatchwrap.local.batch import odata
from azbatchwrap.local.batch.errors import BatchError, bad_query
from azbatchwrap.local.batch.exchange import Request, Response

#: Most entries of one page, and the number when the client names none.
PAGE = 1000
_SKIP_PREFIX = "WATV2:"
_T = TypeVar("_T")


def page_size(request: Request) -> int:
    """``maxresults``: 1 to 1000."""
    text = request.query.get("maxresults", "")
    if not text:
        return PAGE
    if not text.isdecimal():
        raise bad_query("maxresults", text, "The value must be a whole number.")
    if not 1 <= int(text) <= PAGE:
        raise BatchError(
            "OutOfRangeQueryParameterValue",
            [
                ("QueryParameterName", "maxresults"),
                ("QueryParameterValue", text),
                ("MinimumAllowed", "1"),
                ("MaximumAllowed", str(PAGE)),
            ],
        )
    return int(text)


def parse_filter(request: Request, fields: odata.Fields) -> odata.Filter | None:
    """The request's ``$filter``, or None."""
    text = request.query.get("$filter", "")
    if not text.strip():
        return None
    try:
        return odata.parse(text, fields)
    except odata.FilterError as error:
        raise bad_query("$filter", text, error.reason) from None


def expands_stats(request: Request) -> bool:
    """Whether the request's ``$expand`` asks for the statistics, which are all that can be expanded."""
    expand = request.query.get("$expand", "")
    if expand and expand.strip().lower() != "stats":
        raise bad_query("$expand", expand, "Only stats can be expanded.")
    return bool(expand)


def selection(request: Request, properties: frozenset[str]) -> str:
    """The request's ``$select``, empty when there is none. Raises BatchError unless it names ``properties``."""
    names = request.query.get("$select", "").strip()
    if names:
        try:
            odata.check(names, properties)
        except odata.SelectError as error:
            raise bad_query("$select", names, error.reason) from None
    return names


def selected(request: Request, view: dict[str, Any], properties: frozenset[str]) -> dict[str, Any]:
    """``view`` reduced to the request's ``$select``."""
    names = selection(request, properties)
    return odata.select(view, names) if names else view


def read_token(request: Request) -> Any:
    """Where the page begins, as `next_link` wrote it; None for the first page."""
    text = request.query.get("$skiptoken", "")
    if not text:
        return None
    try:
        return orjson.loads(base64.urlsafe_b64decode(text.removeprefix(_SKIP_PREFIX)))
    except (binascii.Error, ValueError):
        raise bad_query("$skiptoken", text, "The token was not made by this service.") from None


def next_link(request: Request, token: Any) -> str:
    """The absolute address of the next page: this request's, with the token put in."""
    kept = [
        f"{name}={quote(value, safe='')}"
        for name, value in request.query.items()
        if name not in {"$skiptoken", "api-version"}
    ]
    packed = base64.urlsafe_b64encode(orjson.dumps(token)).decode()
    pairs = [f"api-version={request.query['api-version']}", *kept, f"$skiptoken={_SKIP_PREFIX}{packed}"]
    return f"{request.url}?{'&'.join(pairs)}"


def page_answer(request: Request, kind: str, items: Iterable[bytes], token: Any = None) -> Response:
    """200 with a list whose entries are JSON already; ``token`` tells that more follows."""
    head = b'{"odata.metadata":' + orjson.dumps(f"{request.base}/$metadata#{kind}") + b',"value":['
    tail = b'],"odata.nextLink":' + orjson.dumps(next_link(request, token)) + b"}" if token is not None else b"]}"
    return Response(200, head + b",".join(items) + tail)


def answer(
    request: Request,
    kind: str,
    things: Iterable[_T],
    key: Callable[[_T], Any],
    *,
    view: Callable[[_T], dict[str, Any]],
    fields: odata.Fields | None = None,
    properties: frozenset[str] = frozenset(),
) -> Response:
    """A page of things held in memory, in the order of ``key`` (JSON-able and unique).

    ``fields`` are what it may be filtered by, ``properties`` what may be selected.
    """
    size = page_size(request)
    expands_stats(request)  # what cannot be expanded is refused even where there is nothing to expand
    wanted = parse_filter(request, fields) if fields is not None else None
    names = selection(request, properties)
    after = read_token(request)
    ordered = sorted(((key(thing), thing) for thing in things), key=lambda pair: pair[0])
    kept: list[bytes] = []
    token: Any = None
    for place, thing in ordered:
        if after is not None and not _is_after(place, after):
            continue
        shown = view(thing)
        if wanted is not None and not wanted.matches(shown):
            continue
        if len(kept) == size:
            return page_answer(request, kind, kept, token)
        kept.append(orjson.dumps(odata.select(shown, names) if names else shown))
        token = _plain(place)
    return page_answer(request, kind, kept)


def _is_after(place: Any, after: Any) -> bool:
    try:
        return bool(_plain(place) > after)
    except TypeError:
        raise bad_query("$skiptoken", str(after), "The token belongs to another list.") from None


def _plain(place: Any) -> Any:
    """A key as it comes back from JSON."""
    return list(place) if isinstance(place, tuple) else place
