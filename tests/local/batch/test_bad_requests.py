"""Every operation with bodies, names and queries that nobody should send: refused in the service's shape, never a 500."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from azure.batch import BatchClient, models

from azbatchwrap.local.batch.app import MAX_BODY
from azbatchwrap.local.batch.routes import FORMER_OPERATIONS, OPERATIONS
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.local.batch.test_every_property import FILLER, POOL
from tests.local.batch.test_protocol import VERSION, Raw, code_of, now

BODIES: tuple[Any, ...] = (
    None,
    b"{",
    b"\xff\xfe",
    b"null",
    b"[1, 2]",
    b"7",
    {},
    {"unknown": {"deep": [None]}},
    {"id": None, "poolInfo": 3, "vmSize": [], "value": {"a": 1}, "nodeList": "x", "name": 5},
    {"id": "x" * 65, "commandLine": 1e300, "constraints": [], "schedule": "daily"},
    {"id": "fine", "commandLine": "/bin/true", "dependsOn": {"taskIdRanges": [{"start": 5, "end": 1}]}},
    {"value": [None, 7, {}, {"id": "a"}, {"id": "ü", "commandLine": ""}]},
    {"targetDedicatedNodes": -1, "autoScaleFormula": "$TargetDedicatedNodes=", "disableTasks": "never"},
    {"targetDedicatedNodes": 10**30},
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
)
NAMES = ("missing", "a%20b", "%2e%2e", "%00", "x" * 300, "%ff%fe", "ünï".encode().hex(), "'--", "%F0%9F%92%A5")
QUERIES = (
    "$filter=((((",
    "$filter=" + "not%20" * 50 + "id%20eq%20'a'",
    "$select=,,,",
    "$select=id/id/id",
    "$skiptoken=WATV2:bm90IGpzb24=",
    "$skiptoken=WATV2:eyJhIjoxfQ==",
    "maxresults=99999999999999999999",
    "recursive=maybe",
    "$expand=stats,stats",
    "timeout=banana&timeOut=1",
)

#: In place of each value of a whole body.
WRONG: tuple[Any, ...] = (
    None, 5, -1, 2**31, 2**63, 10**400, 1.5, float("nan"), True, "", "x" * 5000, "\0", "ü💥", "-", "P", "P-1D", "PT", [],
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-02-30", [None], [[]], {},
    {"a": 1}, ["a"] * 2000,
)  # fmt: skip
#: What the service documents conditional headers for.
CONDITIONAL = (
    *("delete_pool", "pool_exists", "get_pool", "update_pool", "enable_pool_auto_scale", "resize_pool"),
    *("stop_pool_resize", "remove_nodes", "delete_job", "get_job", "update_job", "replace_job", "disable_job"),
    *("enable_job", "terminate_job", "job_schedule_exists", "delete_job_schedule", "get_job_schedule"),
    *("update_job_schedule", "replace_job_schedule", "disable_job_schedule", "enable_job_schedule"),
    *("terminate_job_schedule", "delete_task", "get_task", "replace_task", "terminate_task", "reactivate_task"),
)


@pytest.fixture
def raw(shared_batch_service: Any) -> Raw:
    return Raw(shared_batch_service)


def is_proper(answer: tuple[int, dict[str, str], Any], verb: str) -> bool:
    """A success, or a refusal in the service's shape."""
    status, headers, body = answer
    if status < 400:
        return True
    shaped = verb == "HEAD" or (isinstance(body, dict) and {"code", "message", "odata.metadata"} <= body.keys())
    return status != 500 and shaped and "request-id" in headers and "Traceback" not in str(body)


@pytest.fixture
def places(client: BatchClient) -> dict[str, list[str]]:
    """Ids that exist, for addresses below /pools, /jobs and /jobschedules."""
    pool_id = add_pool(client)
    job_id = add_job(client, pool_id)
    task_id = add_task(client, job_id)
    completed(client, job_id, task_id)
    (node,) = client.list_nodes(pool_id)
    return {
        "pools": [pool_id, node.id, "guest"],
        "jobs": [job_id, task_id],
        "jobschedules": ["s"],
        "applications": ["a"],
    }


