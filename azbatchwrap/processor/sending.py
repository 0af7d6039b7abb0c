"""Sends one request to one endpoint, and turns whatever happens into an `Answer`."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from azbatchwrap.endpoints.limits import EndpointLimit, LimitPolicy, Outcome
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError
from azbatchwrap.processor.answers import Answer, Verdict, judge, no_answer
from azbatchwrap.processor.credentials import Credentials, NoCredentials
from azbatchwrap.processor.http import Address, BrokenOff, HttpClient, NoConnection, TooLarge
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.tracing import Tracing
from azbatchwrap.queues import Claim

if TYPE_CHECKING:
    from typing_extensions import Self

#: An answer beyond this is not kept in memory (bytes).
ANSWER_LIMIT = 64 * 1024 * 1024
#: Addresses built from messages' paths that are kept ready.
ADDRESSES_KEPT = 1_000
#: Longer ids go into headers as their hash: servers take a few KiB of headers altogether (characters).
HEADER_LENGTH = 512
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Endpoint:
    """One place that requests go to, and what it takes at the moment."""

    url: str
    limit: EndpointLimit
    addresses: dict[str, Address] = field(default_factory=dict)

    def address(self, path: str) -> Address:
        """Where a message with ``path`` goes: below the endpoint's own prefix; without a path, to the endpoint."""
        known = self.addresses.get(path)
        if known is None:
            if len(self.addresses) >= ADDRESSES_KEPT:
                self.addresses.clear()
            known = self.addresses[path] = Address.of(joined(self.url, path) if path else self.url)
        return known


def joined(endpoint: str, path: str) -> str:
    """``path`` at the endpoint. What stands before "/v1" in the endpoint's own path is a gateway's prefix and stays."""
    parts = urlsplit(endpoint)
    own = parts.path.rstrip("/")
    prefix = own[: own.index("/v1")] if "/v1" in own else own
    return parts._replace(path=prefix + path, query="").geturl()


def new_endpoint(url: str, policy: LimitPolicy) -> Endpoint:
    """Raises ConfigurationError when ``url`` is no HTTP address, or one with a password in it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the endpoint {url!r} is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"the endpoint {url!r} is no address such as http://HOST:PORT/v1/completions")
    if parts.username or parts.password:
        raise ConfigurationError("the endpoint's address holds a password: give it by --token-file or --token-command")
    return Endpoint(url, EndpointLimit(policy))


@dataclass(frozen=True, slots=True)
class SendOptions:
    """``timeout``: seconds of one attempt. ``objective``: value of x-gateway-inference-objective (``""``: none)."""

    timeout: float = 300.0
    objective: str = ""
    answer_limit: int = ANSWER_LIMIT
    tls: ssl.SSLContext | None = None


class Sender:
    """Posts requests to all endpoints. Use as a context manager."""

    def __init__(self, options: SendOptions, credentials: Credentials | None = None) -> None:
        self._options = options
        self._credentials = credentials or NoCredentials()
        self._anonymous = isinstance(self._credentials, NoCredentials)
        self._tracing = Tracing()
        self._fixed = {"content-type": "application/json", "user-agent": "azbatchwrap"}
        if options.objective:
            self._fixed["x-gateway-inference-objective"] = options.objective
        # How many connections there are is the business of the endpoints' limits.
        self._client = HttpClient(options.answer_limit, options.tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    async def send(self, endpoint: Endpoint, claim: Claim, attempt: int, left: float) -> Answer:
        """Attempt number ``attempt`` (from 1), which may last ``left`` seconds at most: never beyond the deadline."""
        meta = Meta.decoded(claim.meta)
        headers = request_headers(claim.id, attempt, meta, self._fixed)
        address = endpoint.address(meta.path)
        with self._tracing.span(claim.id, endpoint.url, attempt, headers) as span:
            if self._anonymous:
                answer = await self._post(address, claim.body, headers, left)
            else:
                answer = await self._post_with_token(address, claim.body, headers, left)
            self._tracing.note(span, answer)
        return replace(answer, verdict=Verdict.FINAL) if answer.verdict is Verdict.AUTHORIZE else answer

    async def _post_with_token(self, address: Address, body: bytes, headers: dict[str, str], left: float) -> Answer:
        """With a token; if that is refused, once more with a fresh one."""
        answer = None
        for fresh in (False, True):
            try:
                token = await self._credentials.header(fresh=fresh)
            except AzBatchWrapError as error:
                return Answer(Verdict.RETRY, Outcome.ABANDONED, error=str(error), reason="credentials", charged=False)
            if token is not None:
                headers["authorization"] = token.reveal()
            answer = await self._post(address, body, headers, left)
            if answer.verdict is not Verdict.AUTHORIZE:
                break
        assert answer is not None
        return answer

    async def _post(self, address: Address, body: bytes, headers: Mapping[str, str], left: float) -> Answer:
        try:
            response = await self._client.post(address, headers, body, min(left, self._options.timeout))
        except NoConnection as error:
            return no_answer(str(error), error.reason, sent=False)
        except BrokenOff as error:
            return no_answer(str(error), "broken-off", sent=True)
        except asyncio.TimeoutError:
            # Cut short by the request's own deadline, it says nothing about the endpoint.
            outcome = Outcome.ABANDONED if left < self._options.timeout else Outcome.FAILED
            return no_answer("no answer in time", "timeout", sent=True, outcome=outcome)
        except TooLarge as error:
            text = f"HTTP {error.status} with an answer of more than {self._options.answer_limit} bytes"
            return Answer(Verdict.FINAL, Outcome.SERVED, error.status, error=text, reason="too-large")
        except ValueError as error:
            return Answer(Verdict.FINAL, Outcome.ABANDONED, error=f"cannot be sent: {error}", reason="unsendable")
        return judge(response.status, response.headers, response.body)


def request_headers(id_: str, attempt: int, meta: Meta, fixed: Mapping[str, str]) -> dict[str, str]:
    """The headers that tell the endpoint which request this is, beside the ``fixed`` ones; names in lower case."""
    safe = id_ if id_.isascii() and id_.isprintable() else quote(id_, safe="")
    if len(safe) > HEADER_LENGTH:
        safe = f"sha256-{hashlib.sha256(id_.encode()).hexdigest()}"
    headers = {**fixed, **meta.headers} if meta.headers else dict(fixed)
    headers["traceparent"] = _traceparent(id_, headers.get("traceparent"))
    headers["x-request-id"] = headers["idempotency-key"] = safe
    headers["x-attempt-number"] = str(attempt)
    return headers


def _traceparent(id_: str, parent: str | None) -> str:
    """A span of the message's own trace where it brought one; otherwise all attempts of an id share a trace.

    Source: https://www.w3.org/TR/trace-context/.
    """
    span = f"{random.getrandbits(64):016x}"
    if parent is not None and _TRACEPARENT.fullmatch(parent):
        return f"00-{parent[3:35]}-{span}-{parent[53:]}"
    return f"00-{hashlib.blake2b(id_.encode(), digest_size=16).hexdigest()}-{span}-01"
