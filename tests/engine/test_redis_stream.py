"""A warm engine's own client of Redis, over TLS, against a real server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from azbatchwrap.engine.redis_stream import FIELD, GROUP, Stream
from azbatchwrap.engine.storage_queue import QueueError
from tests.fixtures_processor import RedisServer, free_port, new_redis

CALLS, MAILBOX = "azbw:lane:calls", "azbw:lane:mail:me"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Paths of a certificate for this machine's own address and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), datetime.now(timezone.utc)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = builder.add_extension(place, critical=True).sign(key, hashes.SHA256())
    paths = folder / "redis.crt", folder / "redis.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    shown, key = certificate(tmp_path)
    tls_port = free_port()
    options = ("--tls-port", str(tls_port), "--tls-cert-file", str(shown), "--tls-key-file", str(key))
    server: RedisServer = new_redis(tmp_path, *options, "--tls-auth-clients", "no")
    server.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(shown))
    with redis.Redis(port=server.port, protocol=2) as client:
        client.xgroup_create(CALLS, GROUP, id="0", mkstream=True)
        client.acl_setuser("engine", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"])
        yield {
            "host": "127.0.0.1", "port": tls_port, "tls": True, "db": 0, "user": "engine", "password": "secret",
            "calls": CALLS, "client": client,
        }  # fmt: skip
    server.stop()


def test_a_call_goes_from_engine_to_engine_until_it_is_answered(place: dict[str, Any]) -> None:
    client = place["client"]
    first, second = Stream(place, "node-1/a"), Stream(place, "node-2/b")
    assert first.get(lease=60) is None
    client.xadd(CALLS, {FIELD: "grüße".encode()})
    taken = first.get(lease=60)
    assert taken is not None
    assert (taken.data.decode(), taken.tries) == ("grüße", 1)
    # A lease of no time at all has ended for whoever asks next.
    again = second.get(lease=0)
    assert again is not None
    assert (again.identity, again.tries) == (taken.identity, 2)
    second.renew(again, 60)
    assert first.get(lease=60) is None
    second.answer({"reply": MAILBOX}, b"answer")
    second.delete(again)
    assert client.xrange(MAILBOX)[0][1] == {FIELD.encode(): b"answer"}
    assert client.ttl(MAILBOX) > 0
    assert client.xlen(CALLS) == client.xpending(CALLS, GROUP)["pending"] == 0


def test_what_the_server_refuses_is_said_without_the_password(place: dict[str, Any]) -> None:
    place["client"].delete(CALLS)
    with pytest.raises(QueueError, match="XAUTOCLAIM: NOGROUP"):
        Stream(place, "node/a").get(lease=60)
    with pytest.raises(QueueError, match="WRONGPASS") as caught:
        Stream({**place, "password": "other-secret"}, "node/a").get(lease=60)
    assert "other-secret" not in str(caught.value)


def test_a_line_that_breaks_is_opened_anew(place: dict[str, Any]) -> None:
    stream, client = Stream(place, "node/a"), place["client"]
    assert stream.get(lease=60) is None
    client.client_kill_filter(user="engine")
    client.xadd(CALLS, {FIELD: b"call"})
    with pytest.raises(QueueError):
        stream.get(lease=60)
    call = stream.get(lease=60)
    assert call is not None
    assert call.data == b"call"
