"""What tests need beyond Python: programs, engines, file systems of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def lacking(reason: str) -> NoReturn:
    """A skip at home; in CI, which installs all that is needed, a failure."""
    if is_ci():
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str | None = None) -> str:
    """Where a program is that Debian's ``package`` (default: of the same name) brings."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or lacking(f"{name} is not installed (apt-get install {package or name})")


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own at ``place``, with a tmpfs's ``options``.

    A skip in CI, too, where no file system may be mounted: nothing that could be installed would change that.
    """
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