def address(template: str, names: list[str]) -> str:
    path = template.replace("{*}", "wd/none.txt")
    for name in names:
        path = path.replace("{}", name, 1)
    return path.replace("{}", "more")


def test_odd_bodies(raw: Raw, places: dict[str, list[str]]) -> None:
    odd = []
    harmless = [operation for operation in OPERATIONS if operation[1] in {"POST", "PUT", "PATCH"}]
    for name, verb, template, _handler in harmless:
        for body in BODIES:
            path = address(template, places.get(template.split("/")[1], []))
            answer = raw(verb, f"{path}?{VERSION}", body)
            if not is_proper(answer, verb):
                odd.append((name, body, answer[0], answer[2]))
    assert odd == []


def test_odd_names(raw: Raw) -> None:
    odd = []
    for name, verb, template, _handler in OPERATIONS:
        if "{" not in template:
            continue
        for word in NAMES:
            path = address(template.replace("{*}", word), [word] * 3)
            answer = raw(verb, f"{path}?{VERSION}", {} if verb in {"POST", "PUT", "PATCH"} else None)
            if not is_proper(answer, verb) or answer[0] < 400:
                odd.append((name, word, answer[0], answer[2]))
    assert odd == []


def test_odd_queries(raw: Raw, places: dict[str, list[str]]) -> None:
    odd = []
    for name, verb, template, _handler in OPERATIONS:
        if verb != "GET":
            continue
        for query in QUERIES:
            path = address(template, places.get(template.split("/")[1], []))
            answer = raw(verb, f"{path}?{VERSION}&{query}")
            if not is_proper(answer, verb):
                odd.append((name, query, answer[0], answer[2]))
    assert odd == []


@pytest.mark.parametrize("operation", [*OPERATIONS, *FORMER_OPERATIONS], ids=lambda operation: operation[0])
def test_nobody_gets_in_without_a_key(raw: Raw, operation: tuple[str, str, str, Any]) -> None:
    _, verb, template, _ = operation
    path = f"{address(template, [])}?{VERSION}"
    ways: tuple[dict[str, Any], ...] = (
        {"authorization": None},
        {"authorization": "SharedKey"},
        {"authorization": f"SharedKeyLite {raw.service.account}:AAAA"},
        {"key": base64.b64encode(b"another").decode()},
        {"date": now() - dt.timedelta(minutes=16)},
        {"date": now() + dt.timedelta(minutes=16)},
    )
    for way in ways:
        status, headers, body = raw(verb, path, **way)
        assert status == 403, way
        assert "request-id" in headers
        assert verb == "HEAD" or body["code"] == "AuthenticationFailed"


def test_versions_that_nobody_knows(raw: Raw) -> None:
    for name, verb, template, _handler in OPERATIONS:
        path = address(template, [])
        for version, code in (("2031-01-01", "Unsupported"), ("x" * 9000, "Unsupported"), ("", "Missing")):
            status, _, body = raw(verb, f"{path}?api-version={version}")
            assert status == 400, name
            assert verb == "HEAD" or body["code"].startswith(code)


def test_bodies_that_are_too_large(raw: Raw) -> None:
    for name, verb, template, _handler in OPERATIONS:
        if verb in {"POST", "PUT", "PATCH"}:
            answer = raw(verb, f"{address(template, [])}?{VERSION}", b" " * (MAX_BODY + 1))
            assert code_of(answer) == (413, "RequestBodyTooLarge"), name
            assert answer[2]["values"] == [{"key": "MaxLimit", "value": str(MAX_BODY)}]


