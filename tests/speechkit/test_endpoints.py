"""Endpoint configurations as the public kit's users write them, and health as containers tell it."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.endpoints import Endpoint, parse_endpoints, read_endpoints
from azbatchwrap.endpoints.connections import connect
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.speechkit import SpeechEndpointStatusChecker, parser
from tests.fixtures_speech import Standin

SEED = """
MyContainer1:
  concurrency: 5
  host: 192.168.0.100
  port: 5000
  rtf: 3
MyContainer2:
  concurrency: 5
  host: BatchVM0.corp.redmond.microsoft.com
  port: 5000
  rtf: 2
MyContainer3:
  concurrency: 10
  host: localhost
  port: 6001
  rtf: 4
"""


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(SEED)
    specs = read_endpoints(tmp_path / "config.yaml", parse=parser({}), strict=True)
    assert [(spec.name, spec.url, spec.concurrency, spec.options["rtf"]) for spec in specs] == [
        ("MyContainer1", "http://192.168.0.100:5000", 5, 3.0),
        ("MyContainer2", "http://BatchVM0.corp.redmond.microsoft.com:5000", 5, 2.0),
        ("MyContainer3", "http://localhost:6001", 10, 4.0),
    ]


def test_defaults_are_the_public_kits() -> None:
    spec = parser({})("a", {})
    assert (spec.url, spec.concurrency) == ("http://localhost:5000", 8)
    assert spec.options == {"rtf": 3.0, "language": "en-US", "api": "sdk", "cloud": False, "subscription": None}


@pytest.mark.parametrize("host", ["westus.stt.speech.microsoft.com", "mine.cognitiveservices.azure.com"])
def test_a_cloud_host_is_secure_by_itself(host: str) -> None:
    spec = parser({"KEY": "secret"})("a", {"host": host, "subscription": "$KEY"})
    assert spec.url == f"https://{host}:443"
    assert spec.options["cloud"] is True
    assert spec.options["subscription"] == "secret"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "5"}, "concurrency"),
        ({"rtf": 0.05}, "rtf"),
        ({"rtf": True}, "rtf"),
        ({"port": 70_000}, "port"),
        ({"host": ""}, "host"),
        ({"host": "a/b"}, "host"),
        ({"isSecure": "yes"}, "isSecure"),
        ({"language": "en US"}, "language"),
        ({"api": "grpc"}, "sdk, fast, short"),
        ({"subscription": "$NOWHERE"}, "NOWHERE"),
        ({"concurency": 5}, "concurency"),
        ("localhost", "mapping"),
    ],
)
def test_wrong_entries_are_named(entry: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'a'.*{said}"):
        parser({})("a", entry)


def test_without_the_sdk_its_endpoints_are_refused_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.cognitiveservices.speech", None)
    with pytest.raises(ConfigurationError, match=r"azbatchwrap\[speech\]"):
        parser({})("a", {})
    assert parser({})("a", {"api": "fast"}).options["api"] == "fast"
    assert parser({}, runs_here=False)("a", {}).options["api"] == "sdk"


def test_strict_refuses_what_else_is_left_out() -> None:
    document = {"good": {}, "bad": {"rtf": 100}}
    assert [spec.name for spec in parse_endpoints(document, parse=parser({}), strict=False)] == ["good"]
    with pytest.raises(ConfigurationError, match="'bad'"):
        parse_endpoints(document, parse=parser({}), strict=True)


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A server that answers every GET with ``body``; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


async def is_ready(port: int, **settings: object) -> bool:
    spec = parser({})("a", {"host": "127.0.0.1", "port": port, **settings})
    connection = connect(spec)
    try:
        return await SpeechEndpointStatusChecker().check(Endpoint(spec, connection))
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("body", "ready"),
    [
        (b'{"apiStatus": "Valid", "apiStatusMessage": "Api Key is valid, no action needed."}', True),
        (b'{"apiStatus": "NonMetered", "apiStatusMessage": ""}', True),
        (b'{"apiStatus": "Invalid", "apiStatusMessage": "Api Key is invalid."}', False),
        (b'{"apiStatus": "Mismatch", "apiStatusMessage": "other region"}', False),
        (b"[]", False),
    ],
)
async def test_a_container_says_whether_it_may_be_used(body: bytes, ready: bool) -> None:
    with answering(body) as port:
        assert await is_ready(port) is ready


async def test_a_page_of_a_proxy_is_no_sign_of_life() -> None:
    with answering(b"<html>login</html>") as port:
        with pytest.raises(ValueError, match="Expecting value"):
            await is_ready(port)
        assert await is_ready(port, isCloudService=True) is True


async def test_the_stand_in_may_be_used(standin: Standin) -> None:
    assert await is_ready(standin.port) is True
