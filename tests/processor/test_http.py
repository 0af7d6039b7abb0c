"""The HTTP client, against servers that say exactly what each test wants said."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from azbatchwrap.processor import http
from azbatchwrap.processor.http import Address, BrokenOff, HttpClient, NoConnection, Response, TooLarge
from tests.processor.conftest import until

LIMIT = 100_000
PATIENCE = 20.0


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


@dataclass
class Script:
    """Answers each request with the next of ``says``: bytes; ``b""`` hangs. ``closes``: the server ends there."""

    says: Sequence[bytes]
    closes: bool = False
    greedy: bool = True  # reads the body before it answers
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length) if self.greedy else b""
                self.requests.append(head + body)
                writer.write(self.says[len(self.requests) - 1])
                await writer.drain()
                if self.closes:
                    break
        self.ended += 1
        writer.close()


@contextlib.asynccontextmanager
async def talking(
    *says: bytes, closes: bool = False, greedy: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Script, str]]:
    script = Script(says, closes, greedy)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield script, f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/v1/x"
    finally:
        server.close()


async def post(client: HttpClient, url: str, body: bytes = b"{}", timeout: float = PATIENCE) -> Response:
    return await client.post(Address.of(url), {"x-mine": "1"}, body, timeout)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(LIMIT)
    yield made
    made.close()


async def test_a_connection_serves_one_request_after_the_other(client: HttpClient) -> None:
    async with talking(answer(b"1", "X-One: a"), answer(b"2", status="503 No")) as (server, url):
        assert await post(client, url) == Response(200, {"content-length": "1", "x-one": "a"}, b"1")
        assert (await post(client, url, b"[]")).status == 503
        assert server.connections == 1
    port = url.split(":")[2].split("/")[0]
    assert server.requests[1].decode() == (
        f"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\n[]"
    )


async def test_requests_at_once_have_a_connection_each(client: HttpClient) -> None:
    async with talking(*[answer()] * 5) as (server, url):
        answers = await asyncio.gather(*(post(client, url) for _ in range(5)))
        assert [one.status for one in answers] == [200] * 5
        assert server.connections == 5


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(b"{}\nabc"),
        answer(gzip.compress(b"{}\nabc"), "Content-Encoding: gzip"),
        answer(zlib.compress(b"{}\nabc"), "Content-Encoding: deflate"),
        b"HTTP/1.1 200\r\nContent-Length: 6\r\n\r\n{}\nabc",
    ],
    ids=["chunked", "informed", "gzip", "deflate", "plain"],
)
async def test_an_answer_may_come_in_many_forms(client: HttpClient, said: bytes) -> None:
    async with talking(said, said) as (server, url):
        assert (await post(client, url)).body == b"{}\nabc"
        assert (await post(client, url)).body == b"{}\nabc"
        assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n\r\nto the end",
        b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nto the end",
        answer(b"to the end", "Connection: close"),
    ],
    ids=["until-closed", "http-1.0", "close"],
)
async def test_a_connection_that_the_server_ends_is_not_used_again(client: HttpClient, said: bytes) -> None:
    async with talking(said, said, closes=True) as (server, url):
        for _ in range(2):
            assert (await post(client, url)).body == b"to the end"
        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        answer(b"no gzip", "Content-Encoding: gzip"),
    ],
    ids=[
        "nothing",
        "half-a-head",
        "half-a-body",
        "chunks-without-end",
        "wrong-chunks",
        "another-protocol",
        "upgrade",
        "no-gzip",
    ],
)
async def test_what_is_no_whole_answer_is_none(client: HttpClient, said: bytes) -> None:
    async with talking(said, closes=True) as (_, url):
        with pytest.raises(BrokenOff):
            await post(client, url)


@pytest.mark.parametrize(
    "said",
    [
        answer(b"x" * (2 * LIMIT)),
        answer(gzip.compress(b"x" * (2 * LIMIT)), "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\n" + b"X-Header: and another\r\n" * 10_000,
    ],
    ids=["body", "bomb", "head"],
)
async def test_an_answer_is_not_larger_than_allowed(client: HttpClient, said: bytes) -> None:
    async with talking(said) as (_, url):
        with pytest.raises(TooLarge) as refused:
            await post(client, url)
    assert refused.value.status == 200


async def test_two_answers_to_one_request_do_not_answer_the_next(client: HttpClient) -> None:
    async with talking(answer(b"1") + answer(b"forged"), answer(b"2")) as (server, url):
        assert (await post(client, url)).body == b"1"
        assert (await post(client, url)).body == b"2"
        assert server.connections == 2


async def test_an_answer_before_the_request_was_read_ends_the_connection(client: HttpClient) -> None:
    async with talking(answer(status="413 Too Large"), answer(), greedy=False) as (server, url):
        assert (await post(client, url, b"x" * (1 << 24))).status == 413
        await until(lambda: server.ended == 1)


async def test_no_answer_in_time(client: HttpClient) -> None:
    async with talking(b"") as (server, url):
        with pytest.raises(asyncio.TimeoutError):
            await post(client, url, timeout=0.1)
        await until(lambda: server.ended == 1)


async def test_who_does_not_want_the_answer_any_more_ends_the_connection(client: HttpClient) -> None:
    async with talking(b"") as (server, url):
        waiting = asyncio.create_task(post(client, url))
        await until(lambda: server.requests)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: server.ended == 1)


async def test_a_closed_client_ends_what_is_under_way(client: HttpClient) -> None:
    async with talking(b"") as (server, url):
        waiting = asyncio.create_task(post(client, url))
        await until(lambda: server.requests)
        client.close()
        with pytest.raises(BrokenOff):
            await waiting


async def test_a_connection_that_lay_idle_for_long_is_not_used_again(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.0)
    async with talking(answer(), answer()) as (server, url):
        await post(client, url)
        await post(client, url)
        assert server.connections == 2
        await until(lambda: server.ended == 1)


async def test_a_connection_that_the_server_gave_up_is_not_used_again(client: HttpClient) -> None:
    async with talking(answer(), answer(), closes=True) as (server, url):
        await post(client, url)
        await until(lambda: not client._open)
        await post(client, url)
        assert server.connections == 2


async def test_nobody_there(client: HttpClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(NoConnection) as refused:
            await post(client, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert refused.value.reason == "refused"


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", "x" * 70])
async def test_no_such_host(client: HttpClient, host: str) -> None:
    with pytest.raises(NoConnection) as refused:
        await post(client, f"http://{host}/")
    assert refused.value.reason == "dns"


async def test_a_server_that_takes_no_connections(client: HttpClient) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:  # as many as the system lets wait; the next one gets no answer
            for _ in range(2):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            with pytest.raises(NoConnection) as refused:
                await post(client, f"http://127.0.0.1:{port}/", timeout=0.3)
    assert refused.value.reason == "connect-timeout"


@pytest.mark.parametrize("value", ["a\r\nx-forged: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_bring_another(client: HttpClient, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        await client.post(Address.of("http://127.0.0.1:9/"), {"x": value}, b"", 1.0)


def test_an_address_is_quoted() -> None:
    address = Address.of("http://[::1]:8000/a b/ü?q=x y")
    assert (address.host, address.port, address.tls) == ("::1", 8000, False)
    assert address.head == "POST /a%20b/%C3%BC?q=x+y HTTP/1.1\r\nhost: [::1]:8000\r\n"
    assert Address.of("https://h").port == 443


async def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(
    client: HttpClient, certificate: Path
) -> None:
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(certificate)
    trusting = HttpClient(LIMIT, ssl.create_default_context(cafile=str(certificate)))
    async with talking(answer(b"1"), answer(b"2"), tls=theirs) as (server, url):
        assert (await post(trusting, url)).body == b"1"
        assert (await post(trusting, url)).body == b"2"
        assert server.connections == 1
        with pytest.raises(NoConnection, match="certificate"):
            await post(client, url)
        trusting.close()
