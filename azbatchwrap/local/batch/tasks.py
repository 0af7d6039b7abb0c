"""Operations on tasks. Answers are put together from the stored JSON without reading it, wherever they can be."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable
from typing import Any

import orjson

from azbatchwrap.local.batch import odata, wire
from azbatchwrap.local.batch.attempts import ENDED_BY_USER, FRESH
from azbatchwrap.local.batch.endings import job_may_be_over
from azbatchwrap.local.batch.errors import BatchError, bad_property, bad_query
from azbatchwrap.local.batch.exchange import Request, Response, created, done, tagged
from azbatchwrap.local.batch.lists import (
    expands_stats,
    page_answer,
    page_size,
    parse_filter,
    read_token,
    selected,
    selection,
)
from azbatchwrap.local.batch.model import (
    BLOCKED,
    COMPLETED,
    FAILED,
    READY,
    SUCCEEDED,
    TASK_STATES,
    Job,
    Node,
)
from azbatchwrap.local.batch.node import Usage, split_command_line
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import tasks as shapes
from azbatchwrap.local.batch.shapes.checks import UNLIMITED
from azbatchwrap.local.batch.statistics import of_task
from azbatchwrap.local.batch.task_table import COLUMNS

MAX_COLLECTION = 100
#: All task ids of one task's dependencies together, in characters.
MAX_DEPENDENCY_CHARACTERS = 64_000

_FRESH_JSON = orjson.dumps(FRESH)
_STATES_JSON = tuple(state.encode() for state in TASK_STATES)
#: Columns of a shown row, see task_table.SHOWN; the names without underscore are for other modules too.
(_SEQ, ID, _DISPLAY, _MODIFIED, _CREATED, STATE, _SINCE, _PREVIOUS, _PREVIOUS_SINCE, _BODY, NODE, _EXECUTION,
 _STARTED, _ENDED, _EXIT_CODE, _FAILED, _USAGE) = range(17)  # fmt: skip
Row = tuple[Any, ...]


def render(row: Row, job: Job, base: str, version: str) -> bytes:
    """The members of a task's JSON object, without the braces."""
    parts = [_head(row, job, base), row[_BODY][1:-1]]
    if version < "2020-09":
        parts[1] = re.sub(rb',"requiredSlots":\d+', b"", parts[1])
    parts.append(b'"executionInfo":' + (row[_EXECUTION] or _FRESH_JSON))
    if (node := row[NODE]) is not None:
        parts.append(b'"nodeInfo":' + _node_info(node, job, row[ID], base))
    return b",".join(parts)


def _head(row: Row, job: Job, base: str) -> bytes:
    display = ',"displayName":' + orjson.dumps(row[_DISPLAY]).decode() if row[_DISPLAY] is not None else ""
    previous = ""
    if row[_PREVIOUS] is not None:
        previous = (
            f',"previousState":"{TASK_STATES[row[_PREVIOUS]]}",'
            f'"previousStateTransitionTime":"{wire.format_ticks(row[_PREVIOUS_SINCE])}"'
        )
    return (
        f'"id":"{row[ID]}"{display},"url":"{base}/jobs/{job.id}/tasks/{row[ID]}",'
        f'"eTag":"0x{row[_MODIFIED]:X}","creationTime":"{wire.format_ticks(row[_CREATED])}",'
        f'"lastModified":"{wire.format_ticks(row[_MODIFIED])}","state":"{TASK_STATES[row[STATE]]}",'
        f'"stateTransitionTime":"{wire.format_ticks(row[_SINCE])}"{previous}'
    ).encode()


def _node_info(place: str, job: Job, task_id: str, base: str) -> bytes:
    pool_id, _, node_id = place.partition("/")
    if not node_id:
        return b"{}"
    url = f"{base}/pools/{pool_id}/nodes/{node_id}"
    root = "/".join(("workitems", *job.folder_parts, task_id))
    return (
        f'{{"affinityId":"TVM:{node_id}","nodeUrl":"{url}","poolId":"{pool_id}","nodeId":"{node_id}",'
        f'"taskRootDirectory":"{root}","taskRootDirectoryUrl":"{url}/files/{root}"}}'
    ).encode()


