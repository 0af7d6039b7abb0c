"""The wire itself: signatures, versions, conditions, errors, headers; raw requests beside the SDK's."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import http.client
import json
import socket
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from azure.batch import BatchClient, models
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, new_id

VERSION = "api-version=2025-06-01"
JAMMY = {"publisher": "canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts"}


class Raw:
    """A client of our own: it signs as the SDKs do, or wrongly where a test wants that."""

    def __init__(self, service: BatchService) -> None:
        self.service = service

    def __call__(
        self, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **change: Any
    ) -> tuple[int, dict[str, str], Any]:
        """(status, headers with lower-case names, parsed body)."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"ocp-date": format_datetime(change.get("date") or now(), usegmt=True), **(headers or {})}
        if verb not in {"GET", "HEAD"}:
            sent["Content-Length"] = str(len(data))
        if data:
            sent.setdefault("Content-Type", "application/json; odata=minimalmetadata")
        authorization = change.get("authorization", self.sign(verb, path, sent, **change))
        if authorization is not None:
            sent["Authorization"] = authorization
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        try:
            connection.putrequest(verb, path, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(data or None)
            answer = connection.getresponse()
            content = answer.read()
            parsed = json.loads(content) if content[:1] == b"{" else content
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, parsed
        finally:
            connection.close()

    def sign(self, verb: str, path: str, sent: dict[str, str], **change: Any) -> str:
        lower = {name.lower(): value for name, value in sent.items()}
        if change.get("sign_empty_length") and lower.get("content-length") == "0":
            lower["content-length"] = ""
        names = (
            "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
            "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
        )  # fmt: skip
        text = verb + "\n" + "\n".join(lower.get(name, "") for name in names) + "\n"
        text += "".join(f"{name}:{lower[name]}\n" for name in sorted(lower) if "ocp-" in name)
        parts = urlsplit(path)
        text += f"/{self.service.account}{parts.path}"
        query = parse_qs(parts.query)
        text += "".join(f"\n{name}:{query[name][0]}" for name in sorted(query))
        key = change.get("key") or self.service.key
        digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        account = change.get("account") or self.service.account
        return f"SharedKey {account}:{base64.b64encode(digest).decode()}"


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


@pytest.fixture
def raw(shared_batch_service: BatchService) -> Raw:
    return Raw(shared_batch_service)


def code_of(answer: tuple[int, dict[str, str], Any]) -> tuple[int, str]:
    return answer[0], answer[2]["code"]


def test_every_answer_carries_the_services_headers(raw: Raw) -> None:
    status, headers, body = raw("GET", f"/pools?{VERSION}")
    assert status == 200
    assert headers["dataserviceversion"] == "3.0"
    assert headers["content-type"] == "application/json;odata=minimalmetadata"
    assert len(headers["request-id"]) == 36
    assert body["odata.metadata"] == f"{raw.service.url}/$metadata#pools"
    assert "client-request-id" not in headers
    _, headers, _ = raw(
        "GET", f"/pools?{VERSION}", headers={"client-request-id": "mine", "return-client-request-id": "true"}
    )
    assert headers["client-request-id"] == "mine"


@pytest.mark.parametrize(
    "change",
    [
        {"key": base64.b64encode(b"another key").decode()},
        {"account": "somebody"},
        {"authorization": "SharedKey"},
        {"authorization": "Bearer abc"},
        {"authorization": "SharedKey localtest:%%%"},
        {"date": now() - dt.timedelta(minutes=40)},
        {"date": now() + dt.timedelta(minutes=40)},
    ],
)
def test_a_wrong_signature_is_refused(raw: Raw, change: dict[str, Any]) -> None:
    answer = raw("GET", f"/pools?{VERSION}", **change)
    assert code_of(answer) == (403, "AuthenticationFailed")
    assert answer[2]["values"][0]["key"] == "AuthenticationErrorDetail"
    assert raw.service.key not in json.dumps(answer[2])


def test_the_sdk_with_a_wrong_key_gets_the_code(shared_batch_service: BatchService) -> None:
    credential = AzureNamedKeyCredential("localtest", base64.b64encode(b"wrong").decode())
    with BatchClient(shared_batch_service.url, credential) as client, pytest.raises(HttpResponseError) as refused:
        client.get_pool("p")
    assert refused.value.status_code == 403
    assert refused.value.error.code == "AuthenticationFailed"


def test_an_empty_and_a_zero_content_length_are_both_right(raw: Raw) -> None:
    for sign_empty_length in (True, False):
        answer = raw("DELETE", f"/jobs/missing?{VERSION}", sign_empty_length=sign_empty_length)
        assert code_of(answer) == (404, "JobNotFound")


def test_odd_characters_in_paths_and_queries_are_signed_as_sent(raw: Raw) -> None:
    path = f"/jobs/missing/tasks/t/files/{quote('a b/ü%.txt', safe='')}?{VERSION}&x=a+b%20c&empty="
    assert code_of(raw("GET", path)) == (404, "JobNotFound")


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("GET", "/pools", (400, "MissingRequiredQueryParameter")),
        ("GET", "/pools?api-version=2031-01-01", (400, "UnsupportedRequestVersion")),
        ("GET", "/pools?api-version=banana", (400, "UnsupportedRequestVersion")),
        ("GET", f"/nothing?{VERSION}", (400, "InvalidUri")),
        ("GET", f"/pools/p/nothing?{VERSION}", (404, "InvalidUri")),
        ("PUT", f"/pools/p?{VERSION}", (405, "UnsupportedHttpVerb")),
        ("GET", f"/pools/p?{VERSION}", (404, "PoolNotFound")),
        ("GET", f"/pools/p/nodes?{VERSION}", (404, "PoolNotFound")),
        ("GET", f"/jobs/j?{VERSION}", (404, "JobNotFound")),
        ("GET", f"/jobs/j/tasks/t?{VERSION}", (404, "JobNotFound")),
        ("GET", f"/jobschedules/s?{VERSION}", (404, "JobScheduleNotFound")),
        ("GET", f"/applications/a?{VERSION}", (404, "ApplicationNotFound")),
        ("GET", f"/pools?{VERSION}&maxresults=0", (400, "OutOfRangeQueryParameterValue")),
        ("GET", f"/pools?{VERSION}&maxresults=x", (400, "InvalidQueryParameterValue")),
        ("GET", f"/pools?{VERSION}&$filter=id%20eq", (400, "InvalidQueryParameterValue")),
        ("GET", f"/pools?{VERSION}&$expand=everything", (400, "InvalidQueryParameterValue")),
        ("GET", f"/pools?{VERSION}&$skiptoken=!!", (400, "InvalidQueryParameterValue")),
        ("GET", f"/pools?{VERSION}&$skiptoken=WATV2:MQ==", (400, "InvalidQueryParameterValue")),
    ],
)
def test_refusals(raw: Raw, client: BatchClient, verb: str, path: str, expected: tuple[int, str]) -> None:
    add_pool(client, nodes=0)
    assert code_of(raw(verb, path)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "InvalidRequestBody"),
        (b"{", "InvalidRequestBody"),
        (b"[]", "InvalidPropertyValue"),
        (b'"x"', "InvalidPropertyValue"),
        ({}, "MissingRequiredProperty"),
        ({"id": "j"}, "MissingRequiredProperty"),
        ({"id": "j", "poolInfo": {}}, "InvalidPropertyValue"),
        ({"id": "j j", "poolInfo": {"poolId": "p"}}, "InvalidPropertyValue"),
        ({"id": "x" * 65, "poolInfo": {"poolId": "p"}}, "InvalidPropertyValue"),
        ({"id": 7, "poolInfo": {"poolId": "p"}}, "InvalidPropertyValue"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "priority": 1001}, "InvalidPropertyValue"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "nonsense": 1}, "InvalidRequestBody"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "constraints": {"maxWallClockTime": "1h"}}, "InvalidPropertyValue"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "constraints": {"maxTaskRetryCount": -2}}, "InvalidPropertyValue"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "onAllTasksComplete": "dance"}, "InvalidPropertyValue"),
        ({"id": "j", "poolInfo": {"poolId": "p"}, "jobReleaseTask": {"commandLine": "x"}}, "InvalidPropertyValue"),
    ],
)
def test_bodies_that_are_refused(raw: Raw, body: Any, expected: str) -> None:
    answer = raw("POST", f"/jobs?{VERSION}", body)
    assert code_of(answer) == (400, expected)
    assert raw("GET", f"/jobs/j?{VERSION}")[0] == 404


