"""Task records as the wire wants them: bytes built once from what a job's tasks share and what is each one's own."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import orjson

from azbatchwrap import names
from azbatchwrap.errors import ManifestError
from azbatchwrap.manifest import TaskRecord

from .access import identity_reference
from .node_setup import Container

#: Arguments longer than this (bytes of JSON) travel as a blob: a node's environment is not for data.
LONGEST_ARGS = 16 * 1024
#: Where a task finds arguments that did not fit, in its working folder.
ARGS_FILE = "args.json"
#: Seconds that the service's own limit lies behind the engine's, which ends the step and still records it.
LIMIT_GRACE = 600.0
#: Ids that we choose. Their number is the submission index plus one.
CHOSEN_ID = re.compile(r"task-(\d{6,})\Z")
#: `displayName` of a task with an id of the user's: keeps the submission index where a list shows it.
NUMBERED_NAME = re.compile(r"#(\d+) ")

#: Preparation and tasks share one user, or the tasks could not read what was laid out.
AUTO_USER = {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}

_PATH = b"\0path\0"


def chosen_id(index: int) -> str:
    """The id of the task at ``index`` (from 0) of its job: ``task-000001``, sorting by number up to a million."""
    return f"task-{index + 1:06d}"


def submission_index(task_id: str, display_name: str | None) -> int | None:
    """The place of a task in its job's submission order, or ``None`` for a task that is not ours."""
    if match := NUMBERED_NAME.match(display_name or ""):
        return int(match[1])
    if match := CHOSEN_ID.match(task_id):
        return int(match[1]) - 1
    return None


def engine_folder(deployment: str) -> str:
    """Where the preparation task laid out a deployment, in a shell's words."""
    return f"$AZ_BATCH_NODE_SHARED_DIR/{names.NODE_FOLDER}/{deployment}"


def engine_command(deployment: str) -> str:
    """The command line that starts the engine on a task. It names its shell: Azure uses none."""
    return f"""/bin/sh -c '. "{engine_folder(deployment)}/run"'"""


def output_files(container_url: str, path: str, *, identity: str = "", empty_logs: bool = True) -> list[dict[str, Any]]:
    """What the service uploads when a task ends, well or not, below ``path`` of the output container.

    ``identity`` is the one of the pool that opens the container, when its address is not signed.
    Without ``empty_logs`` the streams of a task that ended well go along only where the engine found something written.
    """
    logs: tuple[tuple[str, str, str], ...] = (("../std*.txt", path, "taskcompletion"),)
    if not empty_logs:
        logs = (("../std*.txt", path, "taskfailure"), (f"{names.LOGS_FOLDER}/std*.txt", path, "tasksuccess"))
    places = (
        *logs,
        (names.RESULT_FILE, f"{path}/{names.RESULT_FILE}", "taskcompletion"),
        (f"{names.OUTPUT_FOLDER}/**/*", path, "taskcompletion"),
    )
    return [
        {
            "filePattern": pattern,
            "destination": {
                "container": {"containerUrl": container_url, "path": place, **identity_reference(identity)}
            },
            "uploadOptions": {"uploadCondition": condition},
        }
        for pattern, place, condition in places
    ]


def in_container(container: Container | None) -> dict[str, Any]:
    """What a task says that runs in a container."""
    return {} if container is None else {"containerSettings": container.wire()}


def iso_duration(seconds: float) -> str:
    """``seconds`` as the ISO 8601 duration that Azure Batch takes."""
    return f"PT{seconds:.3f}".rstrip("0").rstrip(".") + "S"


