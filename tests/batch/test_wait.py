from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from azbatchwrap.batch.health import Health
from azbatchwrap.batch.service import parse_time, wire_time
from azbatchwrap.batch.wait import LOCAL_PACE, OUTAGE_PATIENCE, Pace, Waiter
from azbatchwrap.errors import NoEligibleNode, NotFound, Unreachable, WaitTimeout
from azbatchwrap.progress import NullProgress

from .conftest import URL, error_body

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
TASKS = f"{URL}/jobs/j/tasks"


class Job:
    """A job that lives in seconds of a clock which only moves when somebody sleeps.

    ``ends`` says at which second a task ends, and how; tasks without an entry stay active.
    """

    def __init__(self, door, ends, parents=None) -> None:
        self.now = 0.0
        self.ends = dict(ends)
        self.parents = parents or {}
        self.terminated: list[str] = []
        self.state = "active"
        self.asked: list[tuple[str, int]] = []
        answers = door.answers
        answers.add_callback("GET", TASKS, self._list)
        answers.add_callback("POST", re.compile(rf"{TASKS}/[^/]+/terminate"), self._terminate)
        answers.add_callback("GET", f"{URL}/jobs/j", lambda _: self._json(self._job()))
        answers.get(f"{URL}/pools/p", json={"id": "p", "state": "active", "allocationState": "steady"})
        answers.get(f"{URL}/pools/p/nodes", json={"value": [{"id": "n", "state": "idle"}]})
        answers.get(f"{URL}/jobs/j/jobpreparationandreleasetaskstatus", json={"value": []})
        self.waiter = Waiter(
            door.service, "j", Health(door.service, "p", "j"), LOCAL_PACE, NullProgress(),
            clock=lambda: self.now, sleep=self._sleep,
        )  # fmt: skip

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 10_000, "the wait does not end"

    def _job(self):
        return {"id": "j", "state": self.state, "executionInfo": {"terminateReason": "MaxWallClockTimeExpiry"}}

    def _task(self, task_id):
        second, result = self.ends.get(task_id, (float("inf"), ""))
        over = second <= self.now
        moment = START + timedelta(seconds=second if over else 0)
        return {
            "id": task_id,
            "state": "completed" if over else "active",
            "stateTransitionTime": wire_time(moment),
            "executionInfo": {"result": result} if over else {},
            **({"dependsOn": {"taskIds": self.parents[task_id]}} if task_id in self.parents else {}),
        }

    def _list(self, request):
        query = parse_qs(urlsplit(request.url).query)
        text = query.get("$filter", [""])[0]
        tasks = [self._task(task_id) for task_id in [*self.ends, *(set(self.parents) - set(self.ends))]]
        if "state eq 'completed'" in text:
            tasks = [task for task in tasks if task["state"] == "completed"]
        if "state ne 'completed'" in text:
            tasks = [task for task in tasks if task["state"] != "completed"]
        if since := re.search(r"stateTransitionTime ge datetime'([^']+)'", text):
            tasks = [task for task in tasks if parse_time(task["stateTransitionTime"]) >= parse_time(since[1])]
        self.asked.append((text, len(tasks)))
        return self._json({"value": tasks})

    def _terminate(self, request):
        task_id = urlsplit(request.url).path.split("/")[-2]
        self.terminated.append(task_id)
        self.ends[task_id] = (self.now, "failure")
        return 204, {}, ""

    @staticmethod
    def _json(body):
        return 200, {"Content-Type": "application/json"}, json.dumps(body)


def test_waiting_ends_with_the_last_task(door):
    job = Job(door, {"a": (1, "success"), "b": (7.5, "failure")})
    job.waiter.run()
    assert 7.5 <= job.now < 9


def test_a_job_without_tasks_is_not_waited_for(door):
    job = Job(door, {})
    job.waiter.run()
    assert job.now == 0


def test_looks_cost_what_changed_and_not_what_there_is(door):
    job = Job(door, {f"t{n}": (n, "success") for n in range(60)})
    job.waiter.run()
    first, *looks, last = job.asked
    assert first == ("", 60)
    assert last == ("state ne 'completed'", 0)
    # Each task is seen again for as long as looks go back, and no longer.
    assert max(count for _, count in looks[:-1]) <= 5


def test_tasks_added_meanwhile_are_waited_for_too(door):
    job = Job(door, {"a": (1, "success")})
    original = job._sleep

    def sleep(seconds):
        original(seconds)
        if job.now > 0.5:
            job.ends.setdefault("late", (5, "success"))

    job.waiter.sleep = sleep
    job.waiter.run()
    assert job.now >= 5


