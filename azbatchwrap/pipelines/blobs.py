"""The storage account's blobs: containers, uploads with the hash of their content, downloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from azbatchwrap.config import Secret
from azbatchwrap.errors import AccessDenied, Conflict, NotFound, ServiceError, Unreachable, WaitTimeout
from azbatchwrap.names import safe_relative
from azbatchwrap.pipelines.arm import Arm, Document
from azbatchwrap.pipelines.place import MANAGED_TAG, MANAGED_VALUE, last_word

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient

    from azbatchwrap.pipelines.assets import Files

STORAGE_VERSION = "2023-05-01"
#: Metadata of a blob: the SHA-256 of what was uploaded.
HASH = "sha256"
#: Seconds for a connection, and between two pieces of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 20, 120
#: A deleted container keeps its name for half a minute at least (seconds between two attempts to make it again).
DELETION_LOOKS, DELETION_PAUSE = 60, 5.0
MANAGED = {MANAGED_TAG: MANAGED_VALUE}


@dataclass(slots=True)
class Blobs:
    """One storage account. ``key`` goes into datastores and signs requests; it is never shown."""

    account: str
    key: Secret
    service: BlobServiceClient
    #: Waits so many seconds.
    sleep: Callable[[float], None]

    @classmethod
    def open(cls, arm: Arm, account: str, document: Document | None) -> Blobs:
        """The account with the id ``account``; ``document`` is what is known of it."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import BlobServiceClient

        found = document or arm.get(account, STORAGE_VERSION)
        keys = arm.post(f"{account}/listKeys", STORAGE_VERSION)["keys"]
        url = str(found["properties"]["primaryEndpoints"]["blob"])
        name = urlsplit(url).path.strip("/") or last_word(account)
        service = BlobServiceClient(
            url.rstrip("/"),
            credential=AzureNamedKeyCredential(name, keys[0]["value"]),
            connection_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
        )
        return cls(name, Secret(keys[0]["value"]), service, arm.sleep)

    def container(self, name: str) -> Document | None:
        """The container's metadata, or ``None`` when it is absent."""
        with translated(f"container {name}"):
            return found_or_none(
                lambda: {"tags": dict(self._container(name).get_container_properties().metadata or {})}
            )

    def make_container(self, name: str) -> None:
        """One that is there already is fine; one that is being deleted is waited for."""
        for _ in range(DELETION_LOOKS):
            try:
                with translated(f"container {name}"):
                    self._container(name).create_container(metadata=MANAGED)
                return
            except Conflict as error:
                if error.code == "ContainerAlreadyExists":
                    return
                if error.code != "ContainerBeingDeleted":
                    raise
            self.sleep(DELETION_PAUSE)
        raise WaitTimeout(f"the container {name} is still being deleted: apply again in a few minutes")

    def remove_container(self, name: str) -> None:
        with translated(f"container {name}"), contextlib.suppress(NotFound):
            self._container(name).delete_container()

    def hashes(self, container: str, prefix: str) -> dict[str, str]:
        """Blob -> the hash that it was uploaded with (empty when somebody else wrote it), from one listing."""
        with translated(f"container {container}"):
            listed = self._container(container).list_blobs(name_starts_with=prefix, include=["metadata"])
            try:
                return {str(blob.name): str((blob.metadata or {}).get(HASH, "")) for blob in listed}
            except Exception as error:
                if getattr(error, "status_code", None) == 404:
                    return {}
                raise

    def upload(self, container: str, files: Files, names: Mapping[str, str]) -> None:
        """Upload files of ``files`` (their names) as blobs (the values)."""
        for name, blob in names.items():
            with translated(f"blob {container}/{blob}"), files.path(name).open("rb") as stream:
                self._container(container).upload_blob(
                    blob, stream, overwrite=True, metadata={**MANAGED, HASH: files.hashes[name]}
                )

    def write(self, container: str, name: str, text: str, digest: str) -> None:
        """A text as a blob, with its hash."""
        with translated(f"blob {container}/{name}"):
            self._container(container).upload_blob(
                name, text.encode(), overwrite=True, metadata={**MANAGED, HASH: digest}
            )

    def remove(self, container: str, names: list[str]) -> None:
        for name in names:
            with translated(f"blob {container}/{name}"), contextlib.suppress(NotFound):
                self._container(container).delete_blob(name)

    def download(self, container: str, prefix: str, folder: Path) -> list[Path]:
        """Bring everything below ``prefix`` into ``folder``: written beside, then renamed."""
        written = []
        with translated(f"container {container}"):
            for blob in self._container(container).list_blobs(name_starts_with=prefix):
                inside = str(blob.name)[len(prefix) :].lstrip("/") or last_word(str(blob.name))
                target = folder / safe_relative(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                beside = target.with_name(f"{target.name}.part")
                with beside.open("wb") as stream:
                    self._container(container).download_blob(blob.name).readinto(stream)
                beside.replace(target)
                written.append(target)
        return written

    def read(self, container: str, name: str, size: int) -> str:
        """The first ``size`` bytes of a text."""
        with translated(f"blob {container}/{name}"):
            content = self._container(container).download_blob(name, offset=0, length=size).readall()
            return bytes(content).decode("utf-8", "replace")

    def _container(self, name: str) -> ContainerClient:
        return self.service.get_container_client(name)

    def close(self) -> None:
        self.service.close()


def found_or_none(read: Callable[[], Document]) -> Document | None:
    """What ``read`` returns; ``None`` when the answer is 404, and nothing else."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return read()
    except ResourceNotFoundError as error:
        if error.status_code != 404:
            raise
        return None


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """The storage SDK's errors as ours, by status and code."""
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        code = str(getattr(error, "error_code", "") or "")
        kinds = {404: NotFound, 401: AccessDenied, 403: AccessDenied, 409: Conflict, 412: Conflict}
        kind = kinds.get(error.status_code or 0, ServiceError)
        raise kind(
            f"{what}: {error.status_code} {code}: {error.reason}", code=code, status=error.status_code
        ) from error
    except AzureError as error:
        raise Unreachable(f"{what}: no answer: {error}") from error