#: ``$select`` of these alone never touches the stored body. Each gives the whole member, or nothing.
_FRAGMENTS: dict[str, Any] = {
    "id": lambda row, _job, _base: b'"id":"%b"' % row[ID].encode(),
    "url": lambda row, job, base: f'"url":"{base}/jobs/{job.id}/tasks/{row[ID]}"'.encode(),
    "eTag": lambda row, _job, _base: b'"eTag":"0x%X"' % row[_MODIFIED],
    "creationTime": lambda row, _job, _base: f'"creationTime":"{wire.format_ticks(row[_CREATED])}"'.encode(),
    "lastModified": lambda row, _job, _base: f'"lastModified":"{wire.format_ticks(row[_MODIFIED])}"'.encode(),
    "state": lambda row, _job, _base: b'"state":"%b"' % _STATES_JSON[row[STATE]],
    "stateTransitionTime": lambda row, _job, _base: (
        f'"stateTransitionTime":"{wire.format_ticks(row[_SINCE])}"'.encode()
    ),
    "executionInfo": lambda row, _job, _base: b'"executionInfo":' + (row[_EXECUTION] or _FRESH_JSON),
    "nodeInfo": lambda row, job, base: (
        b'"nodeInfo":' + _node_info(row[NODE], job, row[ID], base) if row[NODE] is not None else b""
    ),
}


def _renderer(request: Request, job: Job) -> Any:
    """A function from a row to its JSON object, after the request's ``$select`` and ``$expand``."""
    wants_stats = expands_stats(request)
    text = selection(request, odata.properties.TASK)
    base, version = request.base, request.version

    def whole(row: Row) -> bytes:
        stats = b',"stats":' + _stats(row, job, base) if wants_stats else b""
        return b"{" + render(row, job, base, version) + stats + b"}"

    if not text:
        return whole
    names = {name.strip() for name in text.split(",")}
    if names <= _FRAGMENTS.keys():
        wanted = [fragment for name, fragment in _FRAGMENTS.items() if name in names]
        return lambda row: b"{" + b",".join(filter(None, [make(row, job, base) for make in wanted])) + b"}"

    return lambda row: orjson.dumps(odata.select(orjson.loads(whole(row)), text))


def _stats(row: Row, job: Job, base: str) -> bytes:
    usage = Usage(*orjson.loads(row[_USAGE])) if row[_USAGE] is not None else None
    url = f"{base}/jobs/{job.id}/tasks/{row[ID]}"
    return orjson.dumps(of_task(usage, row[_CREATED], row[_STARTED], url))


# --- adding -----------------------------------------------------------------------------------------------------


def check_command(spec: dict[str, Any] | None) -> None:
    """Raises InvalidPropertyValue for a command line that no node could run."""
    if spec is None:
        return
    try:
        split_command_line(spec["commandLine"])
    except ValueError as error:
        raise bad_property("commandLine", spec["commandLine"], f"The command line cannot be read: {error}.") from None


def _open_job(service: Service, request: Request) -> Job:
    """The job of a request that adds or changes tasks."""
    job = service.job(request.path[0])
    refusals = {"deleting": "JobBeingDeleted", "terminating": "JobBeingTerminated", "completed": "JobCompleted"}
    if job.life.state in refusals:
        raise BatchError(refusals[job.life.state])
    return job


