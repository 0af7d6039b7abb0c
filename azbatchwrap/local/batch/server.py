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
    listener = _listen(settings)
    port = listener.getsockname()[1]
    settings = Settings(
        account=settings.account,
        key=settings.key,
        data_dir=settings.data_dir,
        host=settings.host,
        port=port,
        max_processes=settings.max_processes,
        chaos=settings.chaos,
    )
    service = Service(settings)
    await service.start()
    config = uvicorn.Config(
        BatchApp(service),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server)
    _announce(settings, port)
    try:
        await server._serve([listener])  # noqa: SLF001 - serve() would take the signals back
    finally:
        (settings.data_dir / LISTENING_FILE).unlink(missing_ok=True)
        await service.stop()


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _announce(settings: Settings, port: int) -> None:
    """Say where we listen: written beside, then renamed."""
    path = settings.data_dir / LISTENING_FILE
    beside = path.with_name(f"{LISTENING_FILE}.{os.getpid()}")
    beside.write_text(json.dumps({"port": port, "pid": os.getpid()}))
    beside.replace(path)
