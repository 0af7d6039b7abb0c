"""What a container holds, known from listings alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from azbatchwrap import names
from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import Conflict, NotFound
from azbatchwrap.storage.account import Account
from azbatchwrap.storage.faults import translated
from azbatchwrap.storage.records import BlobEntry, Content

#: A listing is believed this long (seconds): another process may delete what nothing refers to.
LISTING_LIFE = 300.0
_PAGE = 5000
_UNTIL_DELETED = Backoff(attempts=20, base=4.0, kind="fixed", jitter=False)


class Inventory:
    """The blobs of one container with their sizes. One listing answers for thousands of files."""

    def __init__(self, account: Account, container: str, project: str) -> None:
        self._account = account
        self.container = container
        self._project = project
        self._sizes: dict[str, int] = {}
        self._listed_at: float | None = None
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Lists the container, unless that was done a moment ago; makes it when it is not there."""
        with self._lock:
            if self._listed_at is not None and time.monotonic() - self._listed_at < LISTING_LIFE:
                return
            try:
                self._sizes = {entry.name: entry.size for entry in list_blobs(self._account, self.container)}
            except NotFound:
                create_container(self._account, self.container, self._project)
                self._sizes = {}
            self._listed_at = time.monotonic()

    def forget(self) -> None:
        """Makes the next `refresh` list again."""
        with self._lock:
            self._listed_at = None

    def holds(self, content: Content) -> bool:
        """Whether the content is there whole. A blob of another size is what an unclean stop left."""
        return self._sizes.get(names.content_blob(content.sha256)) == content.size

    def holds_blob(self, blob: str, size: int) -> bool:
        return self._sizes.get(blob) == size

    def add(self, blob: str, size: int) -> None:
        with self._lock:
            self._sizes[blob] = size

    def discard(self, blob: str) -> None:
        with self._lock:
            self._sizes.pop(blob, None)


def list_blobs(account: Account, container: str, prefix: str = "") -> Iterator[BlobEntry]:
    """The blobs whose names start with ``prefix``, in the order of their names. Raises NotFound without a container."""
    client = account.client.get_container_client(container)
    with translated(f"listing {container}/{prefix}"):
        for blob in client.list_blobs(name_starts_with=prefix or None, results_per_page=_PAGE):
            md5 = blob.content_settings.content_md5
            yield BlobEntry(blob.name, blob.size, blob.etag, blob.last_modified, bytes(md5) if md5 else None)


def create_container(account: Account, container: str, project: str) -> None:
    """Makes the container, marked as this project's; that it is there already is no error.

    Azure needs half a minute to delete a container, and refuses its name until then: that is waited for.
    """
    metadata = {names.MANAGED: "1", names.PROJECT: project}
    attempt = 1
    while True:
        try:
            with translated(f"creating the container {container}"):
                account.client.create_container(container, metadata=metadata)
        except Conflict as error:
            if error.code == "ContainerAlreadyExists":
                return
            if error.code != "ContainerBeingDeleted" or _UNTIL_DELETED.exhausted(attempt):
                raise
            time.sleep(_UNTIL_DELETED.delay(attempt))
            attempt += 1
        else:
            return