def test_numbers_may_be_strings_and_names_may_have_any_case(raw: Raw) -> None:
    job_id = new_id("job")
    body = {"id": job_id, "poolInfo": {"poolId": "p"}, "priority": "7", "usesTaskDependencies": "true"}
    assert raw("POST", "/jobs?API-Version=2024-02-01.19.0&timeOut=30", body)[0] == 201
    _, _, job = raw("GET", f"/JOBS/{job_id.upper()}?{VERSION}")
    assert (job["priority"], job["usesTaskDependencies"]) == (7, True)


def test_errors_have_the_services_shape(raw: Raw) -> None:
    status, headers, body = raw("GET", f"/pools/p?{VERSION}")
    assert status == 404
    assert body["odata.metadata"].endswith("#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element")
    assert body["message"]["lang"] == "en-US"
    assert f"\nRequestId:{headers['request-id']}\nTime:" in body["message"]["value"]
    assert "values" not in body
    status, headers, body = raw("HEAD", f"/pools/p?{VERSION}")
    assert (status, body) == (404, b"")


def test_durations_are_normalised(raw: Raw) -> None:
    job_id = new_id("job")
    constraints = {"maxWallClockTime": "P3Y6M4DT12H30M5S"}
    raw("POST", f"/jobs?{VERSION}", {"id": job_id, "poolInfo": {"poolId": "p"}, "constraints": constraints})
    assert raw("GET", f"/jobs/{job_id}?{VERSION}")[2]["constraints"]["maxWallClockTime"] == "P1279DT12H30M5S"


