"""The page's HTTP side, by a program: who gets in, what is told, what may be done."""

from __future__ import annotations

import sqlite3

import pytest
import requests
from azure.batch import BatchClient, models

from azbatchwrap.local.web.links import make_link
from azbatchwrap.local.web.page import STATIC
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.local.web.conftest import Visitor
from tests.waiting import wait_until

DATA = ("overview", "traffic", "jobs", "pools/workshop", "jobs/letters", "jobs/letters/tasks", "jobs/letters/tasks/bad")


# --- who gets in


@pytest.mark.parametrize("path", DATA)
def test_without_a_cookie_nothing_is_told(page_service: BatchService, account: str, path: str) -> None:
    answer = Visitor(page_service).ask(path)
    assert answer.status_code == 401
    assert answer.json() == {"code": "NoSession", "message": "Open the page by a link: azbatchwrap local open"}


def test_without_a_cookie_the_page_says_how_to_get_a_link(page_service: BatchService) -> None:
    answer = requests.get(f"{page_service.url}/ui/", timeout=30)
    assert answer.status_code == 401
    assert "azbatchwrap local open" in answer.text


def test_the_page_wants_more_than_a_signed_request_of_the_api(page_service: BatchService, client: BatchClient) -> None:
    headers = {"authorization": f"SharedKey {page_service.account}:AAAA", "cookie": "azbatchwrap-1=1.2.3"}
    assert requests.get(f"{page_service.url}/ui/api/overview", headers=headers, timeout=30).status_code == 401


def test_a_link_lets_one_visitor_in(page_service: BatchService) -> None:
    link = make_link(page_service.url, page_service.key)
    first, second = Visitor(page_service), Visitor(page_service)
    answer = first.enter(link)
    assert answer.status_code == 204
    assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["set-cookie"].split("; "))
    assert first.ask("overview").status_code == 200
    assert second.enter(link).status_code == 403
    assert second.ask("overview").status_code == 401


@pytest.mark.parametrize("missing", ["origin", "x-page"])
def test_another_page_cannot_use_a_link(page_service: BatchService, missing: str) -> None:
    visitor = Visitor(page_service)
    headers = {name: value for name, value in visitor.own.items() if name != missing}
    secret = make_link(page_service.url, page_service.key).partition("#enter=")[2]
    answer = requests.post(f"{page_service.url}/ui/api/enter", data=secret, headers=headers, timeout=30)
    assert answer.status_code == 403


# --- what every answer says


@pytest.mark.parametrize("path", ["/ui/", "/ui/page.css", "/ui/api/overview", "/ui/api/nothing"])
def test_every_answer_is_for_this_page_alone(visitor: Visitor, path: str) -> None:
    headers = visitor.session.get(visitor.url + path, timeout=30).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_the_page_names_no_other_address_and_has_nothing_inline() -> None:
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert "innerHTML" not in text, path
        if path.suffix == ".html":
            assert "style=" not in text
            assert "onclick" not in text


@pytest.mark.parametrize(
    "path", ["/ui/../app.py", "/ui/..%2fpage.py", "/ui/page.py", "/ui/%2e%2e/links.py", "/ui/api", "/uix", "/ui/x.js"]
)
def test_nothing_else_of_the_package_is_served(visitor: Visitor, path: str) -> None:
    request = requests.Request("GET", visitor.url).prepare()
    request.url = visitor.url + path
    request.headers["cookie"] = "; ".join(f"{name}={value}" for name, value in visitor.session.cookies.items())
    assert visitor.session.send(request, timeout=30).status_code == 404


# --- what is told


def test_the_overview_counts_what_there_is(visitor: Visitor, account: str) -> None:
    shown = visitor.read("overview")
    assert shown["account"] == "localtest"
    assert shown["tasks"] == {
        "waiting": 0, "blocked": 0, "preparing": 0, "running": 1, "succeeded": 1, "failed": 1,
    }  # fmt: skip
    (pool,) = [each for each in shown["pools"] if each["id"] == "workshop"]
    assert pool["slots"] == [1, 4]
    assert pool["nodes"] == {"idle": 1, "running": 1}


def test_a_pools_map_has_every_node_and_what_runs_there(visitor: Visitor, account: str) -> None:
    shown = visitor.read("pools/workshop")
    assert len(shown["map"]) == 2
    runs = [run for node in shown["map"] for run in node["runs"]]
    assert runs == [{"job": "letters", "task": "endless", "state": "running", "slots": 1}]