class TaskWriter:
    """Writes the tasks of one job as the bytes of an add-task request.

    ``store_args`` is given arguments that are too long to travel with the task (bytes of JSON) and returns them as a
    file of the task. ``identity`` opens the output container, when its address is not signed. ``settings`` are further environment settings, the same for each task.
    """

    def __init__(
        self,
        job_id: str,
        deployment: str,
        output_url: str,
        *,
        store_args: Callable[[bytes], dict[str, Any]] | None = None,
        identity: str = "",
        settings: Mapping[str, str] | None = None,
        container: Container | None = None,
    ) -> None:
        self._job = job_id
        self._further = b"".join(b"," + _setting(name, value) for name, value in (settings or {}).items())
        self._store_args = store_args
        shared = {
            "commandLine": engine_command(deployment),
            "userIdentity": AUTO_USER,
            "outputFiles": output_files(output_url, "PATH", identity=identity),
            **in_container(container),
        }
        # Ids have no character that JSON escapes, so a task's own path is set between ready pieces.
        pieces = orjson.dumps(shared)[1:].replace(b'"path":"PATH', b'"path":"' + _PATH).split(_PATH)
        self._shared = tuple(pieces)
        # Most tasks of a job are called alike.
        self._call = functools.lru_cache(maxsize=1024)(_call)

    def write(self, record: TaskRecord, task_id: str) -> bytes:
        """The JSON of one task."""
        args, resource_files = self._args(record)
        path = names.task_output_prefix(self._job, task_id).encode()
        head: dict[str, Any] = {"id": task_id}
        if record.id is not None:
            head["displayName"] = f"#{record.index} {record.module}"[:1024]
        if record.slots != 1:
            head["requiredSlots"] = record.slots
        if record.depends_on:
            head["dependsOn"] = {"taskIds": list(record.depends_on)}
        if resource_files:
            head["resourceFiles"] = resource_files
        constraints, call = self._call(record.module, record.chain, record.retries, record.timeout, record.inputs)
        return b'%s,"constraints":%s,"environmentSettings":[%s,%s,%s%s],%s' % (
            orjson.dumps(head)[:-1],
            constraints,
            call,
            _setting(names.ARGS_VARIABLE, args),
            _setting(names.INDEX_VARIABLE, str(record.index)),
            self._further,
            path.join(self._shared),
        )

    def _args(self, record: TaskRecord) -> tuple[str, list[dict[str, Any]]]:
        text = ascii_json(record.args)
        if len(text) <= LONGEST_ARGS:
            return text, []
        if self._store_args is None:
            raise ManifestError(f"the input of task {record.index} is longer than {LONGEST_ARGS} bytes of JSON")
        return f"@{ARGS_FILE}", [self._store_args(text.encode())]


def ascii_json(value: Any) -> str:
    """``value`` as JSON of ASCII characters alone: what an environment setting carries everywhere unharmed."""
    try:
        fast = orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(value, separators=(",", ":"))
    return fast.decode() if fast.isascii() else json.dumps(value, separators=(",", ":"))


class TaskIds(Sequence[str]):
    """The ids of the tasks just added, in submission order. A million chosen ids take no memory."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._count = 0
        self._own: dict[int, str] = {}

    def add(self, record: TaskRecord) -> str:
        """The id of the next task: its own or a chosen one."""
        task_id = chosen_id(record.index) if record.id is None else record.id
        if record.id is not None:
            self._own[self._count] = task_id
        self._count += 1
        return task_id

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        places = range(self._count)[place]
        if isinstance(places, range):
            return [self[at] for at in places]
        return self._own.get(places) or chosen_id(self._first + places)

    def __repr__(self) -> str:
        return f"TaskIds({self._count} from {self[0]} to {self[-1]})" if self._count else "TaskIds(none)"


def ready_tasks(
    records: Iterable[TaskRecord], first: int, ids: TaskIds, writer: TaskWriter
) -> Iterator[tuple[str, bytes]]:
    """Each record's id and JSON, as they are asked for. ``first`` is the index in the job of the first of them."""
    for record in records:
        placed = replace(record, index=first + record.index) if first else record
        task_id = ids.add(placed)
        yield task_id, writer.write(placed, task_id)


def _setting(name: str, value: str) -> bytes:
    return b'{"name":"%s","value":%s}' % (name.encode(), orjson.dumps(value))


def _call(
    module: str, chain: bool, retries: int, timeout: float | None, inputs: tuple[str, ...] | None
) -> tuple[bytes, bytes]:
    """Constraints and calling settings: what the engine does is in the second, the service only stands behind it."""
    constraints: dict[str, Any] = {"maxTaskRetryCount": 0}
    if timeout is not None:
        constraints["maxWallClockTime"] = iso_duration(timeout + LIMIT_GRACE)
    call = {"module": module, "chain": chain, "whole": False, "retries": retries, "timeout": timeout, "inputs": inputs}
    return orjson.dumps(constraints), _setting(names.TASK_VARIABLE, ascii_json(call))
