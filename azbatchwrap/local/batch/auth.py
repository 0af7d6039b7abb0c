"""Shared-key authentication: the signature of a request, checked in constant time, and the skew of its date."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import unquote_plus

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError

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
#: A request whose date is further from ours than this many seconds may be a replay.
SKEW_SECONDS = 15 * 60


def _refuse(detail: str) -> BatchError:
    return BatchError("AuthenticationFailed", [("AuthenticationErrorDetail", detail)])


def _query_lines(query: str) -> str:
    """The first non-empty value of each parameter, sorted by its name, as the clients sign it."""
    pairs: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if value:
            pairs.setdefault(unquote_plus(name), unquote_plus(value))
    return "".join(f"\n{name}:{pairs[name]}" for name in sorted(pairs))


class SharedKey:
    """Checks ``Authorization: SharedKey ACCOUNT:SIGNATURE`` for one account."""

    def __init__(self, account: str, key: str) -> None:
        self.account = account
        self._keyed = hmac.new(base64.b64decode(key), digestmod="sha256")

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
        if not any(
            hmac.compare_digest(self._sign(text), claimed)
            for text in self._texts(method, raw_path, query, headers, account)
        ):
            raise _refuse("The MAC signature found in the HTTP request is not the same as any computed signature.")

    def _sign(self, text: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.digest()

    def _texts(
        self, method: str, raw_path: str, query: str, headers: Mapping[str, str], account: str
    ) -> tuple[str, ...]:
        ocp = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if "ocp-" in name and headers[name])
        tail = f"{ocp}/{account}{raw_path}{_query_lines(query)}"
        values = [headers.get(name, "") for name in _SIGNED]
        texts = [f"{method}\n" + "\n".join(values) + "\n" + tail]
        # Clients differ on requests without a body: Python signs "0", others sign nothing.
        if values[2] in {"", "0"}:
            values[2] = "" if values[2] else "0"
            texts.append(f"{method}\n" + "\n".join(values) + "\n" + tail)
        return tuple(texts)

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
