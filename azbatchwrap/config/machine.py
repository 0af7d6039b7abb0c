"""The instance of Azure on this machine: where it is, whether it answers, and how it is started."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from azbatchwrap.config.accounts import is_loopback, parse_storage
from azbatchwrap.config.layers import CREDENTIALS_FILE, Report, read_json_object
from azbatchwrap.config.records import BatchAccount, Secret, StorageAccount
from azbatchwrap.errors import ConfigurationError

log = logging.getLogger(__name__)

ENDPOINT_FILE = "endpoint.json"
#: Where an instance on this machine keeps its data, and whether the library may start one (``0``: no).
HOME_VARIABLE = "AZBATCHWRAP_HOME"
AUTOSTART_VARIABLE = "AZBATCHWRAP_AUTOSTART"

#: Starting takes about a second, the very first time it installs Azurite from the network (seconds).
START_TIMEOUT = 900.0
#: A service on this machine answers a connect at once or not at all (seconds).
CONNECT_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """The instance of Azure on this machine whose data lies in ``folder``."""

    folder: Path
    batch: BatchAccount
    storage: StorageAccount

    def answers(self) -> bool:
        """Whether something listens at each of its addresses on this machine."""
        urls = [self.batch.url, self.storage.blob_url or ""]
        return all(_connects(url) for url in urls if is_loopback(url))


def data_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the instance on this machine keeps its data: ``AZBATCHWRAP_HOME``, else the user's data folder."""
    variables = os.environ if environment is None else environment
    named = variables.get(HOME_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("azbatchwrap", appauthor=False)


def read_endpoint(folder: Path) -> LocalEndpoint | None:
    """The instance that ``folder`` says was started last, or ``None``. It may have died since: see ``answers``.

    Raises ConfigurationError when the file is there and broken.
    """
    path = folder / ENDPOINT_FILE
    if not path.exists():
        return None
    content = read_json_object(path)
    try:
        batch, storage = content["batch"], content["storage"]
        account = BatchAccount(str(batch["account"]), str(batch["url"]), Secret(str(batch["key"])))  # type: ignore[index]
        return LocalEndpoint(folder, account, parse_storage(str(storage["connection_string"])))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} does not describe an instance ({error} is missing). `azbatchwrap local up` writes it anew"
        ) from error


def start_local(folder: Path, tell: Callable[[str], None] | None = None) -> LocalEndpoint:
    """Start the instance on this machine in processes of its own (they outlive this one) and return its addresses.

    ``tell`` gets each line about what takes long (the first start installs Azurite); without it they are logged.
    Raises ConfigurationError with what it said when it does not start.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "azbatchwrap.cli.main", "local", "up", "--data-dir", str(folder)]
    tell = tell or (lambda line: log.info("%s", line))
    tell(f"starting Azure Batch on this machine in {folder} …")
    said: list[str] = []
    # In the data folder: a module of the user's that lies in the working directory must not shadow ours.
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        limit = threading.Timer(START_TIMEOUT, process.kill)
        limit.daemon = True
        limit.start()
        for line in process.stderr or ():
            said.append(line.rstrip())
            tell(said[-1])
        process.wait()
        limit.cancel()
    endpoint = read_endpoint(folder) if process.returncode == 0 else None
    if endpoint is None:
        end = "\n".join(said[-10:]) or "see `azbatchwrap local logs`"
        raise ConfigurationError(f"Azure on this machine did not start (exit code {process.returncode}):\n{end}")
    return endpoint


def local_endpoint(
    variables: Mapping[str, str], start: bool | None, report: Report, tell: Callable[[str], None] | None
) -> LocalEndpoint:
    """The running instance, started if need be and allowed (``start``; ``None``: what the environment says)."""
    folder = data_folder(variables)
    endpoint = read_endpoint(folder)
    if endpoint is None or not endpoint.answers():
        if start is None:
            start = variables.get(AUTOSTART_VARIABLE, "1").strip().lower() not in {"0", "false", "no", "off"}
        if not start:
            raise ConfigurationError(
                f"no Azure account is configured and no instance runs on this machine ({folder}). Run "
                f"`azbatchwrap local up`, or give an account in {CREDENTIALS_FILE} or the environment"
            )
        endpoint = start_local(folder, tell)
    report.warnings.append(
        f"no Azure account is configured: using Azure Batch on this machine ({endpoint.batch.url}, data in {folder})"
    )
    return endpoint


def _connects(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True
