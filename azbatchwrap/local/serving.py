"""What every service process of this machine does: hold its data folder, listen, say where, stop on a signal."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import uvicorn

#: Written once the service answers.
LISTENING_FILE = "listening.json"
LOCK_FILE = "lock"
BACKLOG = 1024


class AlreadyRunning(Exception):
    """Another service works on this data folder."""


class HasFolder(Protocol):
    """Settings of a service: all that is asked of them here."""

    @property
    def data_dir(self) -> Path: ...


_Settings = TypeVar("_Settings", bound=HasFolder)


def run(
    module: str,
    description: str | None,
    read_settings: Callable[[Path], _Settings],
    serve: Callable[[_Settings], Coroutine[Any, Any, None]],
) -> int:
    """``python -m MODULE --config FILE``: 0 after a stop, 2 for a bad configuration, 3 when the folder is held."""
    import uvloop

    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--config", type=Path, required=True, help="JSON file with the settings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = read_settings(arguments.config)
        with held(settings.data_dir):
            uvloop.run(serve(settings))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the data folder, for its owner alone. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # it holds SAS addresses and whatever tasks leave behind
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another service is running on {folder}") from None
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError that names the address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def server(app: Any, *, shutdown_seconds: int, **tls: str) -> uvicorn.Server:
    """One HTTP server; its connections get ``shutdown_seconds`` to finish after a signal."""
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
        timeout_graceful_shutdown=shutdown_seconds,
        **tls,  # type: ignore[arg-type]
    )
    return uvicorn.Server(config)


@contextmanager
def announced(folder: Path, ports: dict[str, int]) -> Iterator[None]:
    """Say where we listen for as long as we do: written beside, then renamed."""
    path = folder / LISTENING_FILE
    beside = path.with_name(f"{LISTENING_FILE}.{os.getpid()}")
    beside.write_text(json.dumps({**ports, "pid": os.getpid()}))
    beside.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def until_signalled(serving: Sequence[tuple[uvicorn.Server, socket.socket]]) -> None:
    """Serve until SIGTERM or SIGINT."""

    def stop() -> None:
        for one, _ in serving:
            one.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # serve() would take the signals back
    await asyncio.gather(*(one._serve([listener]) for one, listener in serving))  # noqa: SLF001
