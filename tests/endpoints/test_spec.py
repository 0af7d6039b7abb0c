"""Endpoint configurations: the public kit's form and the general one, with every fault named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azbatchwrap.endpoints import EndpointSpec, parse_endpoint, parse_endpoints, read_endpoints
from azbatchwrap.endpoints.spec import parse_text
from azbatchwrap.errors import ConfigurationError


def test_the_public_kits_form() -> None:
    text = """
    MyContainer1: {concurrency: 5, host: 192.168.0.100, port: 5000, rtf: 3}
    MyContainer2: {host: BatchVM0.corp.example.com}
    Cloud: {host: westus.example.com, isSecure: true, language: en-US}
    """
    first, second, third = parse_text(text)
    assert first == EndpointSpec("MyContainer1", "http://192.168.0.100:5000", 5, {"rtf": 3})
    assert (second.url, second.concurrency) == ("http://BatchVM0.corp.example.com:5000", 8)
    assert (third.url, third.host, third.port) == ("https://westus.example.com:443", "westus.example.com", 443)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("http://127.0.0.1:8001/", "http://127.0.0.1:8001"),
        ({"url": "wss://host/path"}, "wss://host/path"),
        ({"url": "exec:python3 worker.py"}, "exec:python3 worker.py"),
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
        ({"port": 6001}, "http://localhost:6001"),
        ({"host": "h", "isCloudService": True}, "https://h:443"),
    ],
)
def test_urls(entry: Any, url: str) -> None:
    assert parse_endpoint("e", entry).url == url


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (7, "expected a URL or a mapping"),
        ({}, "needs a url, or a host"),
        ({"host": "a b"}, "needs a url, or a host"),
        ({"host": "h", "port": 0}, "port is a whole number from 1 to 65535"),
        ({"host": "h", "port": "80"}, "port is a whole number"),
        ({"host": "h", "concurrency": True}, "concurrency is a whole number"),
        ({"host": "h", "concurrency": 1001}, "concurrency is a whole number from 1 to 1000"),
        ({"host": "h", "isSecure": "yes"}, "isSecure is true or false"),
        ("ftp://h", "url starts with one of"),
        ("http://", "is no URL of a server"),
        ("http://h:99999", "is no URL of a server"),
        ("exec:", "needs what to run"),
    ],
)
def test_a_wrong_entry_is_named(entry: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        parse_endpoint("my endpoint", entry)
    assert "my endpoint" in str(raised.value)


def test_strict_refuses_all_and_names_every_fault() -> None:
    document = {"good": "http://h", "bad": 1, "worse": {"host": "h", "port": -1}}
    with pytest.raises(ConfigurationError, match=r"'bad'.*'worse'"):
        parse_endpoints(document)
    assert [spec.name for spec in parse_endpoints(document, strict=False)] == ["good"]
    with pytest.raises(ConfigurationError):
        parse_endpoints({"bad": 1}, strict=False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:8/a@b", "https://host:8/a@b"),
        ("http://host", "http://host"),
        ("exec:python3 worker.py", "exec:python3 worker.py"),
    ],
)
def test_status_pages_show_no_password(url: str, shown: str) -> None:
    assert EndpointSpec("e", url).shown_url == shown


def test_lists_and_a_key_above_are_read_too() -> None:
    document = {"endpoints": [{"name": "a", "url": "http://h"}, "http://g"]}
    assert [(spec.name, spec.url) for spec in parse_endpoints(document)] == [
        ("a", "http://h"),
        ("http://g", "http://g"),
    ]


def test_a_file_is_named_in_its_fault(tmp_path: Path) -> None:
    path = tmp_path / "endpoints ü.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="endpoints ü"):
        read_endpoints(path)


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_text_is_endpoints_or_a_configuration_error(text: str) -> None:
    try:
        specs = parse_text(text)
    except ConfigurationError:
        return
    assert specs


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["url", "host", "port", "concurrency", "isSecure", "rtf"]), _json))
def test_any_entry_is_an_endpoint_or_a_configuration_error(entry: dict[str, Any]) -> None:
    try:
        spec = parse_endpoint("e", entry)
    except ConfigurationError:
        return
    assert 1 <= spec.concurrency <= 1000
