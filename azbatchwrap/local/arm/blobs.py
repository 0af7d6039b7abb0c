"""The instance's storage account: folders down, folders up, and addresses for others to upload to."""

from __future__ import annotations

import contextlib
import datetime as dt
import mimetypes
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from azbatchwrap.names import safe_relative

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient

#: How long an upload may take from the moment it was asked for (hours).
UPLOAD_HOURS = 24
#: Azurite is on this machine (seconds).
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 120


class Blobs:
    """Blocking: call it from a thread. The SDK is loaded with the first use, since many instances never come to it."""

    def __init__(self, connection_string: str) -> None:
        self._connection_string = connection_string

    @cached_property
    def _service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(
            self._connection_string, retry_total=3, connection_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT
        )

    def ensure(self, container: str) -> ContainerClient:
        """The container, made unless it is there."""
        from azure.core.exceptions import ResourceExistsError

        client = self._service.get_container_client(container)
        with contextlib.suppress(ResourceExistsError):
            client.create_container()
        return client

    def remove(self, container: str) -> None:
        """Remove a container, if it is there."""
        from azure.core.exceptions import ResourceNotFoundError

        with contextlib.suppress(ResourceNotFoundError):
            self._service.delete_container(container)

    def exists(self, container: str, blob: str) -> bool:
        return self._service.get_blob_client(container, blob).exists()

    def remove_blob(self, container: str, blob: str) -> None:
        """Remove a blob, if it is there."""
        from azure.core.exceptions import ResourceNotFoundError

        with contextlib.suppress(ResourceNotFoundError):
            self._service.get_blob_client(container, blob).delete_blob()

    def signed(self, container: str, blob: str = "", *, writes: bool = False, hours: float = UPLOAD_HOURS) -> str:
        """The address of a container or blob, signed for so long: for reading, or for writing and listing as well."""
        from azure.storage.blob import (
            BlobSasPermissions,
            ContainerSasPermissions,
            generate_blob_sas,
            generate_container_sas,
        )

        client = self._service.get_container_client(container)
        shared: dict[str, Any] = {
            "account_name": str(self._service.account_name),
            "container_name": container,
            "account_key": self._service.credential.account_key,
            "expiry": dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours),
        }
        if blob:
            sas = generate_blob_sas(
                **shared, blob_name=blob, permission=BlobSasPermissions(read=True, write=writes, create=writes)
            )
            return f"{client.url}/{quote(blob)}?{sas}"
        permission = ContainerSasPermissions(read=True, list=True, write=writes, add=writes, create=writes)
        return f"{client.url}?{generate_container_sas(**shared, permission=permission)}"

    def address(self, container: str) -> str:
        return self._service.get_container_client(container).url

    def download(self, container: str, path: str, folder: Path) -> Path:
        """The blob ``path``, or everything below it, into ``folder``; returns the file or the folder.

        Raises FileNotFoundError when there is nothing.
        """
        client = self._service.get_container_client(container)
        folder.mkdir(parents=True, exist_ok=True)
        prefix = path.strip("/")
        found = self._names(client, prefix)
        if prefix in found:
            target = folder / safe_relative(prefix.rpartition("/")[2])
            _fetch(client, prefix, target)
            return target
        below = [name for name in found if name.startswith(f"{prefix}/" if prefix else "")]
        if not below:
            raise FileNotFoundError(f"nothing lies at {path or '/'} of the container {container}")
        for name in below:
            relative = name[len(prefix) :].strip("/")
            if relative and not name.endswith("/"):
                _fetch(client, name, folder / safe_relative(relative))
        return folder

    @staticmethod
    def _names(client: ContainerClient, prefix: str) -> list[str]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return list(client.list_blob_names(name_starts_with=prefix or None))
        except ResourceNotFoundError:
            return []

    def upload(self, source: Path, container: str, path: str) -> int:
        """A file to ``path``, or a folder's files below it; returns how many."""
        client = self.ensure(container)
        prefix = path.strip("/")
        if source.is_file():
            _store(client, source, prefix)
            return 1
        files = [file for file in sorted(source.rglob("*")) if file.is_file() and not file.is_symlink()]
        for file in files:
            _store(client, file, "/".join(part for part in (prefix, file.relative_to(source).as_posix()) if part))
        return len(files)


def _fetch(client: ContainerClient, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        client.download_blob(name).readinto(file)


def _store(client: ContainerClient, source: Path, name: str) -> None:
    from azure.storage.blob import ContentSettings

    kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    with source.open("rb") as file:
        client.upload_blob(name, file, overwrite=True, content_settings=ContentSettings(content_type=kind))
