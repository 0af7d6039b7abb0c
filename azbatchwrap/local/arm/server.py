"""The service as a process: configuration, lock, certificate, sockets, start and stop."""

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

from azbatchwrap.local import aml
from azbatchwrap.local.arm import accounts, deployments
from azbatchwrap.local.arm.app import ArmApp
from azbatchwrap.local.arm.certificate import Certificate
from azbatchwrap.local.arm.service import Arm, Settings
from azbatchwrap.local.batchmgmt import provider

#: Written once the service answers.
LISTENING_FILE = "listening.json"
LOCK_FILE = "lock"
#: Seconds that connections get to finish after SIGTERM.
SHUTDOWN_SECONDS = 1


class AlreadyRunning(Exception):
    """Another service works on this data folder."""


def read_settings(path: Path) -> Settings:
    """The configuration file. Raises ValueError with what is wrong."""
    try:
        given: dict[str, Any] = json.loads(path.read_text())
        folder, faults = Path(given["data_dir"]), given.get("faults")
        certificates = Path(given.get("certificates") or folder)
        read = {"data_dir": folder, "certificates": certificates, "faults": None if faults is None else tuple(faults)}
        return Settings(**{**given, **read})
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be used: {error!r}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data folder. Raises AlreadyRunning."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another management service is running on {folder}") from None
        yield


def assemble(settings: Settings) -> Arm:
    """The service with every provider it has."""
    arm = Arm(settings)
    accounts.register(arm)
    deployments.register(arm)
    aml.register(arm)
    provider.register(arm)
    return arm


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    listener = _listen(settings.port)
    port = listener.getsockname()[1]
    certificate = Certificate(settings.certificates or settings.data_dir)
    certificate.ensure()
    arm = assemble(replace(settings, port=port))
    await arm.start()
    config = uvicorn.Config(
        ArmApp(arm),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=str(certificate.chain),
        ssl_keyfile=str(certificate.key),
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server)
    _announce(settings.data_dir, port)
    try:
        await server._serve([listener])  # noqa: SLF001 - serve() would take the signals back
    finally:
        (settings.data_dir / LISTENING_FILE).unlink(missing_ok=True)
        await arm.stop()


#: What uvicorn calls errors and is none: answers lost on purpose (faults.py), idle clients at the end.
_NO_NEWS = ("without starting response", "timeout graceful shutdown exceeded")


def _is_news(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _NO_NEWS)


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise OSError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _announce(folder: Path, port: int) -> None:
    """Say where we listen: written beside, then renamed."""
    path = folder / LISTENING_FILE
    beside = path.with_name(f"{LISTENING_FILE}.{os.getpid()}")
    beside.write_text(json.dumps({"port": port, "pid": os.getpid()}))
    beside.replace(path)
