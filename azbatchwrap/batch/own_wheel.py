"""This very package as a wheel for nodes: what is installed here runs there, with only what the task needs."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
#: Our programs, and those that run in a Redis server.
SUFFIXES = frozenset({".py", ".lua"})
#: Wheels are zip files, which cannot tell earlier times: the same package gives the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def build_wheel(wanted: Collection[str]) -> tuple[str, bytes]:
    """The wheel's file name and content; it asks for the packages ``wanted`` (their names in lower case, with "-")."""
    version = metadata.version("azbatchwrap")
    info = f"azbatchwrap-{version}.dist-info"
    texts = {
        f"{info}/METADATA": _description(version, _requirements(metadata.requires("azbatchwrap") or (), wanted)),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: azbatchwrap\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files = {f"azbatchwrap/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in _modules()}
    files |= {name: text.encode() for name, text in texts.items()}
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")).encode()
    return f"azbatchwrap-{version}-py3-none-any.whl", _zipped(files)


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES)


def _requirements(declared: Iterable[str], wanted: Collection[str]) -> Iterator[str]:
    """The declared requirements of these packages, with their bounds, as if no extra had to be named."""
    for requirement in declared:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        if name in wanted:
            yield re.sub(r"\s*(?:;|\band\b)\s*extra\s*==\s*['\"][^'\"]*['\"]", "", requirement)


def _description(version: str, requirements: Iterable[str]) -> str:
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in dict.fromkeys(requirements))
    return f"Metadata-Version: 2.1\nName: azbatchwrap\nVersion: {version}\n{needs}"


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
