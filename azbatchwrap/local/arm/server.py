"""The service as a process: configuration, certificate, sockets, start and stop."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from azbatchwrap.local import aml, serving
from azbatchwrap.local.arm import accounts, deployments
from azbatchwrap.local.arm.app import ArmApp
from azbatchwrap.local.arm.certificate import Certificate
from azbatchwrap.local.arm.service import Arm, Settings
from azbatchwrap.local.batchmgmt import provider

#: Seconds that connections get to finish after SIGTERM.
SHUTDOWN_SECONDS = 1
#: What uvicorn calls errors and is none: answers lost on purpose (faults.py), idle clients at the end.
_NO_NEWS = ("without starting response", "timeout graceful shutdown exceeded")


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
    logging.getLogger("azure").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    listener = serving.listen("127.0.0.1", settings.port)
    port = listener.getsockname()[1]
    certificate = Certificate(settings.certificates or settings.data_dir)
    certificate.ensure()
    arm = assemble(replace(settings, port=port))
    await arm.start()
    files = {"ssl_certfile": str(certificate.chain), "ssl_keyfile": str(certificate.key)}
    server = serving.server(ArmApp(arm), shutdown_seconds=SHUTDOWN_SECONDS, **files)
    # Named until all has stopped: who starts another one now would find the folder still held.
    with serving.announced(settings.data_dir, {"port": port}):
        try:
            await serving.until_signalled([(server, listener)])
        finally:
            await arm.stop()


def _is_news(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _NO_NEWS)
