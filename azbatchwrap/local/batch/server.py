"""The service as a process: configuration, sockets, start and stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from azbatchwrap.local import serving
from azbatchwrap.local.batch.app import BatchApp
from azbatchwrap.local.batch.service import Service, Settings

#: Seconds that connections get to finish after SIGTERM.
SHUTDOWN_SECONDS = 3


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


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    listener = serving.listen(settings.host, settings.port)
    ports = {"port": listener.getsockname()[1]}
    settings = replace(settings, port=ports["port"])
    secure = None
    if settings.tls is not None:
        secure = serving.listen(settings.host, settings.tls["port"])
        ports["tls_port"] = secure.getsockname()[1]
        settings = replace(settings, tls={**settings.tls, "port": ports["tls_port"]})
    service = Service(settings)
    await service.start()
    app = BatchApp(service)
    servers = [(serving.server(app, shutdown_seconds=SHUTDOWN_SECONDS), listener)]
    if settings.tls is not None and secure is not None:
        files = {"ssl_certfile": settings.tls["certificate"], "ssl_keyfile": settings.tls["key"]}
        servers.append((serving.server(app, shutdown_seconds=SHUTDOWN_SECONDS, **files), secure))
    # Named until all has stopped: who starts another one now would find the folder still held.
    with serving.announced(settings.data_dir, ports):
        try:
            await serving.until_signalled(servers)
        finally:
            await service.stop()
