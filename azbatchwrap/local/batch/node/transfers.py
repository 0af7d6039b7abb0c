"""Files between a task's folder and storage: resource files come in, output files leave, over plain HTTP."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

from azbatchwrap.local.batch.node import failures, patterns
from azbatchwrap.local.batch.node.records import Failure, TaskFailure

#: Attempts for every request, with waits of about 0.25, 0.5 and 1 second between them.
ATTEMPTS = 4
_FIRST_WAIT = 0.25
#: A server's Retry-After is heeded up to this many seconds.
_LONGEST_WAIT = 20.0
#: Seconds until a connection must stand, and until the next byte must come.
_CONNECT_TIMEOUT = 10.0
_IDLE_TIMEOUT = 60.0
#: Transfers at once, over all tasks of all nodes: more only queue up in Azurite.
_AT_ONCE = 16
#: Coroutines at once for one list of files, so that a folder of a million costs no memory.
_TASKS_AT_ONCE = 256
#: Bytes held of a file that is on its way.
_PIECE = 1 << 18
#: Files beyond this many bytes are put as blocks of this many bytes at least (Azure takes 50,000 blocks).
_BLOCK = 64 << 20
_MOST_BLOCKS = 50_000
#: ``fileMode`` when a resource file has none.
_DEFAULT_MODE = "0770"
_THIS_MACHINE = {"127.0.0.1", "::1", "localhost"}
_TRANSIENT = {408, 429, 500, 502, 503, 504}

_Result = TypeVar("_Result")


class _Refused(Exception):
    """An answer other than success, after all attempts. ``status`` is None when no answer came."""

    def __init__(self, status: int | None, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.timed_out = timed_out

    @property
    def denied(self) -> bool:
        return self.status in {401, 403} or "PublicAccessNotPermitted" in self.reason


@dataclass(frozen=True, slots=True)
class _Source:
    """One blob or page to download. ``path`` is relative to the working folder; ``mode`` as for chmod."""

    url: str
    path: PurePosixPath
    mode: int


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where one output file goes."""

    url: str
    headers: Mapping[str, str]


