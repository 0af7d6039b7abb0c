"""Faults on request, and long-running operations under them."""

from __future__ import annotations

import pytest
import requests

from tests.fixtures_aml import ArmProcess
from tests.local.arm.conftest import Group, code
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("forbidden", (403, "AuthorizationFailed")),
        ("conflict", (409, "Conflict")),
        ("throttled", (429, "TooManyRequests")),
        ("quota", (400, "QuotaExceeded")),
        ("unavailable", (503, "ServerBusy")),
        ("error", (500, "InternalServerError")),
    ],
)
def test_refusals(group: Group, kind: str, expected: tuple[int, str]) -> None:
    group.arm.admin.fault(kind, f"{group.name}/.*/things/", times=1)
    refused = group.slow("one")
    assert code(refused) == expected
    assert refused.headers.get("retry-after") == ("1" if kind in {"throttled", "unavailable"} else None)
    assert group.slow("one").status_code == 201


def test_what_a_refusal_says_may_be_chosen(group: Group) -> None:
    group.arm.admin.fault("conflict", group.name, code="NameTaken", message="It is taken.", status=412, methods=["GET"])
    answer = group.arm.ask("GET", group.path)
    assert (answer.status_code, answer.json()) == (412, {"error": {"code": "NameTaken", "message": "It is taken."}})


def test_reads_are_spared_unless_named(group: Group) -> None:
    group.arm.admin.fault("forbidden", group.name)
    assert group.arm.ask("GET", group.path).status_code == 200
    group.arm.admin.fault("forbidden", group.name, methods="*")
    assert group.arm.ask("GET", group.path).status_code == 403


def test_some_may_be_spared_first(group: Group) -> None:
    group.arm.admin.fault("throttled", group.name, skip=2, times=1)
    assert [group.slow(name).status_code for name in "abcd"] == [201, 201, 429, 201]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "earthquake", "path": ""},
        {"path": ""},
        {"kind": "error", "path": "("},
        {"kind": "error", "path": "", "colour": 1},
    ],
)
def test_faults_that_make_no_sense(arm: ArmProcess, fault: dict[str, object]) -> None:
    with pytest.raises(requests.HTTPError) as caught:
        arm.admin._ask("POST", "faults", fault)
    assert caught.value.response.status_code == 400


class TestOperations:
    def test_one_that_takes_its_time(self, group: Group) -> None:
        group.arm.admin.fault("slow", "/things/", seconds=0.4)
        made = group.slow("one")
        assert made.json()["properties"]["provisioningState"] == "Creating"
        assert made.headers["retry-after"] == "1"
        status = group.arm.ask("GET", made.headers["azure-asyncoperation"]).json()
        assert (status["status"], "endTime" in status) == ("InProgress", False)
        assert code(group.slow("one")) == (409, "AnotherOperationInProgress")
        wait_until(lambda: group.state("one") == "Succeeded")
        status = group.arm.ask("GET", made.headers["azure-asyncoperation"]).json()
        assert (status["status"], status["percentComplete"]) == ("Succeeded", 100.0)

    def test_one_that_never_ends(self, group: Group) -> None:
        group.arm.admin.fault("hang", "/things/")
        group.slow("one")
        assert group.state("one") == "Creating"
        listed = group.arm.ask("GET", f"{group.path}/providers/Contoso.Things/things").json()["value"]
        assert listed[0]["properties"]["provisioningState"] == "Creating"

    def test_one_that_fails(self, group: Group) -> None:
        group.arm.admin.fault("fail", "/things/", times=1, code="AllocationFailed", message="No machines.")
        made = group.slow("one")
        status = group.arm.ask("GET", made.headers["azure-asyncoperation"]).json()
        assert (status["status"], status["error"]) == (
            "Failed",
            {"code": "AllocationFailed", "message": "No machines."},
        )
        assert group.state("one") == "Failed"
        assert group.slow("one").json()["properties"]["provisioningState"] == "Succeeded"

    def test_a_deletion_that_fails(self, group: Group) -> None:
        group.slow("one")
        group.arm.admin.fault("fail", "/things/", methods="DELETE")
        deleted = group.delete("Contoso.Things/things", "one")
        assert code(group.arm.ask("GET", deleted.headers["location"])) == (409, "InternalServerError")
        assert group.state("one") == "Failed"

    def test_an_unknown_one(self, group: Group) -> None:
        path = f"{group.path.partition('/resourceGroups')[0]}/providers/X.Y/locations/local/operationStatuses/none"
        assert code(group.arm.ask("GET", path)) == (404, "OperationNotFound")


def test_an_answer_that_is_lost(group: Group) -> None:
    """The request was carried out, and the client cannot know."""
    group.arm.admin.fault("lost", "/things/", times=1)
    with pytest.raises(requests.exceptions.RequestException):
        group.slow("one")
    assert group.state("one") == "Succeeded"


def test_the_journal_tells_what_was_asked(group: Group) -> None:
    mark = group.arm.admin.mark()
    group.slow("one")
    group.get("Contoso.Things/things", "one")
    group.get("Contoso.Things/things", "two")
    assert group.arm.admin.writes(mark) == [f"PUT {group.of('Contoso.Things/things', 'one')}"]
    told = [(each["method"], each["status"]) for each in group.arm.admin.requests(mark) if "things" in each["path"]]
    assert told == [("PUT", 201), ("GET", 200), ("GET", 404)]