def test_a_task_that_shows_late_in_the_lists_is_found_all_the_same(door):
    # It completed long before what was seen last, and its time lies outside every later look.
    job = Job(door, {"a": (8, "success"), "b": (60, "success"), "shy": (1e9, "")})
    original = job._sleep

    def sleep(seconds):
        original(seconds)
        if job.now > 10 and job.ends["shy"][0] > 2:
            job.ends["shy"] = (2, "success")

    job.waiter.sleep = sleep
    job.waiter.run()
    assert job.now < 75


@pytest.mark.parametrize("order", ["parents first", "children first"])
def test_dependents_of_a_failure_are_ended_down_the_line(door, order):
    parents = {"child": ["parent", "other"], "grandchild": ["child"]}
    ends = {"parent": (3, "failure"), "other": (1, "success"), "child": (1e9, ""), "grandchild": (1e9, "")}
    job = Job(door, ends if order == "parents first" else dict(reversed(ends.items())), parents)
    job.waiter.run()
    assert job.terminated == ["child", "grandchild"]


def test_dependents_of_a_task_that_failed_before_the_wait_are_ended(door):
    job = Job(door, {"child": (1e9, ""), "parent": (0, "failure")}, {"child": ["parent"]})
    job.waiter.run()
    assert job.terminated == ["child"]


def test_a_dependent_that_cannot_be_ended_does_not_end_the_wait(door):
    job = Job(door, {"parent": (0, "failure"), "child": (4, "failure")}, {"child": ["parent"]})
    pattern = re.compile(rf"{TASKS}/[^/]+/terminate")
    door.answers.remove("POST", pattern)
    door.answers.post(pattern, status=409, json=error_body("TaskCompleted"))
    job.waiter.run()
    assert job.now >= 4


def test_a_job_that_has_ended_is_not_waited_for(door):
    job = Job(door, {"a": (1e9, "")})
    original = job._sleep

    def sleep(seconds):
        original(seconds)
        if job.now > 3:
            job.state = "completed"

    job.waiter.sleep = sleep
    job.waiter.run()
    assert 3 < job.now < 6


def test_the_time_given_is_kept_to_the_second(door):
    job = Job(door, {"a": (1e9, ""), "b": (1, "success")})
    with pytest.raises(WaitTimeout, match="1 tasks are not done after 5 s"):
        job.waiter.run(timeout=5)
    assert job.now == pytest.approx(5)


def test_a_time_of_nothing_still_looks_once(door):
    Job(door, {"a": (0, "success")}).waiter.run(timeout=0)
    with pytest.raises(WaitTimeout):
        Job(door, {"a": (1, "success")}).waiter.run(timeout=0)


def test_a_pool_that_cannot_run_the_rest_ends_the_wait(door):
    job = Job(door, {"a": (1e9, "")})
    door.answers.replace("GET", f"{URL}/pools/p/nodes", json={"value": []})
    with pytest.raises(NoEligibleNode):
        job.waiter.run()


def test_a_service_that_is_away_for_a_while_does_not_end_the_wait(door):
    job = Job(door, {"a": (30, "success")})
    answer, away = job._list, []

    def sometimes(request):
        if 2 < job.now < 20:
            away.append(job.now)
            raise requests.exceptions.ConnectTimeout("restarting")
        return answer(request)

    door.answers.remove("GET", TASKS)
    door.answers.add_callback("GET", TASKS, sometimes)
    job.waiter.run()
    assert away
    assert job.now >= 30


def test_a_service_that_stays_away_does(door):
    job = Job(door, {"a": (1e9, "")})
    job.waiter.pace = Pace(1.0, 10.0, 1e9)

    def away(_request):
        raise requests.exceptions.ConnectTimeout("gone")

    def sleep(seconds):
        job.now += seconds
        door.answers.remove("GET", TASKS)
        door.answers.add_callback("GET", TASKS, away)

    job.waiter.sleep = sleep
    with pytest.raises(Unreachable):
        job.waiter.run()
    assert OUTAGE_PATIENCE <= job.now < OUTAGE_PATIENCE + 60


def test_a_job_that_is_gone_is_not_found(door):
    door.answers.get(TASKS, status=404, json=error_body("JobNotFound"))
    with pytest.raises(NotFound):
        Waiter(door.service, "j", Health(door.service, "p", "j"), LOCAL_PACE).run()


def test_the_pace_slows_while_nothing_happens_and_quickens_when_something_does():
    pace = Pace(1.0, 10.0, 15.0)
    interval = pace.shortest
    for _ in range(20):
        interval = pace.next(interval, changed=False)
    assert interval == pace.longest
    assert pace.next(interval, changed=True) == 5.0
    assert pace.next(1.0, changed=True) == 1.0
