from __future__ import annotations

import logging
import socket
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from azbatchwrap.backoff import Backoff
from azbatchwrap.batch.service import Service, at, metadata, parse_time, quoted, redact, wire_time
from azbatchwrap.config import BatchAccount, Secret
from azbatchwrap.errors import (
    AccessDenied,
    ConfigurationError,
    Conflict,
    NotFound,
    ServiceError,
    Throttled,
    Unreachable,
)

from .conftest import KEY, URL, error_body

POOL = f"{URL}/pools/p"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "PoolNotFound", NotFound),
        (403, "AuthenticationFailed", AccessDenied),
        (401, "AuthenticationFailed", AccessDenied),
        (409, "PoolExists", Conflict),
        (412, "ConditionNotMet", Conflict),
        (400, "InvalidPropertyValue", ServiceError),
    ],
)
def test_a_refusal_is_told_by_status_and_code_and_not_tried_again(door, status, code, kind):
    door.answers.get(POOL, status=status, json=error_body(code))
    with pytest.raises(kind) as caught:
        door.service.get("/pools/p")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.__cause__ is not None
    assert len(door.answers.calls) == 1


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("GET", "/pools/my%20pool", "PoolNotFound", "there is no pool 'my pool': GET"),
        ("POST", "/jobs/j/terminate", "JobNotFound", "there is no job 'j': POST"),
        ("GET", "/jobs/j/tasks/t/files", "TaskNotFound", "there is no task 't': GET"),
        ("GET", "/jobs/j/tasks/t/files/wd/a.txt", "FileNotFound", "there is no file 'wd/a.txt': GET"),
        ("HEAD", "/jobs/j/tasks/t/files/stdout.txt", None, "there is no file 'stdout.txt': HEAD"),
        ("GET", "/", "ResourceNotFound", "GET"),
    ],
)
def test_what_is_missing_is_named_first(door, method, path, code, words):
    door.answers.add(method, URL + path, status=404, json=code and error_body(code))
    with pytest.raises(NotFound) as caught:
        door.service.request(method, path)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AuthenticationFailed", "key or role assignment"),
        (409, "ActiveJobAndScheduleQuotaReached", "end some"),
        (409, "JobCompleted", "create_a_job"),
    ],
)
def test_a_refusal_that_has_a_way_out_names_it(door, status, code, words):
    door.answers.get(POOL, status=status, json=error_body(code))
    with pytest.raises(ServiceError, match=words):
        door.service.get("/pools/p")


def test_the_message_holds_the_reason_and_values_but_no_signature(door):
    body = error_body("InvalidPropertyValue", PropertyName="url", PropertyValue="https://x/c?se=1&sig=abc%2Fdef&sp=r")
    door.answers.get(POOL, status=400, json=body, headers={"request-id": "r-1"})
    with pytest.raises(ServiceError) as caught:
        door.service.get("/pools/p")
    text = str(caught.value)
    assert "The reason." in text
    assert "PropertyName: url" in text
    assert "r-1" in text
    assert "RequestId:" not in text
    assert "abc%2Fdef" not in text


@pytest.mark.parametrize("status", [429, 503])
def test_throttling_waits_as_long_as_it_is_told(door, status):
    door.answers.get(POOL, status=status, json=error_body("TooManyRequests"), headers={"Retry-After": "30"})
    door.answers.get(POOL, json={"id": "p"})
    assert door.service.get("/pools/p") == {"id": "p"}
    assert len(door.pauses) == 1
    assert 30.0 <= door.pauses[0] <= 33.0


def test_throttling_that_lasts_is_given_up_with_what_was_asked_for(door):
    door.answers.get(POOL, status=429, json=error_body("TooManyRequests"), headers={"Retry-After": "7"})
    with pytest.raises(Throttled) as caught:
        door.service.get("/pools/p")
    assert caught.value.retry_after == 7.0
    assert len(door.answers.calls) == 4


def test_a_server_that_always_fails_is_given_up(door):
    door.answers.post(f"{URL}/pools", status=500, json=error_body("InternalError"))
    with pytest.raises(ServiceError) as caught:
        door.service.request("POST", "/pools", {"id": "p"})
    assert caught.value.status == 500
    assert len(door.answers.calls) == 4
    assert len(door.pauses) == 3


@pytest.mark.parametrize("body", [b'{"id": "p"', b"<html>a proxy's page</html>", b"[1, 2]", b"\xff\xfe"])
def test_a_broken_answer_counts_as_lost_and_is_asked_for_again(door, body):
    door.answers.get(POOL, body=body, content_type="application/json")
    door.answers.get(POOL, json={"id": "p"})
    assert door.service.get("/pools/p") == {"id": "p"}
    assert len(door.pauses) == 1


def test_an_error_page_that_is_not_the_services_still_gives_its_status(door):
    door.answers.get(POOL, status=403, body=b"<html>blocked</html>", content_type="text/html")
    with pytest.raises(AccessDenied) as caught:
        door.service.get("/pools/p")
    assert caught.value.status == 403


def test_a_lost_answer_is_tried_again_and_marked_as_uncertain(door):
    door.answers.post(f"{URL}/pools", body=requests.exceptions.ReadTimeout("too late"))
    door.answers.post(f"{URL}/pools", status=201)
    assert door.service.request("POST", "/pools", {"id": "p"}).uncertain