def _row(job: Job, spec: dict[str, Any], now: int) -> tuple[Any, ...]:
    """A checked task as a row of the table. ``spec`` is used up."""
    constraints = spec.get("constraints")
    retention = None
    if constraints is None:
        spec["constraints"] = {
            "maxWallClockTime": UNLIMITED,
            "retentionTime": "P7D",
            "maxTaskRetryCount": job.max_retries,
        }
    else:
        constraints.setdefault("maxTaskRetryCount", job.max_retries)
        if constraints["retentionTime"] != "P7D":
            retention = wire.parse_duration(constraints["retentionTime"])
    slots = spec.pop("requiredSlots")
    spec["requiredSlots"] = slots  # last, as in the service's answers
    task_id = spec.pop("id")
    display = spec.pop("displayName", None)
    has_needs = "dependsOn" in spec
    number = int(task_id) if job.spec["usesTaskDependencies"] and task_id.isdecimal() and len(task_id) < 19 else None
    state = BLOCKED if has_needs else READY
    return (job.number, task_id, state, now, now, now, slots, retention, display, orjson.dumps(spec), 0, number)


def _check_against_job(job: Job, spec: dict[str, Any]) -> None:
    needs = spec.get("dependsOn")
    if needs is not None:
        if not job.spec["usesTaskDependencies"]:
            raise BatchError("TaskDependenciesNotSpecifiedOnJob")
        if sum(map(len, needs.get("taskIds", ()))) > MAX_DEPENDENCY_CHARACTERS:
            raise BatchError("TaskDependencyListTooLong")
    special = (job.preparation, job.release)
    if any(other is not None and other["id"].lower() == spec["id"].lower() for other in special):
        raise BatchError("TaskIdSameAsJobPreparationTask")
    check_command(spec)
    if "multiInstanceSettings" in spec and spec["requiredSlots"] != 1:
        raise bad_property("requiredSlots", spec["requiredSlots"], "A multi-instance task takes one slot a node.")


def _insert(service: Service, job: Job, specs: list[dict[str, Any]], now: int) -> None:
    """Store checked tasks whose ids are free, and wake the scheduler."""
    plain: list[tuple[Any, ...]] = []
    slots = [0, 0]
    numbers = [0, 0]
    for spec in specs:
        needs = spec.get("dependsOn")
        row = _row(job, spec, now)
        if row[7] is not None:
            job.retentions.add(row[7])
        state = row[2]
        if needs is None:
            plain.append(row)
        else:
            state = _insert_dependent(service, job, row, needs)
        numbers[state] += 1
        slots[state] += row[6]
    service.tasks.insert(plain)
    for state in (READY, BLOCKED):
        if numbers[state]:
            service.count(job, state, numbers[state], slots[state])
    service.scheduler.wake_job(job)


def _insert_dependent(service: Service, job: Job, row: tuple[Any, ...], needs: dict[str, Any]) -> int:
    service.tasks.insert([row])
    found = service.store.read("SELECT seq FROM tasks WHERE job = ? AND id = ?", (job.number, row[1])).fetchone()
    ranges = [(each["start"], each["end"]) for each in needs.get("taskIdRanges", ())]
    unmet = service.tasks.require(job.number, found[0], needs.get("taskIds", ()), ranges)
    state = BLOCKED if unmet else READY
    service.store.write("UPDATE tasks SET unmet = ?, state = ? WHERE seq = ?", (unmet, state, found[0]))
    return state


def add_manager(service: Service, job: Job, manager: dict[str, Any]) -> None:
    """The job manager task, as the job's first task."""
    spec = {
        name: value
        for name, value in manager.items()
        if name not in {"killJobOnCompletion", "runExclusive", "allowLowPriorityNode"}
    }
    spec["constraints"] = dict(spec["constraints"])
    _insert(service, job, [spec], wire.now())


def create(service: Service, request: Request) -> Response:
    job = _open_job(service, request)
    spec = request.read(shapes.TASK)
    _check_against_job(job, spec)
    task_id = spec["id"]
    if service.tasks.existing(job.number, [task_id]):
        raise BatchError("TaskExists")
    now = wire.now()
    _insert(service, job, [spec], now)
    return created(now, f"{request.base}/jobs/{job.id}/tasks/{task_id}")


