"""A task's files as they are written: from its node while it runs, from the output container once the node is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from azbatchwrap import names
from azbatchwrap.errors import Conflict, NotFound, ServiceError

from .service import Service, at

#: Bytes asked for at once, and seconds between two looks at a file that is followed.
PIECE = 1024 * 1024
INTERVAL = 1.0


class OutputReader(Protocol):
    """What is needed of the output container."""

    def read_bytes(self, container: str, blob: str) -> bytes: ...


def read_log(service: Service, job_id: str, task_id: str, name: str = names.STDOUT_FILE) -> Iterator[bytes]:
    """The bytes of one of a task's files as far as it is written. Raises NotFound when the node has no such file."""
    yield from _pieces(service, job_id, task_id, name, 0)


def follow_log(
    service: Service,
    job_id: str,
    task_id: str,
    name: str = names.STDOUT_FILE,
    *,
    interval: float = INTERVAL,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """As `read_log`, and goes on as the file grows until the task has ended; waits for a task that has not started.

    Raises NotFound when there is no such task.
    """
    position = 0
    while True:
        # Asked before reading: what a task writes before it ends is in the file by the time it has ended.
        over = service.get(at("jobs", job_id, "tasks", task_id), select=("id", "state"))["state"] == "completed"
        try:
            for piece in _pieces(service, job_id, task_id, name, position):
                position += len(piece)
                yield piece
        except (NotFound, Conflict):
            if over:
                raise
        if over:
            return
        sleep(interval)


def kept_log(blobs: OutputReader, container: str, job_id: str, task_id: str, name: str) -> bytes:
    """The file as it was brought to the output container. Raises NotFound."""
    return blobs.read_bytes(container, f"{names.task_output_prefix(job_id, task_id)}/{name}")


def _pieces(service: Service, job_id: str, task_id: str, name: str, position: int) -> Iterator[bytes]:
    path = at("jobs", job_id, "tasks", task_id, "files", *name.split("/"))
    accept = {"Accept": "application/octet-stream"}
    length = int(service.request("HEAD", path, headers=accept).headers.get("Content-Length", "0"))
    while position < length:
        end = min(position + PIECE, length) - 1
        wanted = {**accept, "ocp-range": f"bytes={position}-{end}"}
        piece = service.request("GET", path, headers=wanted).content
        if not piece:
            raise ServiceError(f"{path}: the service gave nothing of bytes {position} to {end}", code="BrokenAnswer")
        position += len(piece)
        yield piece
