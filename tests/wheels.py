"""A package for pip that needs no network."""

from __future__ import annotations

import zipfile
from pathlib import Path


def wheel(folder: Path) -> Path:
    """The package ``greeting``, with ``greeting.WORDS``."""
    path = folder / "greeting-1.0-py3-none-any.whl"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("greeting.py", "WORDS = 'from the pool'\n")
        archive.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr("greeting-1.0.dist-info/WHEEL", kind)
        archive.writestr("greeting-1.0.dist-info/RECORD", "")
    return path
