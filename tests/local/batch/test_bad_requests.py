"""Every operation with bodies, names and queries that nobody should send: refused in the service's shape, never a 500."""

from __future__ import annotations

from typing import Any

import pytest
from azure.batch import BatchClient

from azbatchwrap.local.batch.routes import OPERATIONS
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.local.batch.test_protocol import VERSION, Raw

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
