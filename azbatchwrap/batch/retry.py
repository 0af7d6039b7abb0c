"""Failed tasks of a job, as records that can be submitted again: read back from what the service keeps of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from azbatchwrap import names
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.manifest import TaskRecord

from .access import AccessKind
from .service import Json, Service, at
from .tasks import ARGS_FILE, submission_index

if TYPE_CHECKING:
    from .manager import AzureBatch


class BlobReader(Protocol):
    """What is needed of storage, for arguments that were too long to travel with their task."""

    def read_json(self, container: str, blob: str) -> Any: ...


def retry_failed(batch: AzureBatch, job_id: str, *, pool_id: str | None = None) -> str | None:
    """Submit a job's failed tasks again, as a new job with the same files; its id, or ``None`` when none failed.

    ``pool_id`` is another pool than the job's own. Raises NotFound when the job, its pool or its files are gone.
    """
    records = failed_records(batch.service, batch.storage, job_id)
    if not records:
        return None
    batch.use_files_of_job(job_id, pool_id=pool_id)
    facts = batch.jobs.facts(job_id)
    access: AccessKind | None = "identity" if facts.identity else None
    again = batch.create_a_job(output_container=facts.output_container, access=access)
    batch.add_tasks_to_job(again, records)
    batch.seal_job(again)
    return again


def failed_records(service: Service, blobs: BlobReader, job_id: str) -> list[TaskRecord]:
    """The tasks of a job that ended badly, or were ended, in submission order and under their own ids.

    A dependency on a task that succeeded is fulfilled and therefore dropped. Raises NotFound for an unknown job,
    ConfigurationError for a task that was not submitted by azbatchwrap.
    """
    tasks = sorted(
        _failed(service, job_id), key=lambda task: submission_index(task["id"], task.get("displayName")) or 0
    )
    again = {task["id"] for task in tasks}
    records = (_record(blobs, task, again) for task in tasks)
    return [replace(record, index=index) for index, record in enumerate(records)]


def _failed(service: Service, job_id: str) -> Iterator[Json]:
    path = at("jobs", job_id, "tasks")
    yield from service.list(path, filter="state eq 'completed' and executionInfo/result eq 'failure'")
    if service.get(at("jobs", job_id), select=("id", "state"))["state"] == "completed":
        yield from service.list(path, filter="state ne 'completed'")  # the job ended before they could run


def _record(blobs: BlobReader, task: Json, again: set[str]) -> TaskRecord:
    settings = {item["name"]: item.get("value") or "" for item in task.get("environmentSettings") or ()}
    if names.TASK_VARIABLE not in settings:
        raise ConfigurationError(f"task {task['id']} was not submitted by azbatchwrap: it cannot be submitted again")
    call: Mapping[str, Any] = json.loads(settings[names.TASK_VARIABLE])
    inputs = call.get("inputs")
    return TaskRecord(
        index=0,
        id=task["id"],
        module=call["module"],
        args=tuple(_args(blobs, task, settings.get(names.ARGS_VARIABLE, "[]"))),
        chain=call.get("chain", True),
        inputs=None if inputs is None else tuple(inputs),
        retries=call.get("retries", 0),
        timeout=call.get("timeout"),
        slots=task.get("requiredSlots", 1),
        depends_on=tuple(name for name in (task.get("dependsOn") or {}).get("taskIds") or () if name in again),
    )


def _args(blobs: BlobReader, task: Json, text: str) -> list[Any]:
    if text != f"@{ARGS_FILE}":
        return list(json.loads(text))
    url = next(file["httpUrl"] for file in task.get("resourceFiles") or () if file.get("filePath") == ARGS_FILE)
    # Its signature may be over by now, and our own credential reads it anyway: only the blob's place is taken from it.
    container, _, blob = unquote(urlsplit(url).path).rpartition("/args/")
    return list(blobs.read_json(container.rpartition("/")[2], f"args/{blob}"))
