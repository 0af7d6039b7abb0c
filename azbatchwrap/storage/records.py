"""What the storage facade hands out: frozen records, none of which shows a signature when printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.batch.models import ResourceFile


class Role(str, Enum):
    """What a file is for; its value is the ``role`` of a `FileReference`."""

    INPUT = "input"
    TASK = "task"
    APPLICATION = "application"

    @property
    def folder(self) -> str:
        """The folder of a deployment that holds files of this role."""
        return _FOLDERS[self]


_FOLDERS = {Role.INPUT: "inputs", Role.TASK: "tasks", Role.APPLICATION: "app"}


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file: ``sha256`` in lower-case hex, ``size`` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class FileReference:
    """An uploaded file. ``name`` is its path on a node (POSIX, relative), ``url`` lets its holder read it."""

    name: str
    sha256: str
    size: int
    role: Role
    url: str = field(repr=False)

    def resource_file(self) -> ResourceFile:
        """The same as a resource file of Azure Batch, for tasks made without the rest of this package."""
        from azure.batch.models import ResourceFile

        return ResourceFile(http_url=self.url, file_path=self.name)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A list of files to lay out on nodes. ``hash`` is the SHA-256 of the list as it lies in ``container``.

    ``url`` lets a node read the list and ``engine_url`` the engine, until ``expires``.
    """

    hash: str
    container: str
    url: str = field(repr=False)
    engine_url: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """A deployment found in the container: ``made`` is when its list was written (UTC)."""

    hash: str
    made: datetime


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """A blob as a listing shows it. ``md5`` is the service's own digest, which blobs made of blocks may lack."""

    name: str
    size: int
    etag: str
    modified: datetime
    md5: bytes | None = None