def create_collection(service: Service, request: Request) -> Response:
    """Up to 100 tasks; each gets its own result, and one that is refused leaves the others alone."""
    job = _open_job(service, request)
    items = request.read(shapes.TASK_COLLECTION)["value"]
    if not isinstance(items, list) or not items:
        raise bad_property("value", items, "The value must be a list of tasks.")
    if len(items) > MAX_COLLECTION:
        raise bad_property("value", len(items), f"At most {MAX_COLLECTION} tasks can be added in one request.")
    ids = [item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
    taken = service.tasks.existing(job.number, ids)
    now = wire.now()
    results: list[dict[str, Any]] = []
    specs: list[dict[str, Any]] = []
    stamp = {"eTag": wire.etag(now), "lastModified": wire.format_ticks(now)}
    place = f"{request.base}/jobs/{job.id}/tasks/"
    for item in items:
        try:
            spec = _checked(job, item, taken)
        except BatchError as error:
            results.append(_refused(request, item, error))
            continue
        task_id = spec["id"]
        taken.add(task_id.lower())
        specs.append(spec)
        results.append({"status": "Success", "taskId": task_id, **stamp, "location": place + task_id})
    if specs:
        _insert(service, job, specs, now)
    return Response(200, orjson.dumps({"odata.metadata": f"{request.base}/$metadata#taskaddresult", "value": results}))


def _checked(job: Job, item: Any, taken: set[str]) -> dict[str, Any]:
    """One task of a collection. Raises BatchError."""
    spec = shapes.TASK.read(item)
    _check_against_job(job, spec)
    if spec["id"].lower() in taken:
        raise BatchError("TaskExists")
    return spec


def _refused(request: Request, item: Any, error: BatchError) -> dict[str, Any]:
    answer = orjson.loads(error.body(request.base, request.request_id))
    answer.pop("odata.metadata")
    task_id = item.get("id") if isinstance(item, dict) else None
    # Lower case: azure-batch 15 compares the word with its own, letter by letter.
    return {"status": "clienterror", "taskId": task_id if isinstance(task_id, str) else "", "error": answer}


# --- reading ----------------------------------------------------------------------------------------------------


def _found(service: Service, request: Request) -> tuple[Job, Row]:
    job = service.job(request.path[0])
    row = service.tasks.shown(job.number, request.path[1])
    if row is None:
        raise BatchError("TaskNotFound")
    return job, row


def find(service: Service, request: Request) -> Response:
    job, row = _found(service, request)
    modified = row[_MODIFIED]
    request.check_conditions(modified)
    body = _renderer(request, job)(row)
    metadata = b'{"odata.metadata":"%b/$metadata#tasks/@Element",' % request.base.encode()
    return Response(200, metadata + body[1:] if body != b"{}" else metadata[:-1] + b"}", tagged(modified))


#: A filter that pins the state and is a chain of ``and`` can use the index on states.
_PINNED_STATE = re.compile(r"\bstate\s+eq\s+'(\w+)'", re.IGNORECASE)
_NOT_A_CHAIN = re.compile(r"\b(or|not)\b", re.IGNORECASE)
_BOUNDED = re.compile(r"\bstateTransitionTime\s+g[et]\b", re.IGNORECASE)
_PIN = {"active": "state IN (0, 1)", "preparing": "state = 2", "running": "state = 3", "completed": "state = 4"}


def list_all(service: Service, request: Request) -> Response:
    """Tasks by id; with a lower bound of stateTransitionTime in order of time, so that the index serves it."""
    job = service.job(request.path[0])
    size = page_size(request)
    wanted = parse_filter(request, odata.TASKS)
    translated = wanted.sql(COLUMNS) if wanted is not None else None
    pinned = _pinned(wanted.text) if wanted is not None else None
    by_time = pinned is not None and translated is not None and _BOUNDED.search(wanted.text if wanted else "")
    where, parameters = ["job = ?"], [job.number]
    if pinned is not None:
        where.append(pinned)
    if translated is not None:
        where.append(translated[0])
        parameters.extend(translated[1])
    token = read_token(request)
    _continue_after(where, parameters, token, by_time=bool(by_time))
    make = _renderer(request, job)
    order = "since, seq" if by_time else _order(job, wanted, size)
    if wanted is not None and translated is None:
        return _scan(service, request, job, (wanted, where, parameters))
    rows = service.tasks.page(" AND ".join(where), parameters, order, size + 1)
    more = _token(rows[size - 1], by_time=bool(by_time)) if len(rows) > size else None
    return page_answer(request, "tasks", map(make, rows[:size]), more)


def _pinned(text: str) -> str | None:
    if _NOT_A_CHAIN.search(re.sub(r"'[^']*'", "''", text)):
        return None
    found = _PINNED_STATE.search(text)
    return _PIN.get(found.group(1).lower()) if found else None


def _order(job: Job, wanted: odata.Filter | None, size: int) -> str:
    """By id: along the index of ids, or sorting what the index of states gives, whichever reads fewer rows.

    ``+id`` keeps SQLite from using the former.
    """
    found = _PINNED_STATE.search(wanted.text) if wanted is not None and _pinned(wanted.text) else None
    if found is None:
        return "id"
    numbers = [index for index, state in enumerate((*TASK_STATES, "completed")) if state == found.group(1).lower()]
    matching, total = sum(job.counts[index] for index in numbers), sum(job.counts)
    return "+id" if matching * matching <= size * total else "id"


def _continue_after(where: list[str], parameters: list[Any], token: Any, *, by_time: bool) -> None:
    if token is None:
        return
    if by_time and isinstance(token, list) and len(token) == 2 and all(isinstance(part, int) for part in token):
        where.append("(since, seq) > (?, ?)")
        parameters.extend(token)
    elif not by_time and isinstance(token, str):
        where.append("id > ?")
        parameters.append(token)
    else:
        raise bad_query("$skiptoken", str(token), "The token belongs to another list.")


def _token(row: Row, *, by_time: bool) -> Any:
    return [row[_SINCE], row[_SEQ]] if by_time else row[ID]


def _scan(service: Service, request: Request, job: Job, query: tuple[odata.Filter, list[str], list[Any]]) -> Response:
    """A filter that SQL cannot express: read on until the page is full."""
    wanted, where, parameters = query
    size = page_size(request)
    make = _renderer(request, job)
    kept: list[Row] = []
    after: list[Any] = []
    clause = ""
    while True:
        rows = service.tasks.page(" AND ".join(where) + clause, [*parameters, *after], "id", size)
        for row in rows:
            shown = orjson.loads(b"{" + render(row, job, request.base, request.version) + b"}")
            if wanted.matches(shown):
                if len(kept) == size:
                    return page_answer(request, "tasks", map(make, kept), kept[-1][ID])
                kept.append(row)
        if len(rows) < size:
            return page_answer(request, "tasks", map(make, kept))
        clause, after = " AND id > ?", [rows[-1][ID]]


# --- changing ---------------------------------------------------------------------------------------------------


def replace(service: Service, request: Request) -> Response:
    """PUT: only constraints can change; left out they return to their defaults."""
    job, row = _found(service, request)
    request.check_conditions(row[_MODIFIED])
    changes = request.read(shapes.TASK_UPDATE)
    if row[STATE] == COMPLETED:
        raise BatchError("TaskCompleted")
    body = orjson.loads(row[_BODY])
    constraints = changes.get("constraints") or {"maxWallClockTime": UNLIMITED, "retentionTime": "P7D"}
    constraints.setdefault("maxTaskRetryCount", job.max_retries)
    body["constraints"] = constraints
    retention = wire.parse_duration(constraints["retentionTime"])
    job.retentions.add(retention)
    modified = wire.now()
    service.store.write(
        "UPDATE tasks SET body = ?, modified = ?, retention = ? WHERE seq = ?",
        (orjson.dumps(body), modified, retention, row[_SEQ]),
    )
    service.scheduler.forget(job)
    run = job.runs.get(row[_SEQ])
    if run is not None:
        run.spec["constraints"] = constraints
    return done(request, 200, modified)


async def terminate(service: Service, request: Request) -> Response:
    job, row = _found(service, request)
    request.check_conditions(row[_MODIFIED])
    if row[STATE] == COMPLETED:
        raise BatchError("TaskCompleted")
    modified = wire.now()
    service.store.write("UPDATE tasks SET modified = ? WHERE seq = ?", (modified, row[_SEQ]))
    run = job.runs.get(row[_SEQ])
    if run is not None:
        service.scheduler.stop(run, "terminate")
        await service.settle(run.work)
        return done(request, 204, modified)
    slots = orjson.loads(row[_BODY])["requiredSlots"]
    execution = orjson.loads(row[_EXECUTION]) if row[_EXECUTION] else FRESH
    packed = orjson.dumps(
        {"endTime": wire.format_ticks(modified), "failureInfo": ENDED_BY_USER, "result": "failure", **execution}
    )
    service.tasks.ended(row[_SEQ], modified, packed, None, failed=True, satisfied=False, started=None)
    service.count(job, row[STATE], -1, -slots)
    service.count(job, FAILED, 1, slots)
    service.statistics.ended(job, failed=True)
    service.scheduler.forget(job)
    job_may_be_over(service, job)
    return done(request, 204, modified)


async def delete(service: Service, request: Request) -> Response:
    """The task, its files, and what it waited for; tasks that depend on it wait for ever."""
    job, row = _found(service, request)
    request.check_conditions(row[_MODIFIED])
    run = job.runs.get(row[_SEQ])
    folders = [job.folder(node) / row[ID] for node in _nodes_of(service, row)]
    if run is not None:
        service.scheduler.stop(run, "delete")
        if run.work is not None:
            await asyncio.wait({run.work})
    else:
        state = row[STATE] if row[STATE] < COMPLETED else (FAILED if row[_FAILED] else SUCCEEDED)
        service.count(job, state, -1, -orjson.loads(row[_BODY])["requiredSlots"])
        service.tasks.delete(row[_SEQ])
        service.scheduler.forget(job)
    if folders:
        await asyncio.to_thread(_remove, folders)
    job_may_be_over(service, job)
    return Response(200)


def _nodes_of(service: Service, row: Row) -> list[Node]:
    pool_id, _, node_id = (row[NODE] or "").partition("/")
    pool = service.pools.get(pool_id.lower())
    node = pool.nodes.get(node_id) if pool is not None else None
    return [node] if node is not None else []


def _remove(folders: Iterable[Any]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def reactivate(service: Service, request: Request) -> Response:
    """A failed task runs again with fresh counts; one that succeeded or whose job is over does not."""
    job, row = _found(service, request)
    request.check_conditions(row[_MODIFIED])
    if job.life.state in {"completed", "terminating", "deleting"}:
        raise BatchError("OperationInvalidForCurrentState", [("Reason", "The task's job is over.")])
    if row[STATE] != COMPLETED:
        raise BatchError("TaskNotCompleted")
    if not row[_FAILED]:
        raise BatchError("TaskSucceeded")
    slots = orjson.loads(row[_BODY])["requiredSlots"]
    modified = wire.now()
    service.tasks.again(row[_SEQ], modified, None)
    service.store.write("UPDATE tasks SET modified = ? WHERE seq = ?", (modified, row[_SEQ]))
    service.count(job, FAILED, -1, -slots)
    service.count(job, READY, 1, slots)
    service.scheduler.forget(job)
    service.scheduler.wake_job(job)
    return done(request, 204, modified)


def list_subtasks(service: Service, request: Request) -> Response:
    """The subtasks of a multi-instance task; the primary is not among them."""
    job, row = _found(service, request)
    found = service.store.read("SELECT body FROM subtasks WHERE task = ? ORDER BY number", (row[_SEQ],)).fetchall()
    shown = []
    for (body,) in found:
        subtask = orjson.loads(body)
        subtask["nodeInfo"] = orjson.loads(_node_info(subtask.pop("node"), job, row[ID], request.base))
        shown.append(orjson.dumps(selected(request, subtask, odata.properties.SUBTASK)))
    return page_answer(request, "subtaskinfo", shown)
