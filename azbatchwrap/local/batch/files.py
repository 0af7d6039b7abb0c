"""Operations on the files of tasks and nodes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import orjson

from azbatchwrap.local.batch import odata, tasks, wire
from azbatchwrap.local.batch.errors import BatchError, bad_header, bad_query
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.lists import page_answer, page_size, parse_filter, read_token
from azbatchwrap.local.batch.model import COMPLETED, READY
from azbatchwrap.local.batch.node import files
from azbatchwrap.local.batch.service import Service

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def _task_folder(service: Service, request: Request) -> tuple[Path, Path]:
    """The node's root and the task's folder. Raises where the task has no files to show."""
    job = service.job(request.path[0])
    row = service.tasks.shown(job.number, request.path[1])
    if row is None:
        raise BatchError("TaskNotFound")
    pool_id, _, node_id = (row[tasks.NODE] or "").partition("/")
    if not node_id:
        if row[tasks.STATE] <= READY + 1:
            raise BatchError("OperationInvalidForCurrentState", [("Reason", "The task has not started.")])
        raise BatchError("TaskFilesUnavailable")
    pool = service.pools.get(pool_id.lower())
    node = pool.nodes.get(node_id) if pool is not None else None
    if node is None:
        raise BatchError("TaskFilesUnavailable", [("Reason", "The node the task ran on is gone.")])
    folder = job.folder(node) / row[tasks.ID]
    if row[tasks.STATE] == COMPLETED and not folder.exists():
        raise BatchError("TaskFilesCleanedup")
    return node.place.root, folder


def _node_folder(service: Service, request: Request) -> tuple[Path, Path]:
    node = service.node(request.path[0], request.path[1])
    return node.place.root, node.place.root


def _name(request: Request) -> str:
    """The file's name: the rest of the address, decoded once."""
    return unquote(request.path[2]).strip("/")


def _entry(root: Path, folder: Path, name: str) -> files.FileEntry:
    try:
        return files.file_entry(root, folder, name)
    except files.FileMissing:
        raise BatchError("FileNotFound") from None


async def _list(request: Request, root: Path, folder: Path) -> Response:
    text = request.query.get("recursive", "false").lower()
    if text not in {"true", "false"}:
        raise bad_query("recursive", text, "The value must be true or false.")
    wanted = parse_filter(request, odata.FILES)
    size = page_size(request)
    start = read_token(request) or 0
    if not isinstance(start, int):
        raise bad_query("$skiptoken", str(start), "The token belongs to another list.")
    try:
        found = await asyncio.to_thread(files.list_files, root, folder, recursive=text == "true")
    except files.FileMissing:
        raise BatchError("FileNotFound") from None
    shown = (entry.wire(request.url) for entry in found)
    kept = [item for item in shown if wanted is None or wanted.matches(item)]
    token = start + size if len(kept) > start + size else None
    return page_answer(request, "files", map(orjson.dumps, kept[start : start + size]), token)


def _headers(request: Request, entry: files.FileEntry) -> tuple[tuple[bytes, bytes], ...]:
    """What describes a file or folder, checked against the conditional headers."""
    modified = entry.modified_ns // 100 + wire.UNIX_EPOCH
    for name in ("if-match", "if-none-match"):
        if name in request.headers:
            raise bad_header(name, request.headers[name])
    request.check_conditions(modified)
    address = quote(unquote(request.url).replace("\\", "/"), safe="")
    return (
        (b"last-modified", wire.http_date(modified).encode()),
        (b"ocp-batch-file-isdirectory", str(entry.is_directory).encode()),
        (b"ocp-batch-file-url", address.encode()),
        (b"ocp-batch-file-mode", entry.file_mode.encode()),
        (b"content-type", entry.content_type.encode()),
    )


def _properties(request: Request, root: Path, folder: Path) -> Response:
    entry = _entry(root, folder, _name(request))
    size = 0 if entry.is_directory else entry.size
    return Response(200, b"", (*_headers(request, entry), (b"content-length", b"%d" % size)), has_length=True)


def _content(request: Request, root: Path, folder: Path) -> Response:
    entry = _entry(root, folder, _name(request))
    headers = _headers(request, entry)
    try:
        start, end = _range(request, entry.size)
        pieces = files.read_range(entry, start, end)
    except files.IsFolder:
        raise BatchError("FileNotFound", [("Reason", "The name is that of a folder.")]) from None
    except files.FileMissing:
        raise BatchError("FileNotFound") from None
    lengths: tuple[tuple[bytes, bytes], ...] = ((b"content-length", b"%d" % (end - start)),)
    status = 200
    if (start, end) != (0, entry.size):
        lengths += ((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, entry.size)),)
        # The service's own clients take nothing but 200 for their ocp-range.
        status = 200 if "ocp-range" in request.headers else 206
    return Response(status, b"", headers + lengths, _stream(pieces))


def _range(request: Request, size: int) -> tuple[int, int]:
    """The half-open range of bytes asked for, from ``ocp-range`` or ``Range``."""
    text = request.headers.get("ocp-range") or request.headers.get("range") or ""
    if not text:
        return 0, size
    match = _RANGE.match(text.strip())
    if match is None or match.groups() == ("", ""):
        raise bad_header("ocp-range", text)
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    if start >= size or end <= start:
        raise BatchError("InvalidRange", headers=((b"content-range", b"bytes */%d" % size),))
    return start, end


async def _stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _delete(request: Request, root: Path, folder: Path) -> Response:
    recursive = request.query.get("recursive", "false").lower() == "true"
    name = _name(request)
    if name in {"", "."}:
        raise BatchError("FileNotFound")
    try:
        await asyncio.to_thread(files.delete_file, root, folder, name, recursive=recursive)
    except files.FileMissing:
        raise BatchError("FileNotFound") from None
    except files.FolderNotEmpty:
        raise BatchError(
            "OperationInvalidForCurrentState", [("Reason", "The folder is not empty; delete it with recursive=true.")]
        ) from None
    return Response(200)


async def list_task_files(service: Service, request: Request) -> Response:
    return await _list(request, *_task_folder(service, request))


def task_file_properties(service: Service, request: Request) -> Response:
    return _properties(request, *_task_folder(service, request))


def download_task_file(service: Service, request: Request) -> Response:
    return _content(request, *_task_folder(service, request))


async def delete_task_file(service: Service, request: Request) -> Response:
    return await _delete(request, *_task_folder(service, request))


async def list_node_files(service: Service, request: Request) -> Response:
    return await _list(request, *_node_folder(service, request))


def node_file_properties(service: Service, request: Request) -> Response:
    return _properties(request, *_node_folder(service, request))


def download_node_file(service: Service, request: Request) -> Response:
    return _content(request, *_node_folder(service, request))


async def delete_node_file(service: Service, request: Request) -> Response:
    return await _delete(request, *_node_folder(service, request))
