"""The files of a node, as the service's file operations show them. No name reaches outside the node's folder."""

from __future__ import annotations

import mimetypes
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

_PIECE = 1 << 18  # bytes read at a time


class FileMissing(Exception):
    """There is no such file or folder (404 FileNotFound)."""


class NameRefused(FileMissing):
    """The name is absolute, holds ``..`` or NUL, or leads out of the node's folder: as good as missing."""


class FolderNotEmpty(Exception):
    """A folder with content is deleted only with ``recursive=true``."""


class IsFolder(Exception):
    """A folder was asked for its content."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file or folder. ``name`` is relative to the folder it was looked up in, with slashes."""

    name: str
    path: Path  # links resolved
    is_directory: bool
    size: int  # bytes
    mode: int  # st_mode
    modified_ns: int  # nanoseconds since 1970, UTC

    @property
    def content_type(self) -> str:
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"

    @property
    def file_mode(self) -> str:
        """As the service spells it: ``0o100644``."""
        return f"0o{self.mode:o}"

    @property
    def last_modified(self) -> str:
        """UTC with up to seven digits of a second, as in every body of the service."""
        seconds, rest = divmod(self.modified_ns, 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, timezone.utc)
        fraction = f"{rest // 100:07}".rstrip("0")
        return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"

    def properties(self) -> dict[str, Any]:
        """The wire's ``properties``: contentLength (text), contentType, lastModified, fileMode."""
        return {
            "contentLength": str(self.size),
            "contentType": self.content_type,
            "lastModified": self.last_modified,
            "fileMode": self.file_mode,
        }

    def wire(self, list_url: str) -> dict[str, Any]:
        """An item of a file list whose own address is ``list_url``. A folder has no properties."""
        name = quote(os.fsencode(self.name), safe="/")
        shown = os.fsencode(self.name).decode(errors="replace")
        item: dict[str, Any] = {"name": shown, "url": f"{list_url}/{name}", "isDirectory": self.is_directory}
        if not self.is_directory:
            item["properties"] = self.properties()
        return item


def list_files(root: Path, folder: Path, *, recursive: bool = False) -> list[FileEntry]:
    """What lies in ``folder`` of the node at ``root``; recursively, level by level. Raises FileMissing.

    Links that lead nowhere or out of the node are left out, links to folders are not entered.
    """
    inside = os.path.realpath(root)
    top = _entry(inside, folder, folder.name)
    if top is None or not top.is_directory:
        raise FileMissing(str(folder))
    found: list[FileEntry] = []
    level = [(top.path, "")]
    while level:
        deeper: list[tuple[Path, str]] = []
        for path, prefix in level:
            for child in _scan(path):
                entry = _entry(inside, path / child, prefix + child)
                if entry is None:
                    continue
                found.append(entry)
                if entry.is_directory and not (path / child).is_symlink():
                    deeper.append((path / child, f"{prefix}{child}/"))
        level = deeper if recursive else []
    return found


def file_entry(root: Path, folder: Path, name: str) -> FileEntry:
    """The file or folder ``name`` (percent-decoded once) below ``folder``. Raises FileMissing, NameRefused.

    Backslashes may separate folders, as some clients send them, unless a file of that very name is there.
    """
    inside = os.path.realpath(root)
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        relative = _relative(spelling)
        entry = _entry(inside, folder / relative, str(relative))
        if entry is not None:
            return entry
    raise FileMissing(name)


def read_range(entry: FileEntry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from ``start`` up to and without ``end``, in pieces.

    Without ``end`` it stops at the size that ``entry`` has, so that a file that grows ends the answer too.
    The file is opened before the first piece is asked for. Raises FileMissing, IsFolder.
    """
    if entry.is_directory:
        raise IsFolder(entry.name)
    try:
        # The path was resolved: a link there now has been put there since. A pipe must not make us wait.
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        raise FileMissing(entry.name) from problem
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileMissing(entry.name)
    return _Pieces(descriptor, start, entry.size if end is None else min(end, entry.size))


class _Pieces(Iterator[bytes]):
    """An open file's range. Closes the file at its end, or when it is let go."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._file = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - closed in close
        self._file.seek(start)
        self._left = end - start

    def __next__(self) -> bytes:
        piece = self._file.read(min(_PIECE, self._left)) if self._left > 0 else b""
        if not piece:
            self.close()
            raise StopIteration
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._left = 0
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


def delete_file(root: Path, folder: Path, name: str, *, recursive: bool = False) -> None:
    """Delete a file, an empty folder, or with ``recursive`` a folder and its content.

    A link is deleted itself, not what it points to. Raises FileMissing, NameRefused, FolderNotEmpty.
    """
    entry = file_entry(root, folder, name)
    path = folder / entry.name
    try:
        if path.is_symlink() or not entry.is_directory:
            path.unlink()
        elif recursive:
            shutil.rmtree(path)
        else:
            path.rmdir()
    except FileNotFoundError as problem:
        raise FileMissing(name) from problem
    except OSError as problem:
        if entry.is_directory and not recursive:
            raise FolderNotEmpty(name) from problem
        raise


def _relative(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise NameRefused(name)
    return path


def _entry(inside: str, path: Path, name: str) -> FileEntry | None:
    """What lies at ``path``, or None when it is missing or its real place is not ``inside`` or below."""
    try:
        real = os.path.realpath(path, strict=True)
        if real != inside and not real.startswith(inside + "/"):
            return None
        status = os.lstat(real)
    except (OSError, ValueError):
        return None
    is_directory = stat.S_ISDIR(status.st_mode)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return FileEntry(name, Path(real), is_directory, size, status.st_mode, status.st_mtime_ns)


def _scan(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
