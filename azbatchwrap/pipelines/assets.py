"""The local files that are deployed, and the hashes that tell whether they changed."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines.settings import Settings

#: Never part of a snapshot of code.
_LEFT_OUT = ("__pycache__", "*.pyc", ".*", "*.amltmp")
#: A snapshot is for code (bytes): Azure refuses larger ones, too.
SNAPSHOT_LIMIT = 300 * 1024 * 1024
#: Length of the part of a hash that names a version.
VERSION_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Files:
    """Files with their names below a folder (POSIX) and their SHA-256."""

    root: Path
    hashes: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The hash of all names and contents."""
        return content_hash(dict(self.hashes))

    def path(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True, slots=True)
class Assets:
    """What the settings' paths hold right now."""

    data: Files
    code: Files
    conda: str | None
    model: Files | None


def content_hash(content: Any) -> str:
    """A version for ``content`` (JSON): equal content has an equal version."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:VERSION_DIGITS]


def read(settings: Settings) -> Assets:
    """Hash every file. Raises ConfigurationError for files that cannot be read or are too many for a snapshot."""
    folder = settings.score_script.parent
    others = {path.resolve() for path in (settings.data, settings.conda_file, settings.model) if path is not None}
    others |= {
        Path(source.removeprefix("file: ")).resolve() for source in settings.sources.values() if "file: " in source
    }
    code = [path for path in _below(folder) if path == settings.score_script or not _is_one_of(path, others)]
    size = sum(path.stat().st_size for path in code)
    if size > SNAPSHOT_LIMIT:
        raise ConfigurationError(
            f"{folder} holds {size / 1e6:.0f} MB: put score_script into a folder with its code alone"
        )
    return Assets(
        data=tree(settings.data),
        code=_hashed(folder, code),
        conda=_text(settings.conda_file) if settings.conda_file else None,
        model=tree(settings.model) if settings.model else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as text: {error}") from error


def _is_one_of(path: Path, others: set[Path]) -> bool:
    real = path.resolve()
    return real in others or any(parent in others for parent in real.parents)


def _below(folder: Path) -> list[Path]:
    """The files of a folder, but for what programs leave behind."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in _LEFT_OUT):
            found.append(path)
    return found


def tree(path: Path) -> Files:
    """A file under its own name, a folder's files below the folder's name."""
    found = [path] if path.is_file() else _below(path)
    if not found:
        raise ConfigurationError(f"{path} holds no file")
    return _hashed(path.absolute().parent, [each.absolute() for each in found])


def _hashed(root: Path, paths: Iterable[Path]) -> Files:
    hashes = {}
    for path in paths:
        try:
            with path.open("rb") as stream:
                digest = hashlib.sha256()
                while piece := stream.read(1 << 20):
                    digest.update(piece)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        hashes[path.relative_to(root).as_posix()] = digest.hexdigest()
    return Files(root, hashes)
