"""The files of a node, as the service's file operations show them. No name reaches outside the node's folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class FileMissing(Exception):  # noqa: N818 - the service's own word is FileNotFound
    """There is no such file or folder (404 FileNotFound)."""


class NameRefused(Exception):  # noqa: N818 - says what happened
    """The name is absolute, holds ``..`` or NUL, or leads out of the node's folder (404 FileNotFound as well)."""


class FolderNotEmpty(Exception):  # noqa: N818 - says what happened
    """A folder with content is deleted only with ``recursive=true``."""


class IsFolder(Exception):  # noqa: N818 - says what happened
    """A folder was asked for its content."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file or folder. ``name`` is relative to the folder it was looked up in, with slashes."""

    name: str
    path: Path
    is_directory: bool
    size: int  # bytes
    mode: int  # st_mode
    modified_ns: int  # nanoseconds since 1970, UTC

    def properties(self) -> dict[str, Any]:
        """The wire's ``properties``: contentLength (text), contentType, lastModified, fileMode."""
        raise NotImplementedError

    def wire(self, list_url: str) -> dict[str, Any]:
        """An item of a file list whose own address is ``list_url``."""
        raise NotImplementedError


def list_files(root: Path, folder: Path, *, recursive: bool = False) -> list[FileEntry]:
    """What lies in ``folder`` of the node at ``root``; recursively, level by level. Raises FileMissing."""
    raise NotImplementedError


def file_entry(root: Path, folder: Path, name: str) -> FileEntry:
    """The file or folder ``name`` (decoded once) below ``folder``. Raises FileMissing, NameRefused."""
    raise NotImplementedError


def read_range(entry: FileEntry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from ``start`` up to and without ``end``, in pieces. Raises FileMissing, IsFolder."""
    raise NotImplementedError


def delete_file(root: Path, folder: Path, name: str, *, recursive: bool = False) -> None:
    """Delete a file, an empty folder, or with ``recursive`` a folder and its content."""
    raise NotImplementedError