def test_a_job_tells_why_its_tasks_failed_and_where_they_ran(visitor: Visitor, account: str) -> None:
    shown = visitor.read("jobs/letters")
    (reason,) = shown["reasons"]
    assert (reason["code"], reason["exit"], reason["count"], reason["task"]) == ("FailureExitCode", 7, 1, "bad")
    assert {(bar[0], bar[4]) for bar in shown["bars"]} == {
        ("good", "succeeded"),
        ("bad", "failed"),
        ("endless", "running"),
    }


def test_a_task_tells_everything_but_secrets(visitor: Visitor, client: BatchClient, account: str) -> None:
    client.create_task(
        account,
        models.BatchTaskCreateOptions(
            id="secretive",
            command_line="/bin/true",
            environment_settings=[models.EnvironmentSetting(name="TOKEN", value="hush")],
            resource_files=[
                models.ResourceFile(
                    storage_container_url="http://127.0.0.1:1/store/inputs?sig=hush&se=2030", file_path="in"
                )
            ],
        ),
    )
    answer = visitor.ask("jobs/letters/tasks/secretive")
    assert answer.json()["environment"] == ["TOKEN"]
    assert "hush" not in answer.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "failed", "prefix": "b"}, ["bad"]),
        ({"state": "succeeded"}, ["good"]),
        ({"state": "running"}, ["endless"]),
        ({"state": "blocked"}, []),
        ({"prefix": "GO"}, ["good"]),
        ({"exit": "7"}, ["bad"]),
        ({"exit": "8"}, []),
        ({"prefix": "%_'"}, []),
    ],
)
def test_tasks_are_filtered(visitor: Visitor, account: str, query: dict[str, str], expected: list[str]) -> None:
    found = visitor.read("jobs/letters/tasks", **query)["tasks"]
    assert [task["id"] for task in found if task["id"] != "secretive"] == expected


@pytest.mark.parametrize(
    "query",
    [
        {"state": "odd"},
        {"exit": "x"},
        {"state": "failed", "after": "1"},
        {"state": "failed", "after": "9" * 19 + ".1"},
        {"exit": "9" * 5000},
        {"exit": "--1"},
    ],
)
def test_a_senseless_filter_is_refused(visitor: Visitor, account: str, query: dict[str, str]) -> None:
    answer = visitor.ask("jobs/letters/tasks", **query)
    assert "Traceback" not in answer.text
    assert (answer.status_code, answer.json()["code"]) == (400, "BadQuery")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("pools/none", "PoolNotFound"),
        ("jobs/none", "JobNotFound"),
        ("jobs/none/tasks", "JobNotFound"),
        ("jobs/letters/tasks/none", "TaskNotFound"),
        ("pools/workshop/nodes/none/output", "NodeNotFound"),
        ("nothing/here", "NotFound"),
    ],
)
def test_what_is_not_there_is_named(visitor: Visitor, account: str, path: str, code: str) -> None:
    answer = visitor.ask(path)
    assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_refused_requests_of_the_api_are_shown(visitor: Visitor, client: BatchClient) -> None:
    with pytest.raises(Exception, match="JobNotFound"):
        client.get_job("was-never-there")
    shown = visitor.read("traffic")
    latest = shown["refusals"][0]
    assert (latest["method"], latest["path"], latest["status"]) == ("GET", "/jobs/was-never-there", 404)
    wait_until(lambda: sum(visitor.read("traffic")["failed"]) >= 1)


def test_a_page_of_jobs_begins_after_a_number(visitor: Visitor, account: str) -> None:
    everything = visitor.read("jobs")["jobs"]
    assert [job["id"] for job in visitor.read("jobs", prefix="LETT")["jobs"]] == ["letters"]
    assert visitor.read("jobs", state="disabled")["jobs"] == []
    assert visitor.read("jobs", after="1")["jobs"] == []
    assert len(visitor.read("jobs", after="999999")["jobs"]) == len(everything)
    assert visitor.ask("jobs", after="x").json()["code"] == "BadQuery"


def test_autoscale_runs_are_shown(visitor: Visitor, client: BatchClient) -> None:
    formula = "$TargetDedicatedNodes = 1;"
    add_pool(client, None, 1, id="elastic", enable_auto_scale=True, auto_scale_formula=formula)
    shown = wait_until(lambda: (found := visitor.read("pools/elastic"))["runs"] and found)
    assert shown["formula"] == formula
    assert "$TargetDedicatedNodes=1" in shown["runs"][0]["results"]


