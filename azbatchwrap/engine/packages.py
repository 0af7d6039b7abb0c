"""One virtual environment per requirements.txt."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .record import say

#: Seconds pip waits for an index before it tries again, and how often it does.
PIP_TIMEOUT, PIP_RETRIES = 30, 5
#: Lines of pip's output that an error shows.
LINES_SHOWN = 15


class PackagesError(Exception):
    """The packages of requirements.txt cannot be installed; the message says what the node lacks."""


def install_packages(venv: Path, requirements: Path) -> Path:
    """Make sure ``venv`` has the packages of ``requirements``; returns its interpreter.

    The file ``complete`` in it is written last: an environment without it was cut short and is made again.
    Raises `PackagesError`.
    """
    python = venv / "bin" / "python"
    if (venv / "complete").is_file() and python.exists():
        return python
    shutil.rmtree(venv, ignore_errors=True)
    _make(venv)
    install_into(python, requirements)
    (venv / "complete").write_text(f"{sys.version}\n", encoding="utf-8")
    return python


def install_into(python: Path, requirements: Path) -> None:
    """Install ``requirements`` with the pip of an interpreter; relative paths in it are relative to its folder."""
    options = ("--disable-pip-version-check", "--no-input", f"--timeout={PIP_TIMEOUT}", f"--retries={PIP_RETRIES}")
    say(f"installing {requirements.name}")
    _do([str(python), "-m", "pip", *options, "install", "-r", str(requirements)], requirements.parent)


def _make(venv: Path) -> None:
    """Create an environment that sees only its own packages."""
    try:
        import ensurepip  # noqa: F401 - Debian and Ubuntu leave it out of python3
        import venv as _  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise PackagesError(
            f"requirements.txt needs the modules venv and ensurepip, which Python {version} on this node lacks "
            f"({error}): let the pool's start task install them (Debian, Ubuntu: apt-get install -y python3-venv; "
            "Red Hat and its kin: dnf install -y python3-pip), or leave requirements.txt out of the inputs"
        ) from error
    _do([sys.executable, "-m", "venv", str(venv)], venv.parent)


def _do(command: list[str], folder: Path) -> None:
    """Run a step of the installation; its output goes to the log, and its end into the error."""
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = ended.stdout.decode("utf-8", "replace")
    sys.stdout.write(output)
    if ended.returncode != 0:
        last = "\n".join(output.rstrip().splitlines()[-LINES_SHOWN:])
        raise PackagesError(f"requirements.txt cannot be installed (exit code {ended.returncode}):\n{last}")