def test_entity_tags_are_the_ticks_of_the_last_change(raw: Raw, client: BatchClient) -> None:
    job_id = add_job(client, "p")
    _, headers, job = raw("GET", f"/jobs/{job_id}?{VERSION}")
    assert headers["etag"] == job["eTag"]
    moment, _, fraction = job["lastModified"].removesuffix("Z").partition(".")
    days = dt.datetime.fromisoformat(moment + "+00:00") - dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc)
    ticks = (days.days * 86400 + days.seconds) * 10_000_000 + int(fraction.ljust(7, "0") or 0)
    assert int(job["eTag"], 16) == ticks


def test_conditions_of_the_sdk(client: BatchClient) -> None:
    job_id = add_job(client, "p")
    first = client.get_job(job_id)
    client.update_job(job_id, models.BatchJobUpdateOptions(priority=1))
    second = client.get_job(job_id)

    with pytest.raises(ResourceModifiedError):
        client.update_job(
            job_id,
            models.BatchJobUpdateOptions(priority=2),
            etag=first.etag,
            match_condition=MatchConditions.IfNotModified,
        )
    assert client.get_job(job_id).priority == 1
    client.update_job(
        job_id,
        models.BatchJobUpdateOptions(priority=3),
        etag=second.etag,
        match_condition=MatchConditions.IfNotModified,
    )
    assert client.get_job(job_id).priority == 3
    with pytest.raises(HttpResponseError) as unchanged:
        client.get_job(job_id, etag=client.get_job(job_id).etag, match_condition=MatchConditions.IfModified)
    assert unchanged.value.status_code == 304


