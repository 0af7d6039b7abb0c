"""How a run goes, apart from what it does: its mode, its endpoints, its folders, its server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from azbatchwrap.endpoints import EndpointSpec, parse_endpoint
from azbatchwrap.endpoints.health import HealthPolicy
from azbatchwrap.endpoints.spec import Parse


class Mode(Enum):
    """ONESHOT does what is there and ends; DAEMON goes on with what arrives; REST takes batches over HTTP."""

    ONESHOT = "ONESHOT"
    DAEMON = "DAEMON"
    REST = "REST"

    @classmethod
    def of(cls, word: str) -> Mode:
        """The mode named by ``word`` in any case; APISERVER is REST. Raises ValueError."""
        return cls.REST if word.upper() == "APISERVER" else cls(word.upper())


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the REST mode listens. ``token``: required of callers, and required at all when ``host`` is not loopback."""

    host: str = "127.0.0.1"
    port: int = 5000
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """``endpoints``: a configuration file (watched while running) or specs. ``parse``: reads one entry of that file.

    ``strict``: any wrong entry refuses the whole file; else wrong entries are left out.
    ``files``: ONESHOT does just these instead of the whole input folder. ``recursive``: folders below it, too.
    ``poll``: seconds between scans of the input folder beside the system's notifications, for network folders.
    ``poll_only``: no notifications at all. ``drain``: seconds that SIGTERM leaves to items in flight.
    ``scratch_folder``: keeps submitted batches (REST; default: ``.batchkit`` in the output folder).
    ``console_level``, ``file_level``: names of logging levels, for the console and for run.log.
    """

    mode: Mode = Mode.ONESHOT
    endpoints: Path | Sequence[EndpointSpec]
    parse: Parse = parse_endpoint
    strict: bool = False
    health: HealthPolicy = field(default_factory=HealthPolicy)
    files: Sequence[Path] | None = None
    recursive: bool = True
    poll: float = 5.0
    poll_only: bool = False
    drain: float = 8.0
    scratch_folder: Path | None = None
    server: ServerOptions = ServerOptions()
    console_level: str = "INFO"
    file_level: str = "DEBUG"
