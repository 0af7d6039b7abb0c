"""What a container holds, known from listings alone."""

from __future__ import annotations

import base64
import functools
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from azbatchwrap import names
from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import AzBatchWrapError, Conflict, NotFound
from azbatchwrap.storage.records import BlobEntry, Content
from azbatchwrap.storage.wire import BlobWire

#: A listing is believed this long (seconds): another process may delete what nothing refers to.
LISTING_LIFE = 300.0
_QUOTE = '"'
_UNTIL_DELETED = Backoff(attempts=20, base=4.0, kind="fixed", jitter=False)


class Inventory:
    """The blobs of one container with their sizes. One listing answers for thousands of files."""

    def __init__(self, wire: BlobWire, container: str, project: str) -> None:
        self._wire = wire
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
                self._sizes = {entry.name: entry.size for entry in list_blobs(self._wire, self.container)}
            except NotFound:
                create_container(self._wire, self.container, self._project)
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


def list_blobs(wire: BlobWire, container: str, prefix: str = "") -> Iterator[BlobEntry]:
    """The blobs whose names start with ``prefix``, in the order of their names. Raises NotFound without a container."""
    marker = ""
    while True:
        page = ET.fromstring(wire.list_page(container, prefix, marker))  # noqa: S314 - our own account wrote it
        yield from (_entry(blob) for blob in page.iterfind("Blobs/Blob"))
        marker = page.findtext("NextMarker") or ""
        if not marker:
            return


def _entry(blob: ET.Element) -> BlobEntry:
    name, properties = blob.find("Name"), blob.find("Properties")
    if name is None or properties is None:
        raise AzBatchWrapError("a listing of blobs cannot be understood: is this a storage account?")
    text = name.text or ""
    md5 = properties.findtext("Content-MD5")
    return BlobEntry(
        # Characters that XML cannot hold arrive percent-encoded, and marked so.
        unquote(text) if name.get("Encoded") == "true" else text,
        int(properties.findtext("Content-Length") or 0),
        f'"{(properties.findtext("Etag") or "").strip(_QUOTE)}"',
        _moment(properties.findtext("Last-Modified") or ""),
        base64.b64decode(md5) if md5 else None,
    )


@functools.lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    return parsedate_to_datetime(text)


def create_container(wire: BlobWire, container: str, project: str) -> None:
    """Makes the container, marked as this project's; that it is there already is no error.

    Azure needs half a minute to delete a container, and refuses its name until then: that is waited for.
    """
    metadata = {names.MANAGED: "1", names.PROJECT: project}
    attempt = 1
    while True:
        try:
            wire.create_container(container, metadata)
        except Conflict as error:
            if error.code == "ContainerAlreadyExists":
                return
            if error.code != "ContainerBeingDeleted" or _UNTIL_DELETED.exhausted(attempt):
                raise
            time.sleep(_UNTIL_DELETED.delay(attempt))
            attempt += 1
        else:
            return