def test_conditions_by_time(raw: Raw, client: BatchClient) -> None:
    job_id = add_job(client, "p")
    past = format_datetime(now() - dt.timedelta(hours=1), usegmt=True)
    future = format_datetime(now() + dt.timedelta(hours=1), usegmt=True)
    path = f"/jobs/{job_id}?{VERSION}"
    body = {"priority": 5}
    assert code_of(raw("PATCH", path, body, {"If-Unmodified-Since": past})) == (412, "ConditionNotMet")
    assert raw("PATCH", path, body, {"If-Unmodified-Since": future})[0] == 200
    assert raw("GET", path, headers={"If-Modified-Since": future})[0] == 304
    assert raw("GET", path, headers={"If-Modified-Since": past})[0] == 200
    assert code_of(raw("GET", path, headers={"If-Modified-Since": "yesterday"})) == (400, "InvalidHeaderValue")
    assert code_of(raw("PATCH", path, body, {"If-None-Match": "*"})) == (412, "ConditionNotMet")


def test_of_two_writers_with_one_entity_tag_one_wins(raw: Raw, client: BatchClient) -> None:
    job_id = add_job(client, "p")
    tag = client.get_job(job_id).etag
    answers = [
        raw("PATCH", f"/jobs/{job_id}?{VERSION}", {"priority": number}, {"If-Match": tag})[0] for number in (1, 2)
    ]
    assert answers == [200, 412]


def test_next_links_are_built_from_the_requests_host(raw: Raw, client: BatchClient) -> None:
    for _ in range(2):
        add_pool(client, nodes=0)
    path = f"/pools?{VERSION}&maxresults=1&$select=id"
    status, _, body = raw("GET", path, headers={"Host": "batch.example:99"})
    assert status == 200
    link = urlsplit(body["odata.nextLink"])
    assert link.netloc == "batch.example:99"
    assert parse_qs(link.query)["maxresults"] == ["1"]
    assert raw("GET", f"{link.path}?{link.query}")[2]["value"][0]["id"] != body["value"][0]["id"]


def test_answers_have_the_shape_of_the_version(raw: Raw, client: BatchClient, pool_id: str, job_id: str) -> None:
    completed(client, job_id, add_task(client, job_id, id="t"))
    old, new = "api-version=2019-08-01.10.0", "api-version=2024-02-01.19.0"
    assert raw("GET", f"/jobs/{job_id}/taskcounts?{old}")[2]["succeeded"] == 1
    assert raw("GET", f"/jobs/{job_id}/taskcounts?{new}")[2]["taskCounts"]["succeeded"] == 1
    assert raw("GET", f"/pools/{pool_id}?{old}")[2]["maxTasksPerNode"] == 2
    assert "jobDefaultOrder" not in raw("GET", f"/pools/{pool_id}?{new}")[2]["taskSchedulingPolicy"]
    assert "requiredSlots" not in raw("GET", f"/jobs/{job_id}/tasks/t?{old}")[2]
    assert raw("GET", f"/jobs/{job_id}/tasks/t?{new}")[2]["requiredSlots"] == 1


def test_selecting_from_one_task(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id)
    completed(client, job_id, task_id)
    assert client.get_task(job_id, task_id, select=["id", "state"]).as_dict().keys() == {
        "odata.metadata", "id", "state",
    }  # fmt: skip
    picked = client.get_task(job_id, task_id, select=["executionInfo", "commandLine"]).as_dict()
    assert picked["commandLine"] == "/bin/true"
    assert picked["executionInfo"]["exitCode"] == 0


def test_secrets_are_never_shown_again(raw: Raw, client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0, user_accounts=[models.UserAccount(name="guest", password="s3cret-word")])
    shown = raw("GET", f"/pools/{pool_id}?{VERSION}")[2]
    assert shown["userAccounts"] == [{"name": "guest", "elevationLevel": "nonadmin"}]
    assert b"s3cret-word" not in b"".join(path.read_bytes() for path in raw.service.data_dir.glob("state.sqlite3*"))


def test_a_missing_pool_of_the_sdk(client: BatchClient) -> None:
    with pytest.raises(ResourceNotFoundError) as missing:
        client.get_pool("missing")
    assert missing.value.error.code == "PoolNotFound"


