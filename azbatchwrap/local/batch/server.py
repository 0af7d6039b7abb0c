"""The service as a process: configuration, lock, sockets, start and stop."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from azbatchwrap.local.batch.app import BatchApp
from azbatchwrap.local.batch.service import Service, Settings

log = logging.getLogger(__name__)

#: Written once the service answers.
LISTENING_FILE = "listening.json"
LOCK_FILE = "lock"
#: Seconds that connections get to finish after SIGTERM.
SHUTDOWN_SECONDS = 3
BACKLOG = 1024


class AlreadyRunning(Exception):
    """Another service works on this data folder."""


def read_settings(path: Path) -> Settings:
    """The configuration file. Raises ValueError with what is wrong."""
    try:
        given: dict[str, Any] = json.loads(path.read_text())
        missing = {"account", "key", "data_dir"} - given.keys()
        if missing:
            raise ValueError(f"{path}: {', '.join(sorted(missing))} missing")
        return Settings(**{**given, "data_dir": Path(given["data_dir"])})
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data folder. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # it holds SAS addresses and whatever tasks leave behind
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another Batch service is running on {folder}") from None
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    listener = _listen(settings.host, settings.port)
    ports = {"port": listener.getsockname()[1]}
    settings = replace(settings, port=ports["port"])
    secure = None
    if settings.tls is not None:
        secure = _listen(settings.host, settings.tls["port"])
        ports["tls_port"] = secure.getsockname()[1]
        settings = replace(settings, tls={**settings.tls, "port": ports["tls_port"]})
    service = Service(settings)
    await service.start()
    app = BatchApp(service)
    serving = [(_server(app), listener)]
    if settings.tls is not None and secure is not None:
        files = {"ssl_certfile": settings.tls["certificate"], "ssl_keyfile": settings.tls["key"]}
        serving.append((_server(app, **files), secure))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, [server for server, _ in serving])
    _announce(settings, ports)
    try:
        # serve() would take the signals back
        await asyncio.gather(*(server._serve([listener]) for server, listener in serving))  # noqa: SLF001
    finally:
        (settings.data_dir / LISTENING_FILE).unlink(missing_ok=True)
        await service.stop()


def _server(app: BatchApp, **tls: Any) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        **tls,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    return server


def _stop(servers: list[uvicorn.Server]) -> None:
    for server in servers:
        server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _announce(settings: Settings, ports: dict[str, int]) -> None:
    """Say where we listen: written beside, then renamed."""
    path = settings.data_dir / LISTENING_FILE
    beside = path.with_name(f"{LISTENING_FILE}.{os.getpid()}")
    beside.write_text(json.dumps({**ports, "pid": os.getpid()}))
    beside.replace(path)
