"""What stands behind an `Endpoint`: HTTP(S), WebSocket, a subprocess per slot, or a function in this process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import aiohttp

from azbatchwrap.backoff import parse_retry_after
from azbatchwrap.errors import (
    AttemptTimeout,
    ConfigurationError,
    EndpointDown,
    NotFound,
    ServiceError,
    Throttled,
    WorkItemError,
)

from .endpoint import Answer, Connection
from .spec import EndpointSpec

if TYPE_CHECKING:
    Socket = aiohttp.ClientWebSocketResponse[Any]

#: Seconds to wait for a TCP connection and its TLS handshake.
CONNECT_TIMEOUT = 10.0
#: The longest answer line of a subprocess (bytes): it is held in memory.
LINE_LIMIT = 64 * 1024 * 1024
#: Seconds that a subprocess gets to end after its input was closed.
END_TIMEOUT = 2.0
#: How much of an error answer goes into the message (characters).
SHOWN = 200


def connect(spec: EndpointSpec) -> Connection:
    """The connection that suits the endpoint's URL. Raises ConfigurationError. Call it where a loop is running."""
    scheme = spec.url.partition(":")[0].lower()
    if scheme in {"http", "https"}:
        return HttpConnection(spec)
    if scheme in {"ws", "wss"}:
        return WebSocketConnection(spec)
    if scheme == "exec":
        return ProcessConnection(spec)
    return CallConnection(spec)


def _session(spec: EndpointSpec) -> aiohttp.ClientSession:
    headers = {str(name): str(value) for name, value in dict(spec.options.get("headers") or {}).items()}
    # The pool counts requests in flight; a second limit in the connector would only hide how long they wait.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar()
    )