def test_conditions_that_are_not_met_or_contradict_each_other(raw: Raw, places: dict[str, list[str]]) -> None:
    body = {"id": "odd", "schedule": {"doNotRunUntil": "2040-01-01T00:00:00Z"}, "jobSpecification": {"poolInfo": POOL}}
    places["jobschedules"] = ["conditional"]
    raw("POST", f"/jobschedules?{VERSION}", body | {"id": "conditional"})
    for name, verb, template, _handler in OPERATIONS:
        if name in CONDITIONAL:
            path = f"{address(template, places[template.split('/')[1]])}?{VERSION}"
            data = {} if verb in {"POST", "PUT", "PATCH"} else None
            past = "Mon, 01 Jan 2001 00:00:00 GMT"
            for headers in ({"If-Match": "0x1"}, {"If-Unmodified-Since": past}):
                assert raw(verb, path, data, headers)[0] == 412, (name, headers)
            status, _, shown = raw(verb, path, data, {"If-Match": "0x1", "If-None-Match": "0x1"})
            assert status == 400, name
            assert verb == "HEAD" or shown["code"] == "MultipleConditionHeadersNotSupported"
            assert raw(verb, path, data, {"If-Modified-Since": "yesterday"})[0] == 400, name


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a body."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _leaves(each, (*place, name))


def _with(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = holder = copy.deepcopy(body)
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return changed


def test_wrong_values_anywhere_in_a_whole_body(raw: Raw, client: BatchClient) -> None:
    """Every value of every property gives way to two wrong ones; the bodies' ids exist, so that nothing is made."""
    pool_id, job_id, schedule_id = add_pool(client, nodes=0), add_job(client, "p", uses_task_dependencies=True), "wrong"
    add_task(client, job_id, id="there")
    later = {"doNotRunUntil": "2040-01-01T00:00:00Z", "doNotRunAfter": "2041-01-01T00:00:00Z", "startWindow": "PT1H"}
    schedule = {"id": schedule_id, "schedule": later, "jobSpecification": {"poolInfo": POOL}}
    assert raw("POST", f"/jobschedules?{VERSION}", schedule)[0] == 201
    fill = FILLER.body
    task = fill(models.BatchTaskCreateOptions, 0) | {"id": "there", "requiredSlots": 1}
    automatic = {"autoPoolSpecification": fill(models.BatchAutoPoolSpecification, 0)}
    steady = {"poolInfo": POOL, "onAllTasksComplete": "noaction"}
    whole = schedule | {"jobSpecification": fill(models.BatchJobSpecification, 1) | {"poolInfo": POOL}}
    scaled = {"autoScaleFormula": "$TargetDedicatedNodes = 0;", "autoScaleEvaluationInterval": "PT5M"}
    bodies: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/pools", fill(models.BatchPoolCreateOptions, 0) | {"id": pool_id}),
        ("PATCH", f"/pools/{pool_id}", fill(models.BatchPoolUpdateOptions, 1)),
        ("POST", f"/pools/{pool_id}/updateproperties", {"startTask": {"commandLine": "x"}, "metadata": []}),
        ("POST", f"/pools/{pool_id}/evaluateautoscale", {"autoScaleFormula": "$TargetDedicatedNodes = 0;"}),
        ("POST", f"/pools/{pool_id}/enableautoscale", scaled),
        ("POST", f"/pools/{pool_id}/removenodes", {"nodeList": ["n"], "resizeTimeout": "PT5M"}),
        ("POST", "/jobs", fill(models.BatchJobCreateOptions, 1) | {"id": job_id, "poolInfo": automatic}),
        ("PATCH", f"/jobs/{job_id}", fill(models.BatchJobUpdateOptions, 1) | steady),
        ("PUT", f"/jobs/{job_id}", fill(models.BatchJob, 1) | steady),
        ("POST", f"/jobs/{job_id}/tasks", task),
        ("POST", f"/jobs/{job_id}/addtaskcollection", {"value": [task]}),
        ("PUT", f"/jobs/{job_id}/tasks/there", {"constraints": {"retentionTime": "P1D", "maxTaskRetryCount": 1}}),
        ("POST", "/jobschedules", whole),
        ("PATCH", f"/jobschedules/{schedule_id}", {name: whole[name] for name in ("schedule", "jobSpecification")}),
    )
    wrong = itertools.cycle(WRONG)
    odd = []
    for verb, path, body in bodies:
        for place in _leaves(body):
            for value in itertools.islice(wrong, 2):
                answer = raw(verb, f"{path}?{VERSION}", _with(body, place, value))
                if not is_proper(answer, verb):
                    odd.append((verb, path, place, str(value)[:40], answer[0], answer[2]))
    assert odd == []
    client.begin_delete_job_schedule(schedule_id)
