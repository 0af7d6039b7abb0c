"""The HTTP side: every request is authenticated, dispatched, committed and answered here."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

import orjson

from azbatchwrap.local.arm import groups, signin
from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, refusal
from azbatchwrap.local.arm.service import Arm
from azbatchwrap.local.arm.tokens import MACHINE_LEARNING, MANAGEMENT

log = logging.getLogger(__name__)

Scope: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"

#: The limit of the real management plane (bytes).
MAX_BODY = 4 * 1024 * 1024
_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-[a-z.]+)?\Z", re.IGNORECASE)
#: Where batch endpoints are invoked: an audience of their own.
SCORING = "/endpoints/"
#: Where a workspace's own services answer: no api-version needed.
WORKSPACE_SERVICES = (SCORING, "/mferp/", "/history/")


class ArmApp:
    """An ASGI application."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request.parse(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            headers,
            f"https://{headers.get('host', '127.0.0.1')}",
        )
        answer = await self._answer(request, receive)
        if not request.path.startswith(signin.ADMIN):
            self._arm.journal.add(request.method, request.path, request.version, answer.status)
        if answer.is_lost:
            _break_off(send)
        else:
            await _send(request, answer, send)

    async def _answer(self, request: Request, receive: Receive) -> Answer:
        arm = self._arm
        try:
            request.body = await _read_body(receive)
            self._admit(request)
            is_lost = arm.faults.loses(request.method, request.path)
            arm.store.commit()
            handler, request.names = arm.router.find(request)
            given = handler(arm, request)
            answer = await given if isawaitable(given) else given
            arm.store.commit()
            await arm.sweep()
        except ArmError as error:
            arm.store.roll_back()
            return refusal(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            arm.store.roll_back()
            return refusal(ArmError(500, "InternalServerError", "The service met an error of its own; see its log."))
        return Answer(answer.status, answer.body, answer.headers, is_lost=True) if is_lost else answer

    def _admit(self, request: Request) -> None:
        """Raises ArmError unless the request may go on: its token, its version, and the faults in force."""
        arm = self._arm
        if request.path.lower().startswith(signin.OPEN):
            return
        if request.path.startswith(signin.ADMIN):
            signin.check_admin(arm, request)
            return
        path = request.path.lower()
        is_service = path.startswith(WORKSPACE_SERVICES)
        audiences = () if path.startswith(SCORING) else (request.base, *MANAGEMENT)
        arm.tokens.check(request.headers, (MACHINE_LEARNING, *audiences) if is_service else audiences)
        refused = arm.faults.refusal(request.method, request.path)
        arm.store.commit()  # one fault less to come
        if refused is not None:
            raise refused
        if not is_service:
            _check_version(request)
            groups.check_subscription(request.path)


def _check_version(request: Request) -> None:
    if not request.version:
        raise bad_request(
            "The api-version query parameter (?api-version=) is required for all requests.",
            "MissingApiVersionParameter",
        )
    if not _VERSION.match(request.version):
        raise bad_request(f"The api-version '{request.version[:64]}' is invalid.", "InvalidApiVersionParameter")


async def _read_body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise bad_request("The client went away before the end of the content.")
        piece = message.get("body", b"")
        size += len(piece)
        if size <= MAX_BODY:
            pieces.append(piece)
        if not message.get("more_body", False):
            break
    if size > MAX_BODY:
        raise ArmError(413, "RequestContentTooLarge", f"The request content is larger than {MAX_BODY} bytes.")
    return b"".join(pieces)


def _break_off(send: Send) -> None:
    """Close the connection without a word: the client cannot know whether its request was carried out.

    ASGI has no message for it; uvicorn's connection is what its ``send`` belongs to.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


async def _send(request: Request, answer: Answer, send: Send) -> None:
    body = b"" if answer.body is None else orjson.dumps(answer.body)
    headers = {
        "x-ms-request-id": str(uuid.uuid4()),
        "x-ms-correlation-request-id": str(uuid.uuid4()),
        "server": "azbatchwrap",
    }
    if body:
        headers["content-type"] = "application/json; charset=utf-8"
    client_id = request.headers.get("x-ms-client-request-id")
    if client_id:
        headers["x-ms-client-request-id"] = client_id
    if answer.status not in {204, 304}:
        headers["content-length"] = str(len(body))
    headers |= answer.headers
    wire = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": wire})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