# --- output


def test_output_comes_as_it_is_written(visitor: Visitor, account: str) -> None:
    def look(start: int | None) -> requests.Response:
        return visitor.ask("jobs/letters/tasks/endless/output", **({} if start is None else {"from": start}))

    first = wait_until(lambda: (answer := look(None)).content and answer)
    assert first.content.startswith(b"line 1\n")
    end = int(first.headers["x-size"])
    more = wait_until(lambda: (answer := look(end)).content and answer)
    assert int(more.headers["x-from"]) == end
    assert more.content.startswith(b"line ")


def test_of_a_long_file_the_end_is_shown(visitor: Visitor, client: BatchClient, account: str) -> None:
    add_task(client, account, "seq 1 100000", id="long")
    completed(client, account, "long")
    answer = visitor.ask("jobs/letters/tasks/long/output")
    assert answer.content.endswith(b"\n100000\n")
    assert len(answer.content) == 128 * 1024
    assert int(answer.headers["x-from"]) == int(answer.headers["x-size"]) - len(answer.content)
    assert visitor.ask("jobs/letters/tasks/long/output", **{"from": 0}).content.startswith(b"1\n2\n")
    names = {each["name"] for each in visitor.read("jobs/letters/tasks/long")["files"]}
    assert {"stdout.txt", "stderr.txt"} <= names


@pytest.mark.parametrize("name", ["../../../../state.sqlite3", "/etc/passwd", "..%2f..%2fx", "none.txt"])
def test_only_files_of_the_task_are_shown(visitor: Visitor, account: str, name: str) -> None:
    answer = visitor.ask("jobs/letters/tasks/bad/output", file=name)
    assert (answer.status_code, answer.json()["code"]) == (404, "FileNotFound")


# --- what may be done


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://127.0.0.1:1"}, {"origin": "null"}, {"x-page": "no"}, {"origin": "https://127.0.0.1"}],
)
def test_another_page_cannot_act(visitor: Visitor, client: BatchClient, account: str, headers: dict[str, str]) -> None:
    answer = visitor.act("jobs/letters/terminate", **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "NotAllowed")
    assert client.get_job(account).state == "active"


def test_a_task_is_cancelled_and_a_job_ended(visitor: Visitor, client: BatchClient, account: str) -> None:
    job_id = add_job(client, "workshop", id="short-lived")
    add_task(client, job_id, "sleep 600", id="sleeper")
    assert visitor.act(f"jobs/{job_id}/tasks/sleeper/terminate").status_code == 204
    assert completed(client, job_id, "sleeper").execution_info.failure_info.code == "TaskEnded"
    answer = visitor.act(f"jobs/{job_id}/tasks/sleeper/terminate")
    assert (answer.status_code, answer.json()["code"]) == (409, "TaskCompleted")
    assert visitor.act(f"jobs/{job_id}/terminate").status_code == 204
    wait_until(lambda: client.get_job(job_id).state == "completed")


# --- what has not changed


def test_what_has_not_changed_is_not_told_again(visitor: Visitor, client: BatchClient, account: str) -> None:
    add_pool(client, 0, id="still")
    job_id = add_job(client, "still", id="unmoved")

    def is_known() -> bool:
        return bool(visitor.ask(f"jobs/{job_id}", known=visitor.ask(f"jobs/{job_id}")).status_code == 304)

    wait_until(is_known)  # another job's task may end in between
    before = visitor.ask(f"jobs/{job_id}")
    add_task(client, job_id, id="new")
    changed = visitor.ask(f"jobs/{job_id}", known=before)
    assert changed.status_code == 200
    assert changed.json()["counts"]["waiting"] == 1


def test_files_are_always_looked_at(visitor: Visitor, account: str) -> None:
    assert "etag" not in visitor.ask("jobs/letters/tasks/endless").headers
    assert "etag" not in visitor.ask("jobs/letters/tasks/endless/output").headers


def test_a_pool_with_mixed_auto_users_is_warned_about(visitor: Visitor, client: BatchClient) -> None:
    admin = models.UserIdentity(auto_user=models.AutoUserSpecification(scope="pool", elevation_level="admin"))
    job_id = add_job(client, add_pool(client, id="mixed"))
    completed(client, job_id, add_task(client, job_id))
    assert visitor.read("pools/mixed")["warning"] is None
    completed(client, job_id, add_task(client, job_id, user_identity=admin))
    assert "cannot read each other's files" in visitor.read("pools/mixed")["warning"]


