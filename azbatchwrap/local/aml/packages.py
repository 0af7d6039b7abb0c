"""The Python of an environment: a virtual environment per content of its conda file, made with pip.

An image is not run: the command finds this machine's interpreter and the packages that the conda file asks for.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from azbatchwrap.local.batch.node import make_node_python

#: Packages may be large and the line slow (seconds).
INSTALL_TIMEOUT = 1800
#: What a conda file names that every environment has, or that is nothing for pip.
_PRESENT = {"python", "pip", "setuptools", "wheel"}
_CONDA = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)\s*(.*)\Z")


class PackagesFailed(Exception):
    """The environment cannot be made: a sentence, and the end of what pip said."""


class Pythons:
    """Makes environments below ``folder``; ``network`` are the settings that pip needs to reach its index."""

    def __init__(self, folder: Path, network: Mapping[str, str]) -> None:
        self._folder = folder
        self._network = dict(network)
        self._lock = threading.Lock()

    def bin_for(self, environment: Mapping[str, Any] | None) -> Path:
        """The folder to put first on PATH for an environment's wire properties. Blocking. Raises PackagesFailed."""
        wanted = requirements(str((environment or {}).get("condaFile") or ""))
        if not wanted:
            return make_node_python(self._folder / "plain")
        key = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:16]
        folder = self._folder / key
        with self._lock:
            if not (folder / "complete").exists():
                self._make(folder, wanted)
        return folder / "bin"

    def _make(self, folder: Path, wanted: list[str]) -> None:
        """Our own pip installs into it: making another pip first would take longer than most packages do."""
        shutil.rmtree(folder, ignore_errors=True)
        python = make_node_python(folder) / "python"
        listed = folder / "requirements.txt"
        listed.write_text("\n".join(wanted) + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        self._run([*pip, "install", "-q", "-r", str(listed)])
        (folder / "complete").touch()

    def _run(self, command: list[str]) -> None:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self._folder), **self._network}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackagesFailed(f"the environment cannot be made: {error}") from error
        if done.returncode:
            raise PackagesFailed(f"the environment cannot be made:\n{(done.stderr or done.stdout)[-2000:]}")


def requirements(conda_file: str) -> list[str]:
    """The conda file's packages as pip writes them, without Python itself. Raises PackagesFailed."""
    try:
        content = yaml.safe_load(conda_file) if conda_file.strip() else {}
        dependencies = content.get("dependencies") or []
    except (yaml.YAMLError, AttributeError) as error:
        raise PackagesFailed(f"the conda file cannot be read: {error}") from error
    found: list[str] = []
    for each in dependencies:
        if isinstance(each, Mapping):
            found += [str(line) for line in each.get("pip") or []]
            continue
        match = _CONDA.match(str(each).strip())
        if match is None or match.group(1).lower() in _PRESENT:
            continue
        version = match.group(2).strip()
        if version.startswith("=") and not version.startswith("=="):
            version = f"=={version.lstrip('=').split('=')[0]}.*"
        found.append(f"{match.group(1)}{version}")
    return found
