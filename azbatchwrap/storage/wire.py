"""The hot path: whole blobs and blocks sent and read over kept-alive connections, a bounded number of them.

The SDK spends 1 to 2 ms of Python on each blob it sends and 0.2 ms on each it lists: as much as an emulator needs,
and 20 seconds for a listing of 100,000. Loading it takes longer than a repeated upload. These requests are plain
enough to be sent directly; all else (containers' lists, deletions, keys) goes through the SDK.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import urllib3

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import ServiceError, Throttled
from azbatchwrap.storage.account import CONNECT_TIMEOUT, READ_TIMEOUT, Account
from azbatchwrap.storage.dry import check_may_write
from azbatchwrap.storage.faults import RETRIED_STATUSES, no_answer, refused

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

#: Connections. An emulator waits for its disk after each write, a network for its round trip: many at once hide both.
CONNECTIONS = 16
#: Blobs on one page of a listing: the most that the service gives.
_PAGE = 5000
#: The patience with one request: about a minute in all.
PATIENCE = Backoff(attempts=7, base=0.5, cap=20.0)


class BlobWire:
    """Sends and reads blobs of one account. Safe to share between threads. ``patience`` rules its retries."""

    def __init__(self, account: Account, *, patience: Backoff | None = None) -> None:
        self._account = account
        self._patience = patience or PATIENCE
        self.connections = CONNECTIONS
        self._pool, self._origin = _connection_pool(account, self.connections)

    def close(self) -> None:
        self._pool.close()

    def put_blob(self, container: str, blob: str, data: bytes) -> None:
        """Writes a whole blob, over an older one if there is. The service compares our MD5 with what arrived."""
        headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": _md5(data)}
        self._send("PUT", container, blob, data=data, headers=headers)

    def put_block(self, container: str, blob: str, block_id: str, data: bytes) -> None:
        """Stages one block; nothing shows until `put_block_list`."""
        # A digest guards against networks; within a machine it would only cost: 0.6 s for 512 MiB.
        headers = {} if self._account.is_local else {"Content-MD5": _md5(data)}
        self._send("PUT", container, blob, data=data, headers=headers, query={"comp": "block", "blockid": block_id})

    def put_block_list(self, container: str, blob: str, block_ids: Sequence[str], sha256: str) -> None:
        """Makes the staged blocks the blob's content."""
        listed = "".join(f"<Latest>{block_id}</Latest>" for block_id in block_ids)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        self._send("PUT", container, blob, data=body, headers={"x-ms-meta-sha256": sha256}, query={"comp": "blocklist"})

    def create_container(self, container: str, metadata: Mapping[str, str]) -> None:
        """Makes a container. Raises Conflict when it is there."""
        headers = {f"x-ms-meta-{name}": value for name, value in metadata.items()}
        doing = f"creating the container {container}"
        self._send("PUT", container, "", data=b"", headers=headers, query={"restype": "container"}, doing=doing)

    def list_page(self, container: str, prefix: str, marker: str) -> bytes:
        """One page of a listing, as the service writes it (List Blobs); an empty ``marker`` asks for the first."""
        query = {"restype": "container", "comp": "list", "maxresults": str(_PAGE), "prefix": prefix, "marker": marker}
        asked = {name: value for name, value in query.items() if value}
        return self._send("GET", container, "", query=asked, doing=f"listing {container}/{prefix}").data

    def read(self, container: str, blob: str) -> bytes:
        """The whole content of a small blob."""
        answer = self._send("GET", container, blob)
        return answer.data

    @contextlib.contextmanager
    def reading(self, container: str, blob: str, *, start: int = 0, etag: str | None = None) -> Iterator[_Body]:
        """The content from byte ``start`` on, as a stream. Raises Conflict when the blob is not ``etag`` any more."""
        headers = {"If-Match": etag} if etag else {}
        if start:
            headers["x-ms-range"] = f"bytes={start}-"
        answer = self._send("GET", container, blob, headers=headers, stream=True)
        try:
            yield _Body(answer, f"reading {container}/{blob}")
        finally:
            # A connection with an unread rest is of no more use, but its place in the pool is.
            answer.close()
            answer.release_conn()

    def _send(
        self,
        method: str,
        container: str,
        blob: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        stream: bool = False,
        doing: str = "",
    ) -> BaseHTTPResponse:
        """One request with retries. Raises ServiceError, whose message names the blob and never a signature."""
        doing = doing or f"{'reading' if method == 'GET' else 'writing'} {container}/{blob}"
        if method != "GET":
            check_may_write()
        request = _Request(method, self._account.url(container, blob), data, headers or {}, query or {})
        attempt = 1
        while True:
            try:
                return self._attempt(request, doing, stream=stream)
            except ServiceError as error:
                if not _may_change(error) or self._patience.exhausted(attempt):
                    raise
                asked = error.retry_after if isinstance(error, Throttled) else None
            time.sleep(self._patience.delay(attempt, retry_after=asked))
            attempt += 1

    def _attempt(self, request: _Request, doing: str, *, stream: bool) -> BaseHTTPResponse:
        try:
            answer = self._pool.urlopen(
                request.method,
                request.address.removeprefix(self._origin),
                body=request.data,
                headers=self._account.signed(request.method, request.url, request.full_headers, request.query),
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(doing, f"{type(error).__name__}: {error}") from error
        if answer.status < 300:
            return answer
        answer.drain_conn()
        code = answer.headers.get("x-ms-error-code", "")
        raise refused(doing, answer.status, code, retry_after=answer.headers.get("Retry-After"))


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    data: bytes | None
    headers: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def address(self) -> str:
        return f"{self.url}?{urlencode(self.query)}" if self.query else self.url

    @property
    def full_headers(self) -> dict[str, str]:
        length = {} if self.data is None else {"Content-Length": str(len(self.data))}
        return {**self.headers, **length}


class _Body:
    """The body of an answer that is read in pieces."""

    def __init__(self, answer: BaseHTTPResponse, doing: str) -> None:
        self._answer = answer
        self._doing = doing

    def pieces(self, size: int) -> Iterator[bytes]:
        """Raises Unreachable when the connection ends before the body does."""
        try:
            yield from self._answer.stream(size, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(self._doing, f"{type(error).__name__}: {error}") from error


def _may_change(error: ServiceError) -> bool:
    return error.status is None or error.status in RETRIED_STATUSES


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _connection_pool(account: Account, connections: int) -> tuple[urllib3.HTTPConnectionPool, str]:
    """Connections to the account, and the part of an address that is left out of what is sent over them.

    They honour the same proxy and certificate settings as the SDK beside us; within a machine there is no proxy.
    """
    options: dict[str, Any] = {
        "maxsize": connections,
        "block": True,
        "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
    }
    parts = urlsplit(account.blob_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if account.is_local:
        return urllib3.PoolManager(**options).connection_from_url(account.blob_url), origin
    import requests

    with requests.Session() as session:
        found = session.merge_environment_settings(account.blob_url, {}, None, None, None)
    verify = found["verify"]
    options["ca_certs"] = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
    proxy = requests.utils.select_proxy(account.blob_url, found["proxies"])
    manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    # A proxy of plain http wants whole addresses; one of https only passes the connection on.
    return manager.connection_from_url(account.blob_url), "" if proxy and parts.scheme == "http" else origin
