"""HTTP/1.1 for one purpose: post a body and get the whole answer, over connections that are kept.

Most of what a request costs in a general client goes into what is never asked for here: redirects, cookies, proxies,
streams. The wire's rules are llhttp's business (httptools); source of the rest: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from aiohappyeyeballs import start_connection
from httptools import HttpParserError, HttpResponseParser
from yarl import URL

#: A connection is made within this time or the endpoint counts as down (seconds).
CONNECT_TIMEOUT = 10.0
#: Head start of one address of a host before the next is tried beside it (seconds). Source: RFC 8305, section 5.
NEXT_ADDRESS = 0.25
#: A connection that lay idle for longer is not used again: servers give up idle ones without a word (seconds).
KEEP_ALIVE = 15.0
#: What an answer may have beside its body (bytes).
HEAD_LIMIT = 64 * 1024


class NoConnection(Exception):
    """Nothing was sent. ``reason``: refused, dns or connect-timeout."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class BrokenOff(Exception):
    """The connection ended, or what came is no HTTP, before the answer was complete."""


class TooLarge(Exception):
    """The answer is larger than is kept. ``status`` is what it began with."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes. ``head`` is its first lines."""

    host: str
    port: int
    tls: bool
    head: str

    @classmethod
    def of(cls, url: str) -> Address:
        place = URL(url)  # quotes what must not stand in a request line
        head = f"POST {place.raw_path_qs} HTTP/1.1\r\nhost: {place.raw_authority}\r\n"
        return cls(place.raw_host or "", place.port or 80, place.scheme == "https", head)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Posts to any number of addresses, each request over a connection of its own. Answers keep to ``limit`` bytes."""

    def __init__(self, limit: int, tls: ssl.SSLContext | None = None) -> None:
        self._limit = limit
        self._given_tls = tls
        self._idle: defaultdict[tuple[str, int, bool], list[_Connection]] = defaultdict(list)
        self._open: set[_Connection] = set()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or ssl.create_default_context()

    def close(self) -> None:
        """Drop all connections."""
        for connection in tuple(self._open):
            connection.break_off(BrokenOff("the client is closed"))

    async def post(self, address: Address, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """The answer to ``body``, within ``timeout`` seconds in all.

        Raises NoConnection, BrokenOff, TooLarge, asyncio.TimeoutError; ValueError for headers that are none.
        """
        request = _head(address, headers, body) + body
        until = time.monotonic() + timeout
        line = self._idle[address.host, address.port, address.tls]
        connection = _fresh(line) or await self._connect(address, timeout)
        answer = connection.ask(request)
        timer = answer.get_loop().call_later(
            until - time.monotonic(), connection.break_off, asyncio.TimeoutError("no answer in time")
        )
        try:
            response = await answer
        except BaseException:
            connection.break_off(BrokenOff("nobody waits for the answer"))
            raise
        finally:
            timer.cancel()
        if connection.rest():
            line.append(connection)
        return _plain(response, self._limit) if "content-encoding" in response.headers else response

    async def _connect(self, address: Address, timeout: float) -> _Connection:
        connecting = asyncio.ensure_future(self._connected(address))
        try:
            # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that meets the result.
            await asyncio.wait([connecting], timeout=min(CONNECT_TIMEOUT, timeout))
            if not connecting.done():
                raise NoConnection("no connection in time", "connect-timeout")
            return connecting.result()
        except (OSError, UnicodeError) as error:  # the latter: a name that no host can have
            nameless = isinstance(error, socket.gaierror | UnicodeError)
            raise NoConnection(_told(error), "dns" if nameless else "refused") from error
        finally:
            connecting.cancel()

    async def _connected(self, address: Address) -> _Connection:
        loop = asyncio.get_running_loop()
        places = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        joined = await start_connection(places, happy_eyeballs_delay=NEXT_ADDRESS)
        _, connection = await loop.create_connection(
            lambda: _Connection(self._limit, self._open),
            sock=joined,
            ssl=self._tls if address.tls else None,
            server_hostname=address.host if address.tls else None,
        )
        return connection


class _Connection(asyncio.Protocol):
    """One connection, and the one request that is on it. While it is open it is in ``open_``."""

    def __init__(self, limit: int, open_: set[_Connection]) -> None:
        self._limit = limit + HEAD_LIMIT
        self._open = open_
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._loop = asyncio.get_running_loop()
        self._keep = False
        self.idle_since = 0.0

    def ask(self, request: bytes) -> asyncio.Future[Response]:
        self._begin()
        self._size = 0
        answer = self._answer = self._loop.create_future()
        self._transport.write(request)
        return answer

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._has_head = False

    def rest(self) -> bool:
        """After an answer: whether another request may follow. If not, it is closed."""
        # An answer that came before its request was read to the end: nobody knows what the server makes of the rest.
        if self._keep and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self.idle_since = time.monotonic()
            return True
        self.close()
        return False

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def break_off(self, error: BaseException) -> None:
        """Close the connection; who waits for an answer gets ``error``."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.close()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # nobody has asked
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self.break_off(BrokenOff(f"the answer is no HTTP: {error}"))
        if self._size > self._limit and self._answer is not None:
            self.break_off(TooLarge(self._parser.get_status_code()))

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        ends_here = self._has_head and not {"content-length", "transfer-encoding"} & self._headers.keys()
        if self._answer is not None and ends_here and error is None:
            self._finish(keep=False)
        self.break_off(BrokenOff(_told(error) if error else "the server closed the connection before its answer"))

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._answer is None:
            self.close()  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._begin()  # "100 Continue" and the like: the answer is still to come
        else:
            self._finish(keep=self._parser.should_keep_alive())

    def _finish(self, *, keep: bool) -> None:
        if self._size > self._limit:
            return  # `data_received` has the word
        answer, self._answer = self._answer, None
        self._keep = keep
        if answer is not None and not answer.done():
            answer.set_result(Response(self._parser.get_status_code(), self._headers, b"".join(self._parts)))


def _fresh(line: list[_Connection]) -> _Connection | None:
    """The connection that was used last, if it may be used again: then it leaves ``line``."""
    while line:
        connection = line.pop()
        if connection.is_open and time.monotonic() - connection.idle_since < KEEP_ALIVE:
            return connection
        connection.close()
    return None


def _head(address: Address, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a line break in a header")
    return f"{address.head}{lines}content-length: {len(body)}\r\n\r\n".encode()


def _plain(response: Response, limit: int) -> Response:
    """Undoes the compression that some servers use unasked."""
    if response.headers["content-encoding"].lower() not in {"gzip", "x-gzip", "deflate"}:
        return response
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either format, told apart by its first bytes
    try:
        body = unzip.decompress(response.body, limit)
    except zlib.error as error:
        raise BrokenOff(f"the answer cannot be unzipped: {error}") from error
    if unzip.unconsumed_tail:
        raise TooLarge(response.status)
    return Response(response.status, response.headers, body)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