def test_who_signs_out_is_out_with_every_copy_of_the_cookie(page_service: BatchService, account: str) -> None:
    visitor, copy = Visitor(page_service), Visitor(page_service)
    visitor.enter()
    copy.session.cookies.update(visitor.session.cookies)
    assert copy.ask("overview").status_code == 200
    assert visitor.act("leave", origin="http://elsewhere").status_code == 403
    assert visitor.act("leave").status_code == 204
    assert visitor.ask("overview").status_code == 401
    assert copy.ask("overview").status_code == 401


# --- many


@pytest.fixture(scope="module")
def crowd(client: BatchClient, account: str, page_service: BatchService) -> tuple[Visitor, str]:
    """100,000 tasks, 250 of them failed: rows written while the service is down.

    Returns somebody who was in before that, and a link from before that.
    """
    before, unused = Visitor(page_service), make_link(page_service.url, page_service.key)
    before.enter()
    add_job(client, "workshop", id="crowd")
    page_service.stop()
    database = sqlite3.connect(page_service.data_dir / "state.sqlite3")
    with database:
        (number,) = database.execute(
            "SELECT body ->> 'number' FROM (SELECT CAST(body AS TEXT) AS body FROM documents"
            " WHERE kind = 'job' AND key = 'crowd')"
        ).fetchone()
        execution = b'{"failureInfo":{"category":"UserError","code":"FailureExitCode","message":"no"},"retryCount":0}'
        body = b'{"commandLine":"/bin/true","constraints":{"maxWallClockTime":"PT1H","maxTaskRetryCount":0},"requiredSlots":1}'
        database.executemany(
            "INSERT INTO tasks (job, id, state, since, created, modified, slots, body, node, execution, started, ended,"
            " exit_code, failed) VALUES (?, ?, 4, ?, 1, 1, 1, ?, 'workshop/n', ?, ?, ?, ?, ?)",
            (
                (
                    number, f"t{index:06}", 638000000000000000 + index, body, None if index % 400 else execution,
                    638000000000000000, 638000000000000000 + index, 0 if index % 400 else 9, 0 if index % 400 else 1,
                )
                for index in range(100_000)
            ),
        )  # fmt: skip
        database.execute(
            "INSERT OR REPLACE INTO documents VALUES ('counts', 'crowd', ?)",
            (b'{"counts":[0,0,0,0,99750,250],"slots":[0,0,0,0,99750,250]}',),
        )
    database.close()
    page_service.restart()
    return before, unused


def pages(visitor: Visitor, **query: str) -> list[list[str]]:
    """Up to five pages of task ids."""
    found: list[list[str]] = []
    after = ""
    while len(found) < 5:
        shown = visitor.read("jobs/crowd/tasks", **query, after=after)
        found.append([task["id"] for task in shown["tasks"]])
        after = shown["next"]
        if after is None:
            break
    return found


def test_a_hundred_thousand_tasks_come_in_pages(visitor: Visitor, crowd: tuple[Visitor, str]) -> None:
    assert pages(visitor) == [[f"t{index:06}" for index in range(start, start + 100)] for start in range(0, 500, 100)]
    failed = [f"t{index:06}" for index in reversed(range(0, 100_000, 400))]
    assert pages(visitor, state="failed") == [failed[:100], failed[100:200], failed[200:]]
    assert pages(visitor, state="failed", prefix="t0000") == [["t000000"]]
    assert pages(visitor, prefix="t09999")[0] == [f"t09999{digit}" for digit in range(10)]
    assert pages(visitor, state="succeeded", exit="9") == [[]]
    assert pages(visitor, node="nowhere") == [[]]
    assert pages(visitor, node="n", state="failed", prefix="t0000") == [["t000000"]]
    shown = visitor.read("jobs/crowd")
    assert shown["reasons"][0]["count"] == 250
    assert len(shown["bars"]) == 600


def test_the_cookie_outlives_a_restart_of_the_service_but_no_link_does(
    page_service: BatchService, crowd: tuple[Visitor, str]
) -> None:
    before, unused = crowd
    assert before.ask("overview").status_code == 200
    assert Visitor(page_service).enter(unused).status_code == 403
