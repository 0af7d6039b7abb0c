"""Fixtures: a Redis server of the tests' own, and an inference endpoint that misbehaves on request."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real_parts import program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RedisServer:
    """redis-server on a port of its own, with its data in ``folder``; keeps what it answered for when killed."""

    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
             "--appendonly", "yes", *self.options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while b"PONG" not in self.say(b"PING\r\n"):
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def say(self, command: bytes) -> bytes:
        """One inline command, and the beginning of the answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
                line.sendall(command)
                return line.recv(65_536)
        except OSError:
            return b""

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


def new_redis(folder: Path, *options: str) -> RedisServer:
    """A server, not yet started. Without redis-server installed: a skip at home, a failure in CI."""
    program("redis-server")
    return RedisServer(folder, options=options)


@dataclass
class GuardedRedis(RedisServer):
    """A server that asks for a password, and forgets everything when it ends."""

    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def guarded_url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        super().start()
        self.say(f"CONFIG SET requirepass {self.password}\r\n".encode())


@contextlib.contextmanager
def guarded_redis(folder: Path) -> Iterator[GuardedRedis]:
    """A running one."""
    new_redis(folder)
    server = GuardedRedis(folder, options=("--appendonly", "no"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests of a worker: use queue names of your own."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = new_redis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
