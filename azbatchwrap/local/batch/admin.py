"""Our own addresses on the service, below ``/_local/``: faults, keys, applications and identities. Signed with the account's key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson

from azbatchwrap.local.batch.errors import BatchError, bad_property
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes.checks import ID, Shape, anything, listed, text

PREFIX = "/_local/"
_APPLICATION = Shape(
    {
        "displayName": text(),
        "defaultVersion": text(),
        "versions": listed(Shape({"version": text(shortest=1), "url": text(shortest=1)}, required=("version", "url"))),
    },
    required=("versions",),
)
_VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")
_IDENTITY = Shape({"identity": anything})
_KEYS = Shape({"key": text(shortest=1), "second_key": text(shortest=1)}, required=("key",))


def answer(service: Service, request: Request) -> Response:
    """Find the route and do what it says. Raises BatchError."""
    words = [unquote(word) for word in request.raw_path.removeprefix(PREFIX).split("/")]
    handler = _HANDLERS.get((request.method, words[0], len(words)))
    if handler is None:
        raise BatchError("InvalidUri", status=404)
    found = handler(service, request, words)
    return Response(200, orjson.dumps(found)) if found is not None else Response(204)


def _show_chaos(service: Service, _request: Request, _words: list[str]) -> dict[str, Any]:
    return service.chaos.view()


def _change_chaos(service: Service, request: Request, _words: list[str]) -> dict[str, Any]:
    given = request.json()
    if not isinstance(given, dict):
        raise BatchError("InvalidRequestBody", [("Reason", "The body must be an object.")])
    try:
        service.chaos.change(given)
    except ValueError as error:
        raise bad_property("chaos", given, str(error)) from None
    if service.chaos.counts_lag != service.lag.seconds:
        service.lag.set(service.chaos.counts_lag, service.jobs.values())
    return service.chaos.view()


def _put_application(service: Service, request: Request, words: list[str]) -> None:
    """What the management side knows of an application: its active packages, and where to fetch them."""
    body = request.read(_APPLICATION)
    names = [each["version"] for each in body["versions"]]
    if not ID.match(words[1]) or not all(_VERSION.match(name) for name in names):
        raise bad_property("versions", names, "Ids and versions are file names on nodes.")
    versions = {each["version"]: each["url"] for each in body.pop("versions")}
    application = {"id": words[1], **body, "versions": versions}
    service.applications[words[1].lower()] = application
    service.store.save("application", words[1], application)


def _delete_application(service: Service, _request: Request, words: list[str]) -> None:
    if service.applications.pop(words[1].lower(), None) is not None:
        service.store.drop("application", words[1])


def _put_identity(service: Service, request: Request, words: list[str]) -> None:
    """The managed identities of a pool: only the management side can give them."""
    pool = service.pool(words[1])
    identity = request.read(_IDENTITY).get("identity")
    pool.spec = {name: value for name, value in pool.spec.items() if name != "identity"}
    if identity is not None:
        pool.spec["identity"] = identity
    service.save_pool(pool)


def _put_keys(service: Service, request: Request, _words: list[str]) -> None:
    """The account's keys from now on; who renewed them has written them down before."""
    body = request.read(_KEYS)
    try:
        service.shared_key.renew(body["key"], body.get("second_key"))
    except ValueError as error:
        raise bad_property("key", "", f"A key is base64: {error}.") from None


_Handler = Callable[[Service, Request, list[str]], "dict[str, Any] | None"]
#: (verb, first word, number of words) -> handler
_HANDLERS: dict[tuple[str, str, int], _Handler] = {
    ("GET", "chaos", 1): _show_chaos,
    ("PATCH", "chaos", 1): _change_chaos,
    ("PUT", "keys", 1): _put_keys,
    ("PUT", "applications", 2): _put_application,
    ("DELETE", "applications", 2): _delete_application,
    ("PUT", "pools", 2): _put_identity,
}