def test_a_date_beside_an_ocp_date_may_be_signed_as_empty(raw: Raw) -> None:
    stated = format_datetime(now(), usegmt=True)
    authorization = raw.sign("GET", f"/pools?{VERSION}", {"ocp-date": stated})
    answer = raw("GET", f"/pools?{VERSION}", headers={"ocp-date": stated, "Date": stated}, authorization=authorization)
    assert answer[0] == 200
    assert raw("GET", f"/pools?{VERSION}", headers={"Date": stated})[0] == 200


def test_names_of_parameters_may_be_signed_in_lower_case(raw: Raw) -> None:
    """As the service's documentation asks; all values of a name are signed, sorted, empty ones too."""
    stated = {"ocp-date": format_datetime(now(), usegmt=True)}
    signed = "GET" + "\n" * 12 + f"ocp-date:{stated['ocp-date']}\n/{raw.service.account}/pools"
    signed += "\n$select:\napi-version:2025-06-01\nmaxresults:2\nx:1,2"
    digest = hmac.new(base64.b64decode(raw.service.key), signed.encode(), hashlib.sha256).digest()
    authorization = f"SharedKey {raw.service.account}:{base64.b64encode(digest).decode()}"
    path = "/pools?x=2&MaxResults=2&Api-Version=2025-06-01&x=1&$select="
    assert raw("GET", path, headers=stated, authorization=authorization)[0] == 200


def test_a_wrong_signature_is_told_what_the_right_one_would_have_signed(raw: Raw) -> None:
    stated = {"ocp-date": format_datetime(now(), usegmt=True)}
    wrong = base64.b64encode(b"no signature").decode()
    answer = raw("GET", f"/pools?{VERSION}", headers=stated, authorization=f"SharedKey {raw.service.account}:{wrong}")
    expected = (
        "GET" + "\n" * 12 + f"ocp-date:{stated['ocp-date']}\n/{raw.service.account}/pools\n{VERSION.replace('=', ':')}"
    )
    detail = answer[2]["values"][0]["value"]
    assert f"'{wrong}' is not the same" in detail
    assert f"string to sign: '{expected}'" in detail


def test_a_byte_order_mark_before_the_body_is_passed_over(raw: Raw) -> None:
    job_id = new_id("job")
    body = b"\xef\xbb\xbf" + json.dumps({"id": job_id, "poolInfo": {"poolId": "p"}}).encode()
    assert raw("POST", f"/jobs?{VERSION}", body)[0] == 201
    assert raw("GET", f"/jobs/{job_id}?{VERSION}")[0] == 200


def test_members_have_the_names_of_the_version(raw: Raw) -> None:
    """Also deep inside: in the pool of a job, and in a task's resource files. Texts are left alone."""
    old, new, job_id = "api-version=2018-03-01.6.1", VERSION, new_id("job")
    machine = {"imageReference": JAMMY, "nodeAgentSKUId": "batch.node.ubuntu 22.04"}
    pool = {"vmSize": "small", "virtualMachineConfiguration": machine, "maxTasksPerNode": 3}
    automatic = {"poolLifetimeOption": "job", "pool": pool}
    body = {"id": job_id, "poolInfo": {"autoPoolSpecification": automatic}}
    assert raw("POST", f"/jobs?{old}", body)[0] == 201
    shown = {version: raw("GET", f"/jobs/{job_id}?{version}")[2] for version in (old, new)}
    pools = {version: job["poolInfo"]["autoPoolSpecification"]["pool"] for version, job in shown.items()}
    assert (pools[old]["maxTasksPerNode"], pools[new]["taskSlotsPerNode"]) == (3, 3)
    assert "taskSlotsPerNode" not in pools[old]

    files = [{"blobSource": "http://127.0.0.1:9/a", "filePath": "a"}]
    told = '"httpUrl": "taskSlotsPerNode":'
    task = {"id": "t", "displayName": told, "commandLine": "/bin/true", "resourceFiles": files}
    assert raw("POST", f"/jobs/{job_id}/tasks?{old}", task)[0] == 201
    assert raw("GET", f"/jobs/{job_id}/tasks/t?{old}")[2]["resourceFiles"] == files
    assert raw("GET", f"/jobs/{job_id}/tasks/t?{old}")[2]["displayName"] == told
    assert raw("GET", f"/jobs/{job_id}/tasks/t?{new}")[2]["resourceFiles"][0]["httpUrl"] == "http://127.0.0.1:9/a"
    raw("DELETE", f"/jobs/{job_id}?{new}")