class Transfers:
    """One HTTP session for all nodes.

    ``auto_storage`` turns a container's name into its URL with a SAS; ``sign`` gives a URL one with these permissions,
    or None when it is not of a storage account that identities open here; ``network`` are the proxy settings that
    :func:`~.environment.network_settings` returned.
    """

    def __init__(
        self,
        *,
        auto_storage: Callable[[str], str] | None = None,
        sign: Callable[[str, str], str | None] | None = None,
        network: Mapping[str, str] | None = None,
    ) -> None:
        self._auto_storage = auto_storage
        self._sign = sign
        self._network = {name.lower(): value for name, value in (network or {}).items()}
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        #: Asked once for every task that uploads: whether its upload is to fail.
        self.upload_fails: Callable[[], bool] = bool

    async def start(self) -> None:
        """Open the session. It needs the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_IDLE_TIMEOUT),
                connector=aiohttp.TCPConnector(limit=0),  # the slots are the limit
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def download(
        self, resource_files: Sequence[Mapping[str, Any]], working: Path, identities: frozenset[str] = frozenset()
    ) -> None:
        """Bring all ``resourceFiles`` into ``working``. Raises TaskFailure.

        ``identities`` are those that files may refer to, see `Launch`.
        """
        await _on_disk(working, "ResourceDirectoryCreateFailed", working.mkdir, 0o777, True, True)
        opened = [self._opened(resource, identities) for resource in resource_files]
        await self._fetch_all([_single_source(resource) for resource in opened if resource.get("httpUrl")], working)
        for resource in opened:
            if not resource.get("httpUrl"):
                async for sources in self._list(resource):
                    await self._fetch_all(sources, working)

    async def upload(
        self,
        output_files: Sequence[Mapping[str, Any]],
        folder: Path,
        environment: Mapping[str, str],
        *,
        succeeded: bool,
        identities: frozenset[str] = frozenset(),
    ) -> Failure | None:
        """Upload what the ``outputFiles`` of a task name, as their conditions say; return the first failure.

        What was done and what was not is written to ``fileuploadout.txt`` and ``fileuploaderr.txt`` in ``folder``.
        """
        done: list[str] = []
        failed: list[Failure] = []
        if self.upload_fails():
            failed.append(failures.upload("FileUploadMiscError", "", "", "the upload failed on request"))
            output_files = ()
        for output in output_files:
            condition = output.get("uploadOptions", {}).get("uploadCondition", "taskcompletion").lower()
            if condition == ("taskfailure" if succeeded else "tasksuccess"):
                continue
            pattern = patterns.expand_variables(output["filePattern"], environment)
            container = output.get("destination", {}).get("container", {})
            url = container.get("containerUrl", "")
            try:
                opened = {**container, "containerUrl": self._identified(url, container, identities, "cw")}
            except _Refused as refusal:
                failed.append(_upload_failure(refusal, url, pattern))
                continue
            await self._upload_matches(pattern, opened, folder / "wd", done, failed)
        try:
            await asyncio.to_thread(_write_logs, folder, done, failed)
        except OSError as problem:
            failed.append(failures.disk(problem, "FileUploadMiscError", "fileuploadout.txt"))
        return failed[0] if failed else None

    def _proxy(self, target: URL) -> str | None:
        """The proxy for an address. This machine itself is never reached through one."""
        host = target.host or ""
        direct = [entry.strip().lstrip(".").lower() for entry in self._network.get("no_proxy", "").split(",")]
        if host in _THIS_MACHINE or any(
            entry in {"*", host} or host.endswith(f".{entry}") for entry in direct if entry
        ):
            return None
        return self._network.get(f"{target.scheme}_proxy") or self._network.get("all_proxy")

    def _opened(self, resource: Mapping[str, Any], identities: frozenset[str]) -> Mapping[str, Any]:
        """The resource file with an address that can be read. Raises TaskFailure."""
        name = "httpUrl" if resource.get("httpUrl") else "storageContainerUrl"
        url = str(resource.get(name) or "")
        try:
            return {**resource, name: self._identified(url, resource, identities, "rl")}
        except _Refused as refusal:
            raise TaskFailure(_blob_failure(refusal, url, str(resource.get("filePath") or ""))) from refusal

    def _identified(self, url: str, holder: Mapping[str, Any], identities: frozenset[str], permissions: str) -> str:
        """``url``, opened by the identity that ``holder`` refers to, if it does. Raises _Refused."""
        reference = (holder.get("identityReference") or {}).get("resourceId")
        if not reference or not url:
            return url
        if reference.lower() not in identities:
            raise _Refused(403, f"the pool does not have the identity {reference}")
        signed = self._sign(url, permissions) if self._sign is not None else None
        if signed is None:
            raise _Refused(403, "an identity opens the storage account of this instance alone")
        return signed

    async def _list(self, resource: Mapping[str, Any]) -> AsyncIterator[list[_Source]]:
        """The blobs of a container below a prefix, page by page."""
        below = _inside(resource["filePath"]) if resource.get("filePath") else PurePosixPath()
        mode = _mode(resource)
        container = self._container_url(resource, str(below))
        query = f"restype=container&comp=list&prefix={quote(resource.get('blobPrefix') or '', safe='')}"
        marker = ""
        while True:
            url = _join(container, "", f"{query}&marker={quote(marker, safe='')}")
            try:
                page = await self._send("GET", url, _read_whole)
            except _Refused as refusal:
                raise TaskFailure(_blob_failure(refusal, container, str(below))) from refusal
            names, marker = _read_page(page)
            yield [_Source(_join(container, name), _inside(str(below / name)), mode) for name in names]
            if not marker:
                return

    def _container_url(self, resource: Mapping[str, Any], path: str) -> str:
        if resource.get("storageContainerUrl"):
            return str(resource["storageContainerUrl"])
        name = resource.get("autoStorageContainerName")
        if name and self._auto_storage:
            return self._auto_storage(str(name))
        reason = "it names no httpUrl, no storageContainerUrl, and no container of a linked storage account"
        raise TaskFailure(failures.blob("BlobAccessDenied", str(name or ""), path, reason))

    async def _fetch_all(self, sources: Sequence[_Source], working: Path) -> None:
        await _all(self._fetch(source, working) for source in sources)

    async def _fetch(self, source: _Source, working: Path) -> None:
        path = working / source.path
        async with self._slots:
            await _on_disk(source.path, "ResourceDirectoryCreateFailed", _make_parent, path, working)
            try:
                await self._send("GET", source.url, lambda response: _save(response, path, source))
            except _Refused as refusal:
                raise TaskFailure(_blob_failure(refusal, source.url, str(source.path))) from refusal

    async def _upload_matches(
        self,
        pattern: str,
        container: Mapping[str, Any],
        working: Path,
        done: list[str],
        failed: list[Failure],
    ) -> None:
        headers = {item["name"]: item["value"] for item in container.get("uploadHeaders") or ()}
        url = container.get("containerUrl", "")
        prefix = (container.get("path") or "").strip("/")
        try:
            matches = await asyncio.to_thread(lambda: list(patterns.find(pattern, working)))
        except ValueError as problem:
            failed.append(failures.upload("FileUploadMiscError", url, pattern, str(problem)))
            return

        async def upload(match: patterns.Match) -> None:
            name = f"{prefix}/{match.name}".lstrip("/") if patterns.has_wildcard(pattern) else prefix or match.name
            failure = await self._put(match.path, _Destination(_join(url, name), headers))
            if failure is None:
                done.append(f"{match.path} -> {failures.without_query(_join(url, name))}")
            else:
                failed.append(failure)

        await _all(upload(match) for match in matches)

    async def _put(self, path: Path, destination: _Destination) -> Failure | None:
        """Upload one file. A file that changes or goes while it is read is tried again, then reported."""
        async with self._slots:
            try:
                size = (await asyncio.to_thread(path.stat)).st_size
                if size <= _BLOCK:
                    headers = {"x-ms-blob-type": "BlockBlob", **destination.headers}
                    await self._put_part(path, 0, size, destination.url, headers)
                else:
                    await self._put_blocks(path, size, destination)
            except _Refused as refusal:
                return _upload_failure(refusal, destination.url, path.name)
            except OSError as problem:
                reason = os.strerror(problem.errno) if problem.errno else str(problem)
                return failures.upload("FileUploadMiscError", destination.url, path.name, reason)
        return None

    async def _put_blocks(self, path: Path, size: int, destination: _Destination) -> None:
        length = max(_BLOCK, -(-size // _MOST_BLOCKS))
        ids: list[str] = []
        for start in range(0, size, length):
            ids.append(f"{len(ids):08d}")  # eight digits are their own base64 form
            url = _with_query(destination.url, f"comp=block&blockid={ids[-1]}")
            await self._put_part(path, start, min(length, size - start), url, {})
        body = "<BlockList>" + "".join(f"<Latest>{block}</Latest>" for block in ids) + "</BlockList>"
        url = _with_query(destination.url, "comp=blocklist")
        await self._send("PUT", url, _read_whole, headers=destination.headers, body=body.encode)

    async def _put_part(self, path: Path, start: int, length: int, url: str, headers: Mapping[str, str]) -> None:
        headers = {**headers, "Content-Length": str(length), "Content-Type": "application/octet-stream"}
        small = await asyncio.to_thread(_read_exactly, path, start, length) if length <= _PIECE else None
        await self._send(
            "PUT",
            url,
            _read_whole,
            headers=headers,
            body=lambda: _pieces(path, start, length) if small is None else small,
        )

    async def _send(
        self,
        method: str,
        url: str,
        use: Callable[[aiohttp.ClientResponse], Awaitable[_Result]],
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], bytes | AsyncIterator[bytes]] | None = None,
    ) -> _Result:
        """One request, tried again while that may help. Raises _Refused."""
        assert self._session is not None, "Transfers.start() comes first"
        refusal = _Refused(None, "not tried")
        for attempt in range(ATTEMPTS):
            wait = _FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.5)
            try:
                data, target = body() if body else None, _url(url)
                async with self._session.request(
                    method, target, headers=headers, data=data, proxy=self._proxy(target)
                ) as response:
                    if response.status < 300:
                        return await use(response)
                    refusal = _Refused(response.status, await _reason(response))
                    if response.status not in _TRANSIENT:
                        raise refusal
                    wait = _retry_after(response) or wait
            except asyncio.TimeoutError:
                refusal = _Refused(None, "no answer in time", timed_out=True)
            except (aiohttp.InvalidURL, ValueError) as problem:
                raise _Refused(None, "the address is not valid") from problem
            except aiohttp.ClientError as problem:
                refusal = _Refused(None, f"{type(problem).__name__}: {_without_address(problem, url)}")
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(wait)
        raise refusal


def _single_source(resource: Mapping[str, Any]) -> _Source:
    return _Source(str(resource["httpUrl"]), _inside(str(resource.get("filePath") or "")), _mode(resource))


def _inside(path: str) -> PurePosixPath:
    """``path`` below the working folder. Raises TaskFailure for one that leaves it."""
    relative = PurePosixPath(path)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or "\0" in path:
        raise TaskFailure(failures.resource_path(path, "it does not lie in the task's working folder"))
    return relative


def _mode(resource: Mapping[str, Any]) -> int:
    text = str(resource.get("fileMode") or _DEFAULT_MODE)
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise TaskFailure(failures.resource_path(str(resource.get("filePath")), f"its mode {text!r} is not octal"))
    return mode & 0o777


def _make_parent(path: Path, working: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    inside, parent = os.path.realpath(working), os.path.realpath(path.parent)
    if parent != inside and not parent.startswith(inside + "/"):
        raise PermissionError(errno.EPERM, "a link leads out of the working folder", str(path))


async def _save(response: aiohttp.ClientResponse, path: Path, source: _Source) -> None:
    """Write the body beside ``path`` and put it in place when it is whole."""
    beside = path.with_name(f".{secrets.token_hex(6)}.part")
    file = await _on_disk(source.path, "ResourceFileCreateFailed", beside.open, "xb", 0)
    try:
        async for piece in response.content.iter_chunked(_PIECE):
            await _on_disk(source.path, "ResourceFileWriteFailed", _write, file, piece)
        await _on_disk(source.path, "ResourceFileWriteFailed", _finish, file, beside, path, source.mode)
    finally:
        file.close()
        beside.unlink(missing_ok=True)


def _write(file: BinaryIO, piece: bytes) -> None:
    """All of ``piece``: an unbuffered file may take less at once."""
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


def _finish(file: BinaryIO, beside: Path, path: Path, mode: int) -> None:
    os.fchmod(file.fileno(), mode)
    file.close()
    beside.replace(path)


async def _on_disk(path: Path | PurePosixPath, code: str, work: Callable[..., _Result], *arguments: Any) -> _Result:
    """``work`` in a thread; its OSError becomes a TaskFailure, so that it is never taken for the network's."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as problem:
        raise TaskFailure(failures.disk(problem, code, str(path))) from problem


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Everything, many at once; the first error cancels the others and is raised when they are over."""
    waiting = iter(work)
    while tasks := [asyncio.ensure_future(one) for one in itertools.islice(waiting, _TASKS_AT_ONCE)]:
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _read_page(page: bytes) -> tuple[list[str], str]:
    """Blob names and the next marker ("" at the end) of a container listing. Folder markers are left out."""
    tree = ET.fromstring(page)  # noqa: S314 - expat refuses entity bombs since 2.4.1
    names = []
    for element in tree.iter("Name"):
        name = element.text or ""
        names.append(unquote(name) if element.get("Encoded") == "true" else name)
    return [name for name in names if name and not name.endswith("/")], tree.findtext("NextMarker") or ""


async def _read_whole(response: aiohttp.ClientResponse) -> bytes:
    return await response.read()


def _read_exactly(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(length)
    if len(data) != length:
        raise OSError(errno.EIO, "the file became shorter while it was uploaded")
    return data


async def _pieces(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    """The bytes of a part of a file. Raises ClientError when the file is shorter: the request is tried again."""
    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(start)
        left = length
        while left > 0:
            piece = await asyncio.to_thread(file.read, min(_PIECE, left))
            if not piece:
                raise aiohttp.ClientPayloadError("the file became shorter while it was uploaded")
            left -= len(piece)
            yield piece


def _join(container: str, name: str, query: str = "") -> str:
    """The address of the blob ``name`` in ``container``, whose own query (its SAS) is kept."""
    base, _, signature = container.partition("?")
    blob = f"/{quote(os.fsencode(name), safe='/~')}" if name else ""
    whole = "&".join(part for part in (query, signature) if part)
    return f"{base.rstrip('/')}{blob}?{whole}" if whole else f"{base.rstrip('/')}{blob}"


def _with_query(url: str, query: str) -> str:
    return f"{url}&{query}" if "?" in url else f"{url}?{query}"


def _url(url: str) -> URL:
    """``url`` as it is, so that a signature stays whole, unless it needs encoding."""
    return URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if text.isdigit() else None


async def _reason(response: aiohttp.ClientResponse) -> str:
    """The service's own word for a refusal, else the HTTP status."""
    code = response.headers.get("x-ms-error-code", "")
    return f"{response.status} {code or response.reason or ''}".strip()


