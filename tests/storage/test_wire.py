"""The hot path behind proxies, over real sockets."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from azbatchwrap import config
from azbatchwrap.storage.account import Account
from azbatchwrap.storage.wire import BlobWire
from tests.storage.conftest import Forwarder

VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture
def proxied(forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch) -> Forwarder:
    """The environment names the forwarder as proxy for everything."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{forwarder.port}")
    return forwarder


def test_an_account_on_this_machine_is_never_asked_through_a_proxy(proxied: Forwarder) -> None:
    account = Account(config.parse_storage(proxied.azurite.connection_string))
    wire = BlobWire(account)
    wire.create_container("direct-by-wire", {})
    account.client.create_container("direct-by-sdk")
    wire.close()
    account.close()
    assert proxied.requests == []


def test_an_account_elsewhere_is_asked_through_the_proxy_by_its_whole_address(proxied: Forwarder) -> None:
    proxied.faults.append(lambda request: (201, {}, b""))
    account = Account(
        config.parse_storage("AccountName=acct;AccountKey=a2V5;BlobEndpoint=http://acct.blob.example.invalid;")
    )
    wire = BlobWire(account)
    wire.put_blob("ccc", "a b", b"x")
    wire.close()
    [request] = proxied.requests
    assert request.headers["Host"] == urlsplit(account.blob_url).netloc
    assert request.path == "/ccc/a%20b"
