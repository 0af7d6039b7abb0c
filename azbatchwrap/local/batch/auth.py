"""Shared-key authentication: the signature of a request, checked in constant time, and the skew of its date."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from urllib.parse import unquote_plus

from azbatchwrap.local.arm.errors import ArmError
from azbatchwrap.local.arm.tokens import Tokens
from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request

_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
_LENGTH, _DATE = _SIGNED.index("content-length"), _SIGNED.index("date")
#: A request whose date is further from ours than this many seconds may be a replay.
SKEW_SECONDS = 15 * 60
#: The audience of tokens for the Batch data plane.
AUDIENCE = "https://batch.core.windows.net"
#: A task's own token names the job that it opens.
JOB_CLAIM = "batch_job"


def _refuse(detail: str) -> BatchError:
    return BatchError("AuthenticationFailed", [("AuthenticationErrorDetail", detail)])


@lru_cache(maxsize=256)
def _query_lines(query: str) -> tuple[str, ...]:
    """The parameters as clients sign them: the first value of each by its name as sent, or all of them, in lower case.

    The former is what Python's clients do, the latter what the service's documentation asks for.
    """
    first: dict[str, str] = {}
    every: dict[str, list[str]] = {}
    for part in query.split("&"):
        name, _, value = (unquote_plus(piece) for piece in part.partition("="))
        if value:
            first.setdefault(name, value)
        if name:
            every.setdefault(name.lower(), []).append(value)
    lines = (
        "".join(f"\n{name}:{first[name]}" for name in sorted(first)),
        "".join(f"\n{name}:{','.join(sorted(every[name]))}" for name in sorted(every)),
    )
    return tuple(dict.fromkeys(lines))


def _texts(method: str, headers: Mapping[str, str], resources: Sequence[str]) -> Iterator[str]:
    """The strings that a client may have signed, the likeliest first.

    Clients differ on requests without a body: Python signs the length "0", others sign nothing. A Date that stands
    beside an ocp-date is to be signed as empty; Python signs it as sent.
    """
    values = [headers.get(name, "") for name in _SIGNED]
    ocp = "".join([f"{name}:{headers[name]}\n" for name in sorted(headers) if "ocp-" in name and headers[name]])
    given = values[_LENGTH]
    lengths = {"": ("", "0"), "0": ("0", "")}.get(given, (given,))
    dates = (values[_DATE], "") if values[_DATE] and "ocp-date" in headers else (values[_DATE],)
    for resource, length, date in product(resources, lengths, dates):
        values[_LENGTH], values[_DATE] = length, date
        yield "\n".join((method, *values, f"{ocp}{resource}"))


class Authentication:
    """A request carries either a signature or, over TLS, a token that the instance's sign-in issued."""

    def __init__(self, key: SharedKey, token_secret: str | None) -> None:
        self._key = key
        self._tokens = Tokens(token_secret) if token_secret else None

    def check(self, request: Request) -> None:
        """Raises BatchError AuthenticationFailed unless the request may go on."""
        headers = request.headers
        if headers.get("authorization", "")[:7].lower() == "bearer ":
            self._check_token(request)
        else:
            self._key.check(request.method, request.raw_path, request.raw_query, headers)

    def _check_token(self, request: Request) -> None:
        if self._tokens is None or not request.base.startswith("https:"):
            raise _refuse("Tokens are taken over TLS alone, by an instance with a sign-in.")
        try:
            claims = self._tokens.check(request.headers, (AUDIENCE,))
        except ArmError as error:
            detail = [("AuthenticationErrorDetail", error.message)]
            raise BatchError(
                "AuthenticationFailed", detail, status=401, headers=((b"www-authenticate", b"Bearer"),)
            ) from error
        job = claims.get(JOB_CLAIM)
        if job is not None and [word.lower() for word in request.raw_path.split("/")[1:3]] != ["jobs", job.lower()]:
            raise _refuse(f"The token of a task opens the task's job {job} and nothing else.")


class SharedKey:
    """Checks ``Authorization: SharedKey ACCOUNT:SIGNATURE`` for one account, whose two keys can be renewed."""

    def __init__(self, account: str, primary: str, secondary: str | None = None) -> None:
        self.account = account
        self.renew(primary, secondary)

    def renew(self, primary: str, secondary: str | None) -> None:
        """Take these keys (base64) from now on, and no others. Raises ValueError for what is no key."""
        keys = [base64.b64decode(key, validate=True) for key in (primary, secondary) if key]
        self._keyed = [hmac.new(key, digestmod="sha256") for key in keys]
        self.primary = primary

    def check(self, method: str, raw_path: str, query: str, headers: Mapping[str, str]) -> None:
        """Raises BatchError AuthenticationFailed unless the request carries a right signature and a fresh date.

        ``headers`` have lower-case names; ``raw_path`` is still percent-encoded, as the client signed it.
        """
        given = headers.get("authorization", "")
        scheme, _, credential = given.partition(" ")
        if scheme.lower() != "sharedkey":
            raise _refuse("The Authorization header is missing or not of the scheme SharedKey.")
        account, _, signature = credential.strip().rpartition(":")
        if account.lower() != self.account.lower():
            raise _refuse(f"Cannot find the claimed account when trying to GetProperties for the account {account}.")
        self._check_date(headers)
        try:
            claimed = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            raise _refuse("The signature is not valid base64.") from None
        resources = [f"/{account}{raw_path}{lines}" for lines in _query_lines(query)]
        texts = _texts(method, headers, resources)
        if not any(self._is_signature(claimed, text) for text in texts):
            expected = next(_texts(method, headers, resources))
            raise _refuse(
                f"The MAC signature found in the HTTP request '{signature}' is not the same as any computed signature. "
                f"Server used following string to sign: '{expected}'."
            )

    def _is_signature(self, claimed: bytes, text: str) -> bool:
        return any(hmac.compare_digest(_digest(keyed, text), claimed) for keyed in self._keyed)

    @staticmethod
    def _check_date(headers: Mapping[str, str]) -> None:
        stated = headers.get("ocp-date") or headers.get("date")
        if not stated:
            raise _refuse("The request has neither an ocp-date nor a Date header.")
        try:
            moment = wire.parse_http_date(stated)
        except ValueError:
            raise _refuse(f"The date {stated[:64]} is not an RFC 1123 date.") from None
        if abs(wire.to_unix(moment) - wire.to_unix(wire.now())) > SKEW_SECONDS:
            raise _refuse("The date header of the request lies more than 15 minutes from the service's clock.")


def _digest(keyed: hmac.HMAC, text: str) -> bytes:
    """Of ``text``. Copying a key that is set up takes half the time of setting it up."""
    signing = keyed.copy()
    signing.update(text.encode())
    return signing.digest()
