"""Sends one request to one endpoint with aiohttp, and turns whatever happens into an `Answer`."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import ssl
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from azbatchwrap.endpoints.limits import EndpointLimit, LimitPolicy, Outcome
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError
from azbatchwrap.processor.answers import Answer, Verdict, judge, no_answer
from azbatchwrap.processor.credentials import Credentials, NoCredentials
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.tracing import Tracing
from azbatchwrap.queues import Claim

if TYPE_CHECKING:
    import aiohttp
    from typing_extensions import Self
    from yarl import URL

#: An answer beyond this is not kept in memory (bytes).
ANSWER_LIMIT = 64 * 1024 * 1024
#: Addresses built from messages' paths that are kept ready.
URLS_KEPT = 1_000
#: Longer ids go into headers as their hash: servers take a few KiB of headers altogether (characters).
HEADER_LENGTH = 512
#: A connection is made within this time or the endpoint counts as down (seconds).
CONNECT_TIMEOUT = 10.0


@dataclass(slots=True)
class Endpoint:
    """One place that requests go to, and what it takes at the moment."""

    url: str
    limit: EndpointLimit
    urls: dict[str, URL] = field(default_factory=dict)

    def address(self, path: str) -> URL:
        """Where a message with ``path`` goes: below the endpoint's own prefix; without a path, to the endpoint."""
        from yarl import URL

        known = self.urls.get(path)
        if known is None:
            if len(self.urls) >= URLS_KEPT:
                self.urls.clear()
            known = self.urls[path] = URL(joined(self.url, path) if path else self.url)
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
    """An HTTP client for all endpoints. Use as an async context manager."""

    def __init__(self, options: SendOptions, credentials: Credentials | None = None) -> None:
        self._options = options
        self._credentials = credentials or NoCredentials()
        self._anonymous = isinstance(self._credentials, NoCredentials)
        self._tracing = Tracing()
        self._timeouts = _timeouts(options.timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        tls = True if self._options.tls is None else self._options.tls
        # How many connections there are is the business of the endpoints' limits.
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        fixed = {"Content-Type": "application/json", "User-Agent": "azbatchwrap"}
        if self._options.objective:
            fixed["x-gateway-inference-objective"] = self._options.objective
        self._session = aiohttp.ClientSession(
            connector=connector, headers=fixed, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, endpoint: Endpoint, claim: Claim, attempt: int, left: float) -> Answer:
        """Attempt number ``attempt`` (from 1), which may last ``left`` seconds at most: never beyond the deadline."""
        with self._tracing.span(claim.id, endpoint.url, attempt):
            meta = Meta.decoded(claim.meta)
            headers = request_headers(claim.id, attempt, meta, self._tracing.parent())
            url = endpoint.address(meta.path)
            if self._anonymous:
                answer = await self._post(url, claim.body, headers, left)
            else:
                answer = await self._post_with_token(url, claim.body, headers, left)
        return replace(answer, verdict=Verdict.FINAL) if answer.verdict is Verdict.AUTHORIZE else answer

    async def _post_with_token(self, url: URL, body: bytes, headers: dict[str, str], left: float) -> Answer:
        """With a token; if that is refused, once more with a fresh one."""
        answer = None
        for fresh in (False, True):
            try:
                token = await self._credentials.header(fresh=fresh)
            except AzBatchWrapError as error:
                return Answer(Verdict.RETRY, Outcome.ABANDONED, error=str(error), reason="credentials", charged=False)
            if token is not None:
                headers["Authorization"] = token.reveal()
            answer = await self._post(url, body, headers, left)
            if answer.verdict is not Verdict.AUTHORIZE:
                break
        assert answer is not None
        return answer

    async def _post(self, url: URL, body: bytes, headers: dict[str, str], left: float) -> Answer:
        import aiohttp

        assert self._session is not None
        cut = left < self._options.timeout
        limits = _timeouts(left) if cut else self._timeouts
        try:
            response = await self._session.post(url, data=body, headers=headers, timeout=limits, allow_redirects=False)
            try:
                content = await self._content(response)
            except BaseException:
                response.close()
                raise
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            # Cut short by the request's own deadline: that says nothing about the endpoint.
            return _failure(error, Outcome.ABANDONED if cut else Outcome.FAILED)
        except ValueError as error:
            # What the client library itself will not send, such as a header it does not take.
            return Answer(Verdict.FINAL, Outcome.ABANDONED, error=f"cannot be sent: {error}", reason="unsendable")
        if content is None:
            response.close()
            error_text = f"HTTP {response.status} with an answer of more than {self._options.answer_limit} bytes"
            return Answer(Verdict.FINAL, Outcome.SERVED, response.status, error=error_text, reason="too-large")
        return judge(response.status, response.headers, content)

    async def _content(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The whole body, or ``None`` when it is too large."""
        limit = self._options.answer_limit
        length = response.content_length
        if length is not None and length <= limit and "Content-Encoding" not in response.headers:
            return await response.read()
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(parts)


def _timeouts(seconds: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_TIMEOUT, seconds))


def _failure(error: Exception, on_timeout: Outcome) -> Answer:
    """An attempt without a complete answer; ``on_timeout`` is what running out of time says of the endpoint."""
    import aiohttp

    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return no_answer(error, "connect-timeout", sent=False)
    if isinstance(error, asyncio.TimeoutError):
        return no_answer(error, "timeout", sent=True, outcome=on_timeout)
    if isinstance(error, aiohttp.ClientConnectorError):
        dns = isinstance(error.os_error, socket.gaierror)
        return no_answer(error, "dns" if dns else "refused", sent=False)
    return no_answer(error, "broken-off", sent=True)


def request_headers(id_: str, attempt: int, meta: Meta, parent: str | None = None) -> dict[str, str]:
    """The headers that tell the endpoint which request this is. All attempts of a request share one trace.

    ``parent`` is the traceparent of the span that is open, where somebody traces.

    Source of traceparent: https://www.w3.org/TR/trace-context/.
    """
    safe = id_ if id_.isascii() and id_.isprintable() else quote(id_, safe="")
    if len(safe) > HEADER_LENGTH:
        safe = f"sha256-{hashlib.sha256(id_.encode()).hexdigest()}"
    headers = dict(meta.headers) if meta.headers else {}
    headers["traceparent"] = parent or _traceparent(id_, headers.get("traceparent", ""))
    headers["x-request-id"] = headers["Idempotency-Key"] = safe
    headers["x-attempt-number"] = str(attempt)
    return headers


def _traceparent(id_: str, parent: str) -> str:
    """Of the message's own trace where it brought one; otherwise all attempts of an id share a trace."""
    trace = parent[3:35] if len(parent) == 55 else hashlib.blake2b(id_.encode(), digest_size=16).hexdigest()
    return f"00-{trace}-{random.getrandbits(64):016x}-01"
