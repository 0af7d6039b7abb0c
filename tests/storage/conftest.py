"""A storage account for each test, and a forwarder that counts what goes over the wire and can break it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from azbatchwrap import config
from azbatchwrap.backoff import Backoff
from azbatchwrap.config import Settings
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.storage import AzureBatchStorage, wire
from tests.fixtures_stack import RunningAzurite

QUICK = Backoff(attempts=4, base=0.01, cap=0.02)


def settings_for(connection_string: str, project: str) -> Settings:
    return Settings(
        batch=config.BatchAccount("localbatch", "http://127.0.0.1:1", None),
        storage=config.parse_storage(connection_string),
        pool=config.PoolSettings(),
        project=project,
        is_local=True,
        sources={},
    )


@dataclass(frozen=True)
class Request:
    """What the forwarder saw."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int

    @property
    def kind(self) -> str:
        """``PUT``, ``PUT block``, ``GET list``, …"""
        return f"{self.method} {self.query.get('comp', '')}".strip()


#: The answer to give in place of Azurite's (status, headers, body); None passes the request on.
Fault = Callable[[Request], "tuple[int, dict[str, str], bytes] | None"]


@dataclass
class Forwarder:
    """A server in front of Azurite: keeps every request, and answers with faults when told to."""

    azurite: RunningAzurite
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    #: Bodies of blobs are cut off after this many bytes, as often as it says numbers.
    cuts: list[int] = field(default_factory=list)
    port: int = 0

    @property
    def connection_string(self) -> str:
        old = urlsplit(self.azurite.blob_url).netloc
        return self.azurite.connection_string.replace(old, f"127.0.0.1:{self.port}", 1)

    def kinds(self) -> list[str]:
        return [request.kind for request in self.requests]


def _handler(forwarder: Forwarder) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(forwarder.azurite.blob_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            request = Request(self.command, parts.path, query, dict(self.headers), len(body))
            forwarder.requests.append(request)
            for fault in forwarder.faults:
                answer = fault(request)
                if answer is not None:
                    self._answer(*answer)
                    return
            link = http.client.HTTPConnection(target, timeout=30)
            link.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = link.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())
            link.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection", "keep-alive"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET" and forwarder.cuts and "comp" not in self.path:
                self.wfile.write(body[: forwarder.cuts.pop(0)])
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815

    return Handler


@pytest.fixture
def forwarder(azurite: RunningAzurite) -> Iterator[Forwarder]:
    forwarder = Forwarder(azurite)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forwarder))
    forwarder.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield forwarder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def project() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def opened(
    azurite: RunningAzurite, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AzureBatchStorage]]:
    """Makes storage objects of one project: over the forwarder when one is given, else straight to Azurite."""
    made: list[AzureBatchStorage] = []
    monkeypatch.setattr(wire, "PATIENCE", QUICK)
    monkeypatch.setattr("azbatchwrap.storage.download.PATIENCE", QUICK)

    def open_storage(over: Forwarder | None = None, progress: Progress | None = None) -> AzureBatchStorage:
        connection = over.connection_string if over else azurite.connection_string
        storage = AzureBatchStorage(
            settings_for(connection, project),
            progress=progress or NullProgress(),
            hash_cache=tmp_path / "cache" / "hashes.sqlite",
        )
        made.append(storage)
        return storage

    yield open_storage
    for storage in made:
        storage.close()


@pytest.fixture
def storage(opened: Callable[..., AzureBatchStorage]) -> AzureBatchStorage:
    return opened()