def test_node_agents_with_their_images_end_in_2019(raw: Raw) -> None:
    agents = {each["id"]: each for each in raw("GET", "/nodeagentskus?api-version=2018-12-01.8.0")[2]["value"]}
    jammy = agents["batch.node.ubuntu 22.04"]
    assert jammy["osType"] == "linux"
    assert {**JAMMY, "version": "latest"} in jammy["verifiedImageReferences"]
    windows = raw("GET", "/nodeagentskus?api-version=2018-12-01.8.0&$filter=osType%20eq%20'windows'")[2]["value"]
    assert [each["id"] for each in windows] == ["batch.node.windows amd64"]
    assert code_of(raw("GET", f"/nodeagentskus?{VERSION}")) == (404, "InvalidUri")


def test_a_body_has_a_length_or_comes_in_chunks(raw: Raw) -> None:
    """A POST without either is what ``curl -X POST`` sends."""
    path, body, job_id = f"/jobs?{VERSION}", json.dumps({"id": "x", "poolInfo": {"poolId": "p"}}), new_id("job")
    stated = {"ocp-date": format_datetime(now(), usegmt=True), "Host": "batch"}
    stated["Authorization"] = raw.sign("POST", path, stated)
    head = "".join(f"{name}: {value}\r\n" for name, value in stated.items())
    body = body.replace('"x"', f'"{job_id}"')
    chunked = f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    for version in ("1.0", "1.1"):
        assert answered(raw, f"POST {path} HTTP/{version}\r\n{head}\r\n").startswith("HTTP/1.1 411 ")
    assert answered(raw, f"POST {path} HTTP/1.1\r\n{head}{chunked}").startswith("HTTP/1.1 201 ")
    assert raw("GET", f"/jobs/{job_id}?{VERSION}")[0] == 200


def answered(raw: Raw, request: str) -> str:
    """The beginning of the answer to these very bytes."""
    with socket.create_connection(("127.0.0.1", raw.service.port), timeout=30) as connection:
        connection.sendall(request.encode())
        return connection.recv(4096).decode()


def test_a_client_that_goes_away_amid_its_body_has_asked_for_nothing(raw: Raw, client: BatchClient) -> None:
    """Without its body this would be a request to terminate, and the body is not signed."""
    job_id = add_job(client, "p")
    path = f"/jobs/{job_id}/terminate?{VERSION}"
    stated = {"ocp-date": format_datetime(now(), usegmt=True), "Content-Length": "30", "Host": "batch"}
    stated["Authorization"] = raw.sign("POST", path, stated)
    head = "".join(f"{name}: {value}\r\n" for name, value in stated.items())
    with socket.create_connection(("127.0.0.1", raw.service.port), timeout=30) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode())
    states = [client.get_job(job_id).state for _ in range(5)]
    assert set(states) == {models.BatchJobState.ACTIVE}


def test_empty_lists_refuse_odd_queries_too(raw: Raw) -> None:
    later = {"doNotRunUntil": "2100-01-01T00:00:00Z"}
    schedule_id = new_id("schedule")
    body = {"id": schedule_id, "schedule": later, "jobSpecification": {"poolInfo": {"poolId": "p"}}}
    assert raw("POST", f"/jobschedules?{VERSION}", body)[0] == 201
    path = f"/jobschedules/{schedule_id}/jobs?{VERSION}"
    assert raw("GET", path)[2]["value"] == []
    for query in ("$expand=tasks", "$select=nothing", "$filter=nothing%20eq%201", "$skiptoken=%21"):
        assert code_of(raw("GET", f"{path}&{query}")) == (400, "InvalidQueryParameterValue"), query
