"""What a storage service refuses, as our own errors: the one place, by code and status, never by message text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from azbatchwrap.backoff import parse_retry_after
from azbatchwrap.errors import AccessDenied, Conflict, NotFound, ServiceError, Throttled, Unreachable

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError

#: Answers that another attempt may change: time-out, throttling, and the server's own failures.
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

_BY_STATUS: dict[int, type[ServiceError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    429: Throttled,
    503: Throttled,
}
_WAY_OUT: dict[type[ServiceError], str] = {
    AccessDenied: "check the storage account's key, or the identity's role (Storage Blob Data Contributor is needed)",
    Throttled: "the account is asked for more than it gives; try again later",
    Unreachable: "check the account's address and that this machine can reach it",
}
#: A query may hold a signature, so no message repeats one; ``sig=`` alone is caught too.
_SECRET = re.compile(r"\?[^\s'\"<>)]*|(?i:\bsig=[^\s&'\"<>)]*|AccountKey=[^\s;]*)")


def scrubbed(text: str) -> str:
    """``text`` without the query part of any address in it, on one line."""
    return " ".join(_SECRET.sub("?…", text).split())


def refused(doing: str, status: int, code: str, *, retry_after: str | None = None) -> ServiceError:
    """The error for an answer with HTTP ``status`` and the service's ``code`` while ``doing`` something."""
    kind = _BY_STATUS.get(status, ServiceError)
    way_out = _WAY_OUT.get(kind, "")
    message = scrubbed(f"{doing}: the storage service answered {status} {code}".rstrip())
    if way_out:
        message = f"{message}; {way_out}"
    if kind is Throttled:
        return Throttled(message, code=code, status=status, retry_after=parse_retry_after(retry_after))
    return kind(message, code=code, status=status)


def no_answer(doing: str, reason: str) -> Unreachable:
    """The error for a request that got no answer; ``reason`` may hold addresses, which lose their queries."""
    return Unreachable(f"{scrubbed(doing)}: no answer from storage ({scrubbed(reason)}); {_WAY_OUT[Unreachable]}")


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises our error in place of azure-core's. ``doing`` starts the message: what was tried, and on what."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise _translate(error, doing) from error


def _translate(error: AzureError, doing: str) -> ServiceError:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _from_answer(error, error.status_code, doing)
    if isinstance(error, ClientAuthenticationError):
        return AccessDenied(f"{doing}: signing in failed; run `az login`, or give the account's key")
    return no_answer(doing, str(error))


def _from_answer(error: HttpResponseError, status: int, doing: str) -> ServiceError:
    code = getattr(error, "error_code", None)
    headers = getattr(error.response, "headers", {})
    # The SDK's error code is an enumeration for the codes it knows and text for the others.
    return refused(doing, status, str(getattr(code, "value", code) or ""), retry_after=headers.get("Retry-After"))
