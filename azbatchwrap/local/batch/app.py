"""The HTTP side: every request is authenticated, dispatched, committed and answered here."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

from azbatchwrap.local.batch import admin, identities, routes
from azbatchwrap.local.batch.auth import Authentication
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.web.page import Page
from azbatchwrap.local.web.traffic import Traffic

log = logging.getLogger(__name__)

Scope: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"
Headers: TypeAlias = "list[tuple[bytes, bytes]]"

MAX_BODY = 1024 * 1024
JSON_TYPE = (b"content-type", b"application/json;odata=minimalmetadata")
_CONSTANT = (
    (b"dataserviceversion", b"3.0"),
    (b"server", b"azbatchwrap"),
    (b"x-content-type-options", b"nosniff"),
)
#: What is not an api-version at all; later ones than the service knows are refused as well.
_VERSION = re.compile(r"(\d{4}-\d\d-\d\d)(\.\d+\.\d+)?\Z")
OLDEST_VERSION = "2018-03-01"
NEWEST_VERSION = "2025-06-01"
#: Members inside of pools, jobs and tasks that had another name: today's, the former one, the first api-version
#: with today's.
_RENAMED = ((b'"httpUrl":', b'"blobSource":', "2018-12"), (b'"taskSlotsPerNode":', b'"maxTasksPerNode":', "2020-09"))


class BatchApp:
    """An ASGI application with its own dispatch in front: 72 routes cost no more than one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._authentication = Authentication(service.shared_key, service.settings.token_secret)
        self._traffic = Traffic()
        self._page = Page(service, self._traffic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["raw_path"].startswith(b"/ui"):
            await self._page(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        request_id = _new_request_id()
        host = headers.get("host") or self._service.url.partition("//")[2]
        raw_path = scope["raw_path"].decode("latin-1")
        request = Request(
            scope["method"],
            raw_path,
            scope["query_string"].decode("latin-1"),
            headers,
            base=f"{scope['scheme']}://{host}",
            request_id=request_id,
        )
        response = await self._respond(request, receive)
        self._traffic.count(response.status)
        await _send(request, response, send)

    async def _respond(self, request: Request, receive: Receive) -> Response:
        try:
            request.body = await _read_body(request, receive)
            if request.raw_path.startswith(identities.PREFIX):
                return identities.answer(self._service, request)
            self._authentication.check(request)
            answer = self._handle(request)
            response = await answer if isawaitable(answer) else answer
            if self._service.store.is_open:
                await self._service.store.committed()
        except BatchError as error:
            self._traffic.refused(request.method, request.raw_path, error.status, error.code)
            return _refusal(request, error)
        except sqlite3.OperationalError as error:
            log.exception("%s %s met the database's refusal", request.method, request.raw_path)
            self._traffic.refused(request.method, request.raw_path, 503, "ServerBusy")
            return _refusal(request, BatchError("ServerBusy", [("Reason", str(error))]))
        except Exception:
            log.exception("%s %s failed", request.method, request.raw_path)
            self._traffic.refused(request.method, request.raw_path, 500, "InternalError")
            return _refusal(request, BatchError("InternalError"))
        return _renamed(request, response)

    def _handle(self, request: Request) -> Response | Awaitable[Response]:
        """Our own addresses know neither versions nor faults."""
        if request.raw_path.startswith(admin.PREFIX):
            return admin.answer(self._service, request)
        _check_version(request)
        self._service.chaos.meet()
        self._check_room(request)
        handler, request.path = routes.find(request.method, request.raw_path)
        routes.check(request, handler)
        return handler(self._service, request)

    def _check_room(self, request: Request) -> None:
        """On a full disk nothing new is taken on; looking and deleting go on."""
        if self._service.store.is_short and request.method not in {"GET", "HEAD", "DELETE"}:
            raise BatchError("ServerBusy", [("Reason", "The disk of the data folder is full.")])


def _new_request_id() -> str:
    """A random GUID, made in a fifth of the time that the uuid module takes."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


async def _read_body(request: Request, receive: Receive) -> bytes:
    """The whole body; refused as soon as it is known to be too long."""
    if request.method in {"GET", "HEAD"}:
        return b""
    stated = request.headers.get("content-length", "")
    if not stated and request.method in {"POST", "PUT", "PATCH"} and "transfer-encoding" not in request.headers:
        raise BatchError("MissingContentLengthHeader")
    too_large = stated.isdecimal() and int(stated) > MAX_BODY
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BatchError("InvalidRequestBody", [("Reason", "The client went away before the end of the body.")])
        piece = message.get("body", b"")
        size += len(piece)
        if size <= MAX_BODY and not too_large:
            pieces.append(piece)
        if not message.get("more_body", False):
            break
    if too_large or size > MAX_BODY:
        raise BatchError("RequestBodyTooLarge", [("MaxLimit", str(MAX_BODY))])
    return b"".join(pieces) if len(pieces) != 1 else pieces[0]


def _check_version(request: Request) -> None:
    version = request.query.get("api-version")
    if not version:
        raise BatchError("MissingRequiredQueryParameter", [("QueryParameterName", "api-version")])
    match = _VERSION.match(version)
    if match is None or not OLDEST_VERSION <= match.group(1) <= NEWEST_VERSION:
        raise BatchError("UnsupportedRequestVersion", [("ApiVersion", version[:64])])


def _renamed(request: Request, response: Response) -> Response:
    """The answer with the names that the api-version has. Inside of strings quotes are escaped, so none is touched."""
    version = request.query.get("api-version", NEWEST_VERSION)
    for name, former, since in _RENAMED:
        if version < since:
            response.body = response.body.replace(name, former)
    return response


def _refusal(request: Request, error: BatchError) -> Response:
    if error.status == 304:
        return Response(304)
    return Response(error.status, error.body(request.base, request.request_id), error.headers)


async def _send(request: Request, response: Response, send: Send) -> None:
    headers: Headers = [*_CONSTANT, (b"request-id", request.request_id.encode()), *response.headers]
    client_id = request.headers.get("client-request-id")
    if client_id and request.headers.get("return-client-request-id", "").lower() == "true":
        headers.append((b"client-request-id", client_id.encode("latin-1")))
    body = response.body
    if response.stream is None:
        if body and request.method != "HEAD":
            headers.append(JSON_TYPE)
        if not response.has_length and response.status != 304:
            headers.append((b"content-length", b"0" if request.method == "HEAD" else b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if response.stream is not None:
        async for piece in response.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