def _without_address(problem: Exception, url: str) -> str:
    """The text of ``problem``, without the signature that an address in it may carry."""
    return str(problem).replace(url, failures.without_query(url))


def _blob_failure(refusal: _Refused, url: str, path: str) -> Failure:
    if refusal.timed_out:
        code = "BlobDownloadTimedOut"
    elif refusal.denied:
        code = "BlobAccessDenied"
    else:
        code = "BlobNotFound" if refusal.status in {404, 410} else "BlobDownloadMiscError"
    return failures.blob(code, url, path, refusal.reason)


def _upload_failure(refusal: _Refused, url: str, path: str) -> Failure:
    if refusal.denied:
        code = "FileUploadAccessDenied"
    else:
        code = "FileUploadContainerNotFound" if refusal.status == 404 else "FileUploadMiscError"
    return failures.upload(code, url, path, refusal.reason)


def _write_logs(folder: Path, done: Sequence[str], failed: Sequence[Failure]) -> None:
    lines = [
        f"{failure.code}: " + "; ".join(f"{name} {value}" for name, value in failure.details) for failure in failed
    ]
    for name, text in (("fileuploadout.txt", done), ("fileuploaderr.txt", lines)):
        (folder / name).write_text("".join(f"{line}\n" for line in text), encoding="utf-8", errors="backslashreplace")