def test_a_first_answer_is_certain(door):
    door.answers.post(f"{URL}/pools", status=201)
    assert not door.service.request("POST", "/pools", {"id": "p"}).uncertain


def test_creation_after_a_lost_answer_succeeds_when_the_thing_there_is_ours(door):
    body = {"id": "p", "metadata": [{"name": "token", "value": "1234"}]}
    door.answers.post(f"{URL}/pools", body=requests.exceptions.ReadTimeout("too late"))
    door.answers.post(f"{URL}/pools", status=409, json=error_body("PoolExists"))
    door.answers.get(POOL, json=body)
    door.service.create("/pools", body, entity="/pools/p")
    assert [call.request.method for call in door.answers.calls] == ["POST", "POST", "GET"]


@pytest.mark.parametrize("lost", [True, False])
def test_creation_of_what_somebody_else_made_is_a_conflict(door, lost):
    body = {"id": "p", "metadata": [{"name": "token", "value": "1234"}]}
    if lost:
        door.answers.post(f"{URL}/pools", body=requests.exceptions.ReadTimeout("too late"))
    door.answers.post(f"{URL}/pools", status=409, json=error_body("PoolExists"))
    door.answers.get(POOL, json={"id": "p", "metadata": [{"name": "token", "value": "9999"}]})
    with pytest.raises(Conflict, match=r"^there is a pool 'p' already: POST .* 409 PoolExists") as caught:
        door.service.create("/pools", body, entity="/pools/p")
    assert (caught.value.code, caught.value.status) == ("PoolExists", 409)


def test_a_list_follows_its_pages_without_sending_the_key_elsewhere(door):
    token = "WATV2:AB^/cd==:1$1"
    first = {"value": [{"id": "a"}], "odata.nextLink": f"https://evil.example/pools?maxresults=1&$skiptoken={token}"}
    door.answers.get(f"{URL}/pools", json=first)
    door.answers.get(f"{URL}/pools", json={"value": [{"id": "b"}]})
    found = list(door.service.list("/pools", filter="state eq 'active'", select=("id", "state"), page=1))
    assert [item["id"] for item in found] == ["a", "b"]
    hosts = {urlsplit(call.request.url).netloc for call in door.answers.calls}
    assert hosts == {urlsplit(URL).netloc}
    asked = [parse_qs(urlsplit(call.request.url).query) for call in door.answers.calls]
    assert asked[0]["$filter"] == ["state eq 'active'"]
    assert asked[0]["$select"] == ["id,state"]
    assert asked[1]["$skiptoken"] == [token]


def test_deletion_of_what_is_not_there_or_going_already_is_no_error(door):
    door.answers.delete(POOL, status=404, json=error_body("PoolNotFound"))
    assert door.service.delete("/pools/p") is False
    door.answers.replace("DELETE", POOL, status=409, json=error_body("PoolBeingDeleted"))
    assert door.service.delete("/pools/p") is True


def test_nothing_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    account = BatchAccount("a", url, Secret(KEY))
    service = Service(account, backoff=Backoff(attempts=2, base=0.0))
    with pytest.raises(Unreachable, match="azbatchwrap local status") as caught:
        service.get("/pools/p", select=("id", "state"))
    service.close()
    why = "Failed to establish a new connection: [Errno 111] Connection refused"
    assert str(caught.value).startswith(f"GET {url}/pools/p: no answer: {why}. Is it running?")


def test_an_identity_over_plain_http_is_refused_at_once():
    service = Service(BatchAccount("a", "http://127.0.0.1:1", None))
    with pytest.raises(ConfigurationError, match="plain http"):
        service.get("/pools/p")


def test_neither_logs_nor_errors_hold_the_key(door, caplog):
    caplog.set_level(logging.DEBUG)
    door.answers.get(POOL, status=500, json=error_body("InternalError"))
    with pytest.raises(ServiceError) as caught:
        door.service.get("/pools/p")
    assert KEY not in caplog.text
    assert KEY not in str(caught.value)
    assert "SharedKey account:" not in caplog.text


@pytest.mark.parametrize("part", ["a b", "ä/b", "50%", "a?b#c", "a\nb"])
def test_a_path_is_quoted_part_by_part(part):
    assert "/" not in at(part)[1:]
    assert "?" not in at("jobs", part)


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_path_never_leads_elsewhere(part):
    with pytest.raises(ConfigurationError):
        at("jobs", part)


def test_times_of_the_service_have_seven_digits():
    assert parse_time("2023-09-07T07:17:50.1292774Z") == datetime(2023, 9, 7, 7, 17, 50, 129277, timezone.utc)
    assert parse_time("2023-09-07T07:17:50Z").microsecond == 0
    assert parse_time(wire_time(parse_time("2023-09-07T07:17:50.5Z"))).microsecond == 500_000


def test_small_words():
    assert quoted("it's") == "'it''s'"
    assert redact("https://x/c?sp=r&sig=AbC%3D and &SIG=q") == "https://x/c?sp=r&sig=*** and &SIG=***"
    assert metadata({"metadata": [{"name": "a", "value": "b"}, {"name": "c"}]}) == {"a": "b", "c": ""}
    assert metadata({}) == {}