@contextlib.asynccontextmanager
async def _blame(name: str) -> AsyncIterator[None]:
    """aiohttp's errors as ours, by type."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise EndpointDown(f"{name}: no connection: {error}", sent=False) from error
    except asyncio.TimeoutError as error:
        raise AttemptTimeout(f"{name}: no answer in time") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise EndpointDown(f"{name}: broke off: {error or type(error).__name__}") from error


class HttpConnection:
    """Requests over kept-alive connections, as many as are in flight."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._name = spec.name
        self._url = spec.url
        self._spec = spec
        self._session = _session(spec)
        self._timeout = self._session.timeout

    async def request(
        self, body: bytes, *, method: str, path: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Answer:
        # Written without the context managers of `_blame`: this is the innermost loop of a million items.
        limit = self._timeout if timeout is None else aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        try:
            response = await self._session.request(method, self._url + path, data=body, headers=headers, timeout=limit)
            content = await response.read()  # gives the connection back; closes it when it fails
        except (asyncio.TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            async with _blame(self._name):
                raise error  # noqa: TRY201 - through the translation
        if response.status >= 400:
            raise _refusal(self._name, response.status, response.headers, content)
        return Answer(response.status, content, response.headers)

    async def check(self) -> bool:
        path = self._spec.options.get("health_path")
        if path is None:
            return await _port_answers(self._spec)
        async with self._session.get(self._url + str(path)) as response:
            return response.status < 400

    async def close(self) -> None:
        await self._session.close()


def _refusal(name: str, status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    shown = content[: SHOWN * 4].decode("utf-8", "replace").strip()[:SHOWN]
    message = f"{name}: answered {status}{': ' + shown if shown else ''}"
    if status in {429, 503}:
        asked = parse_retry_after(headers.get("Retry-After"), datetime.now(timezone.utc))
        return Throttled(message, status=status, retry_after=asked)
    return (NotFound if status == 404 else ServiceError)(message, status=status)


async def _port_answers(spec: EndpointSpec) -> bool:
    try:
        _, writer = await asyncio.open_connection(spec.host, spec.port)
    except OSError:
        return False
    writer.close()
    return True


class WebSocketConnection:
    """One message out, one message back; each socket serves one request at a time and is used again."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec
        self._session = _session(spec)
        self._idle: list[tuple[str, Socket]] = []

    async def request(
        self, body: bytes, *, method: str, path: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Answer:
        async with _blame(self._spec.name):
            return await asyncio.wait_for(self._exchange(body, path, headers), timeout)

    async def _exchange(self, body: bytes, path: str, headers: Mapping[str, str] | None) -> Answer:
        socket = await self._take(path, headers)
        whole = False
        try:
            await (socket.send_str(body.decode()) if self._spec.options.get("text") else socket.send_bytes(body))
            message = await socket.receive()
            whole = message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}
        finally:
            # After a break in the middle, a late answer would be taken for that of the next item.
            if whole:
                self._idle.append((path, socket))
            else:
                await asyncio.shield(socket.close())
        if not whole:
            raise EndpointDown(f"{self._spec.name}: the socket was closed before the answer")
        content = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
        return Answer(200, content, {})

    async def _take(self, path: str, headers: Mapping[str, str] | None) -> Socket:
        for place, (known, socket) in enumerate(self._idle):
            if known == path and headers is None:
                del self._idle[place]
                if not socket.closed:
                    return socket
                break
        return await self._session.ws_connect(self._spec.url + path, headers=headers, max_msg_size=LINE_LIMIT)

    async def check(self) -> bool:
        return await _port_answers(self._spec)

    async def close(self) -> None:
        for _, socket in self._idle:
            await socket.close()
        await self._session.close()


class ProcessConnection:
    """A program that answers each line of its input with a line of output; one process per request in flight."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._name = spec.name
        self._words = shlex.split(spec.url.partition(":")[2])
        self._idle: list[asyncio.subprocess.Process] = []

    async def request(
        self, body: bytes, *, method: str, path: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Answer:
        if b"\n" in body:
            raise WorkItemError(f"{self._name}: a request to a subprocess is one line; this one has line breaks")
        try:
            return await asyncio.wait_for(self._exchange(body), timeout)
        except asyncio.TimeoutError as error:
            raise AttemptTimeout(f"{self._name}: no answer within {timeout} s") from error

    async def _exchange(self, body: bytes) -> Answer:
        process = self._idle.pop() if self._idle else await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            process.stdin.write(body + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (ConnectionError, ValueError):
            line = b""
        finally:
            if line.endswith(b"\n"):
                self._idle.append(process)
            else:
                await asyncio.shield(_end(process))
        if not line.endswith(b"\n"):
            raise EndpointDown(f"{self._name}: the process ended with code {process.returncode} before its answer")
        return Answer(200, line[:-1], {})

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(*self._words, stdin=pipe, stdout=pipe, limit=LINE_LIMIT)
        except OSError as error:
            raise EndpointDown(f"{self._name}: {self._words[0]} cannot be started: {error}", sent=False) from error

    async def check(self) -> bool:
        """A process that is still there, or one that can be started."""
        if not self._idle:
            self._idle.append(await self._start())
        return self._idle[-1].returncode is None or self._idle.pop() is None

    async def close(self) -> None:
        await asyncio.gather(*(_end(process) for process in self._idle))
        self._idle.clear()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), END_TIMEOUT)
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


class CallConnection:
    """A function in this process: awaited if it is a coroutine function, else called in a thread."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._handler: Callable[[bytes], Any] = spec.options.get("handler") or _imported(spec)
        self._is_coroutine = inspect.iscoroutinefunction(self._handler)

    async def request(
        self, body: bytes, *, method: str, path: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Answer:
        calling = self._handler(body) if self._is_coroutine else asyncio.to_thread(self._handler, body)
        content = await asyncio.wait_for(calling, timeout) if timeout is not None else await calling
        return Answer(200, content.encode() if isinstance(content, str) else bytes(content), {})

    async def check(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is open."""


def _imported(spec: EndpointSpec) -> Callable[[bytes], Any]:
    module, _, attribute = spec.url.partition(":")[2].partition(":")
    try:
        handler = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"endpoint {spec.name!r}: {spec.url} names no function: {error}") from error
    if not callable(handler):
        raise ConfigurationError(f"endpoint {spec.name!r}: {spec.url} is not callable")
    return handler  # type: ignore[no-any-return]
