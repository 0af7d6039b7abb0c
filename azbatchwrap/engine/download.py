"""Fetches blobs to a node: in parallel, with retries that resume, checked against their hashes."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from .node_folder import BLOB_MODE, BLOB_TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

#: Transfers at once: enough to hide round trips, few enough for a small node.
TRANSFERS = 8
#: Tries for one blob in a row without a byte of progress, and the first pause in seconds (doubled each time, full jitter).
ATTEMPTS, PAUSE, LONGEST_PAUSE = 6, 0.5, 20.0
#: A server may ask for patience, but not for more than this many seconds.
LONGEST_RETRY_AFTER = 300.0
#: Seconds without a byte after which a connection counts as dead.
SOCKET_TIMEOUT = 60.0
PIECE = 1 << 20
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class DownloadError(Exception):
    """A blob cannot be had. The message names it and the reason, never the signature of the address."""


class _TryAgain(Exception):
    """This try failed in a way that another one may not; ``wait`` in seconds, as the server asked."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Downloads:
    """Blobs of one container, addressed by their content hash. ``container_url`` carries a SAS that may read them."""

    def __init__(self, container_url: str, folder: Path) -> None:
        base, _, self._signature = container_url.partition("?")
        if urlsplit(base).scheme not in ("http", "https"):
            raise DownloadError("the address of the files is neither http nor https")
        self._base = base.rstrip("/")
        self._folder = folder
        # A proxy of the environment cannot reach this machine's own loopback.
        handlers = [urllib.request.ProxyHandler({})] if urlsplit(base).hostname in LOOPBACK else []
        self._opener = urllib.request.build_opener(*handlers)

    def fetch_all(self, sizes: Mapping[str, int]) -> None:
        """Put the blobs (sha256 -> size in bytes) into the folder. Raises `DownloadError`; whole ones stay."""
        with ThreadPoolExecutor(TRANSFERS) as pool:
            waiting = [pool.submit(self._fetch, sha256, size) for sha256, size in sizes.items()]
            try:
                for done in waiting:
                    done.result()
            except BaseException:
                for late in waiting:
                    late.cancel()
                raise

    def _fetch(self, sha256: str, size: int) -> None:
        beside = self._folder / f".{sha256}.part"
        with beside.open("wb") as file:
            self._receive_all(_Transfer(sha256, size, file))
        _put_in_place(beside, self._folder / sha256)

    def _receive_all(self, transfer: _Transfer) -> None:
        """Request after request until the blob is there, with pauses after those that brought nothing."""
        failures, reached = 0, 0
        while True:
            try:
                self._receive(transfer)
            except _TryAgain as reason:
                if transfer.received > reached:
                    failures, reached = 0, transfer.received
                failures += 1
                if failures >= ATTEMPTS:
                    raise DownloadError(f"{transfer} cannot be fetched, tried {failures} times: {reason}") from reason
                pause = min(LONGEST_PAUSE, PAUSE * 2 ** (failures - 1)) * random.random()
                time.sleep(min(reason.wait, LONGEST_RETRY_AFTER) + pause)
            else:
                return

    def _receive(self, transfer: _Transfer) -> None:
        """One request for what is still missing. Raises `_TryAgain`, or `DownloadError` when that is of no use."""
        sha256 = transfer.sha256
        request = urllib.request.Request(  # noqa: S310 - the scheme has been checked
            f"{self._base}/content/{sha256[:2]}/{sha256}?{self._signature}"
        )
        if transfer.received:
            request.add_header("Range", f"bytes={transfer.received}-")
        try:
            with self._opener.open(request, timeout=SOCKET_TIMEOUT) as answer:
                if answer.status != 206:
                    transfer.restart()
                while True:
                    piece = answer.read(PIECE)
                    if not piece:
                        break
                    transfer.take(piece)
        except urllib.error.HTTPError as error:
            with error:
                raise _translated(error, transfer) from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _TryAgain(str(getattr(error, "reason", None) or error or type(error).__name__)) from error
        transfer.check()


def adopt(source: Path, folder: Path, sizes: Mapping[str, int]) -> None:
    """Copy blobs (sha256 -> size in bytes) that lie in ``source`` under their names. Raises `DownloadError`."""
    for sha256, size in sizes.items():
        beside = folder / f".{sha256}.part"
        try:
            found = _copy(source / sha256, beside)
        except FileNotFoundError as error:
            raise DownloadError(f"blob {sha256} ({size} bytes) was not brought to this node") from error
        if found != sha256:
            raise DownloadError(
                f"blob {sha256} ({size} bytes): what was brought to this node is not what its name says"
            )
        _put_in_place(beside, folder / sha256)


def _copy(source: Path, target: Path) -> str:
    """The SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as given, target.open("wb") as taken:
        while True:
            piece = given.read(PIECE)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)
            taken.write(piece)


def _put_in_place(beside: Path, final: Path) -> None:
    beside.chmod(BLOB_MODE)
    os.utime(beside, (BLOB_TIME, BLOB_TIME))
    beside.rename(final)


class _Transfer:
    """One blob on its way: how much has come, and its hash so far."""

    def __init__(self, sha256: str, size: int, file: IO[bytes]) -> None:
        self.sha256 = sha256
        self._size = size
        self._file = file
        self.restart()

    def __str__(self) -> str:
        return f"blob {self.sha256} ({self._size} bytes)"

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.received = 0

    def take(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.received += len(piece)

    def check(self) -> None:
        """Raises `_TryAgain` when the connection ended early or the content is not what its name says."""
        if self.received < self._size:
            raise _TryAgain(f"the connection ended after {self.received} bytes")
        if self._hash.hexdigest() != self.sha256:
            self.restart()
            raise _TryAgain("its content does not match its hash")


def _translated(error: urllib.error.HTTPError, transfer: _Transfer) -> Exception:
    """What an HTTP status means for one blob; Azure names the reason in x-ms-error-code."""
    code = error.headers.get("x-ms-error-code", "") or error.reason
    if error.code in (408, 429) or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        return _TryAgain(f"HTTP {error.code} {code}", float(after) if after.isdigit() else 0.0)
    if error.code == 404:
        return DownloadError(f"{transfer} is not in the storage container: upload the files again (HTTP 404 {code})")
    if error.code == 403:
        return DownloadError(f"{transfer} was refused: the signature has expired or lacks rights (HTTP 403 {code})")
    return DownloadError(f"{transfer} was refused: HTTP {error.code} {code}")
