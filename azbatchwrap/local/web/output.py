"""What tasks print, and their other files: read through the API's own operations, which know the safe paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson

from azbatchwrap.local.batch import files
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.service import Service

#: Bytes of a file told at a time; a look at a long file begins so far before its end.
PIECE = 128 * 1024
#: Files listed for a task.
FILES = 200
VERSION = "2025-06-01"

#: The operations for the properties and the content of a file.
Kind: TypeAlias = "tuple[Callable[[Service, Request], Response], Callable[[Service, Request], Response]]"
TASK: Kind = (files.task_file_properties, files.download_task_file)
NODE: Kind = (files.node_file_properties, files.download_node_file)


def ask(method: str, path: tuple[str, ...], headers: dict[str, str] | None = None, query: str = "") -> Request:
    """A request as a client would send it for the thing that ``path`` names."""
    request = Request(method, "/", f"api-version={VERSION}{query}", headers or {}, base="", request_id="page")
    request.path = path
    return request


async def listing(service: Service, job_id: str, task_id: str) -> list[dict[str, Any]]:
    """Name and size in bytes of a task's files; none when there is no folder (yet, or any more)."""
    try:
        response = await files.list_task_files(
            service, ask("GET", (job_id, task_id), query=f"&recursive=true&maxresults={FILES}")
        )
    except BatchError:
        return []
    found = orjson.loads(response.body)["value"]
    return [
        {"name": each["name"], "size": int(each["properties"]["contentLength"])}
        for each in found
        if not each["isDirectory"]
    ]


async def piece(service: Service, kind: Kind, place: tuple[str, str, str], start: int | None) -> tuple[bytes, int, int]:
    """(bytes, where they start, size of the file); without ``start`` the file's last ones. Raises BatchError.

    ``place`` is (job, task, file) or (pool, node, file).
    """
    properties, download = kind
    path = (place[0], place[1], quote(place[2]))
    described = dict(properties(service, ask("HEAD", path)).headers)
    size = int(described[b"content-length"])
    if start is None or not 0 <= start <= size:
        start = max(0, size - PIECE)
    if start == size:
        return b"", start, size
    response = download(service, ask("GET", path, {"ocp-range": f"bytes={start}-{start + PIECE - 1}"}))
    assert response.stream is not None
    content = b"".join([part async for part in response.stream])
    return content, start, size
