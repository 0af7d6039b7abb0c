"""Environments of the foreign clients: installed once per version into the user's cache, under a lock, then reused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
import pytest

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.storage import find_nodejs
from tests.real_parts import is_ci, lacking

#: Seconds an installation may take: azure-cli is 700 MB.
INSTALL_SECONDS = 900
#: Written into a folder when its installation is complete.
READY = ".ready"


class NotInstalled(Exception):
    """The environment cannot be made here; says why."""


def python_environment(*requirements: str) -> Path:
    """The interpreter of a virtual environment that has exactly these, such as ``azure-batch==9.0.0``."""

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *requirements])

    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    name = "-".join((*(each.replace("==", "-") for each in requirements), version))
    return _environment(name, install) / "bin" / "python"


def node_environment(package: str) -> tuple[Path, Path]:
    """Node.js and the folder whose ``node_modules`` has ``package``, such as ``@azure/batch@10.2.0``."""
    try:
        nodejs = find_nodejs()
    except ConfigurationError as error:
        raise NotInstalled(str(error)) from error

    def install(folder: Path) -> None:
        if nodejs.npm is None:
            raise NotInstalled(f"{nodejs.node} has no npm")
        folder.mkdir()
        (folder / "package.json").write_text("{}")
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run([*nodejs.npm, "install", *quiet, package], folder)

    return nodejs.node, _environment(package.replace("/", "-").replace("@", "-").strip("-"), install)


def required(make: Callable[[], Path | tuple[Path, Path]]) -> Path | tuple[Path, Path]:
    """What ``make`` gives; a client that is missing is a skip at home and a failure in CI."""
    if os.environ.get("AZBATCHWRAP_TEST_CLIENTS") == "0" and not is_ci():
        pytest.skip("AZBATCHWRAP_TEST_CLIENTS=0: no foreign clients")
    try:
        return make()
    except NotInstalled as error:
        lacking(f"this client cannot be installed here: {error}")


def _environment(name: str, install: Callable[[Path], None]) -> Path:
    folder = platformdirs.user_cache_path("azbatchwrap", appauthor=False) / "clients" / name
    try:
        if not (folder / READY).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _exclusive(folder.with_name(f"{name}.lock")):
                _install_once(folder, install)
    except OSError as error:
        raise NotInstalled(str(error)) from error
    return folder


def _install_once(folder: Path, install: Callable[[Path], None]) -> None:
    if (folder / READY).exists():
        return  # another process was faster
    # Virtual environments cannot be renamed: what is not marked as ready is begun anew.
    shutil.rmtree(folder, ignore_errors=True)
    install(folder)
    (folder / READY).touch()


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + INSTALL_SECONDS
    with path.open("a") as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise NotInstalled(f"another process holds {path}")
            time.sleep(0.2)
        yield


def _run(command: list[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{command[0]} took longer than {INSTALL_SECONDS} s") from error
    if done.returncode:
        raise NotInstalled(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
