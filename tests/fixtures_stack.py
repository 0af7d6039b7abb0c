"""Fixtures: Azurite alone, and a whole instance as `azbatchwrap local up` makes it. One of each per test worker."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from azbatchwrap import config
from azbatchwrap.config import Secret, Settings
from azbatchwrap.local import processes
from azbatchwrap.local.instance import free_ports
from azbatchwrap.local.stack import Options, Stack
from azbatchwrap.local.storage import ACCOUNT, Azurite


@dataclass(frozen=True)
class RunningAzurite:
    """Azurite as a storage account: what a client needs, and the process behind it."""

    account: str
    key: str
    blob_url: str
    connection_string: str
    process: Azurite


@dataclass(frozen=True)
class LocalStack:
    """A running instance. ``environment``: this process's variables, with those that lead to it and no others' keys."""

    folder: Path
    environment: dict[str, str]
    endpoint: config.LocalEndpoint

    def settings(self, **overrides: object) -> Settings:
        """The library's settings for it, read from an empty folder."""
        return config.load(self.folder, environment=self.environment, overrides=overrides, start_local=False)

    def run(self, *words: str, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against it."""
        return run_cli(*words, folder=folder or self.folder, environment=self.environment | variables)


def run_cli(
    *words: str, folder: Path, environment: dict[str, str], stdin: str = "", timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """`azbatchwrap WORDS` in a process of its own, working in ``folder``."""
    command = [sys.executable, "-m", "azbatchwrap.cli.main", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )


def clean_environment(home: Path) -> dict[str, str]:
    """This process's variables without any that configure an account, with ``home`` as the instance's folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "AZBATCHWRAP_"))}
    return kept | {"AZBATCHWRAP_HOME": str(home), "AZBATCHWRAP_AUTOSTART": "0"}


def local_variables(endpoint: config.LocalEndpoint) -> dict[str, str]:
    assert endpoint.batch.key is not None
    assert endpoint.storage.connection_string is not None
    return {
        "AZURE_BATCH_ACCOUNT": endpoint.batch.name,
        "AZURE_BATCH_ACCESS_KEY": endpoint.batch.key.reveal(),
        "AZURE_BATCH_ENDPOINT": endpoint.batch.url,
        "AZURE_STORAGE_CONNECTION_STRING": endpoint.storage.connection_string.reveal(),
    }


@contextlib.contextmanager
def ended_with_us(code: str, *arguments: str) -> Iterator[None]:
    """Run ``code`` at the end, in a process that also runs it when this one is killed: nothing stays behind."""
    waiting = f"import sys; sys.stdin.read()\n{code}"
    watcher = subprocess.Popen(
        [sys.executable, "-c", waiting, *arguments], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait(timeout=60)


def ended_stack(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Whatever instance runs in ``folder`` at the end is ended."""
    code = "from pathlib import Path; from azbatchwrap.local.stack import Stack; Stack(Path(sys.argv[1])).down()"
    return ended_with_us(code, str(folder))


def new_azurite(folder: Path) -> Azurite:
    """An Azurite with a random key on free ports, not yet started."""
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    return Azurite(folder, folder / "azurite.log", Secret(key), *free_ports(2))


@contextlib.contextmanager
def running_azurite(folder: Path) -> Iterator[RunningAzurite]:
    azurite = new_azurite(folder)
    code = (
        "from pathlib import Path; from azbatchwrap.config import Secret; from azbatchwrap.local.storage import Azurite\n"
        "folder = Path(sys.argv[1]); Azurite(folder, folder / 'azurite.log', Secret(''), 0, 0).stop()"
    )
    with ended_with_us(code, str(folder)):
        processes.wait_until_listening(azurite.service, azurite.start(), 60)
        yield RunningAzurite(ACCOUNT, azurite.key.reveal(), azurite.url, azurite.connection_string, azurite)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAzurite]:
    """One Azurite for all tests of a worker: use container names of your own."""
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One instance for all tests of a worker: use ids and project names of your own."""
    folder = tmp_path_factory.mktemp("instance")
    with ended_stack(folder):
        Stack(folder).up(Options(max_processes=4))
        endpoint = config.read_endpoint(folder)
        assert endpoint is not None
        yield LocalStack(folder, clean_environment(folder) | local_variables(endpoint), endpoint)
