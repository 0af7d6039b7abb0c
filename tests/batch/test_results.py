from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.results import Results
from azbatchwrap.errors import NotFound
from azbatchwrap.storage import BlobEntry

from .conftest import URL, error_body

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
T1, T2 = "2026-01-01T10:00:00.1234567Z", "2026-01-01T10:00:05Z"


class Folder:
    """Blobs in a dictionary: the calls that results need of storage."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.written = 0

    def read_bytes(self, container, blob):
        try:
            return self.blobs[blob]
        except KeyError:
            raise NotFound(blob, status=404) from None

    def write_bytes(self, container, blob, data):
        self.blobs[blob] = data
        self.written += 1

    def list_blobs(self, container, prefix):
        return [BlobEntry(name, len(self.blobs[name]), "", NOW) for name in self.blobs if name.startswith(prefix)]

    def read_end(self, container, blob, size):
        return self.read_bytes(container, blob)[-size:]


@pytest.fixture
def blobs():
    return Folder()


def facts(state="completed", reason="AllTasksComplete"):
    return JobFacts("j", state, "p", "d", "files", "out", datetime(2026, 2, 1, tzinfo=timezone.utc), reason)


def task(task_id="task-000001", state="completed", *, info=None, **more):
    return {"id": task_id, "state": state, "executionInfo": {"startTime": T1, "endTime": T2, **(info or {})}, **more}


def never_ran(task_id="task-000001", state="completed", *, info=None, **more):
    return {"id": task_id, "state": state, "executionInfo": info or {}, **more}


ENDED = {"failureInfo": {"category": "UserError", "code": "TaskEnded", "message": "Task Was Ended by User Request"}}


def collect(door, blobs, *tasks, job=None):
    door.answers.get(f"{URL}/jobs/j/tasks", json={"value": list(tasks)})
    return Results(door.service, blobs, job or facts()).collect()


def leave(blobs, task_id="task-000001", **record):
    body = {"version": 1, "job": "j", "task": task_id, "node": "n", "state": "succeeded", "attempts": 1, **record}
    blobs.blobs[f"j/{task_id}/result.json"] = json.dumps(body).encode()


def test_a_success_is_read_from_what_the_engine_left(door, blobs):
    steps = [{"name": "1_task.py", "state": "succeeded", "started": T1, "seconds": 0.5, "value": 3}]
    leave(blobs, value={"price": 1.5}, steps=steps, outputs=["a/b.txt"])
    (result,) = collect(door, blobs, task(info={"exitCode": 0, "result": "success"}, nodeInfo={"nodeId": "n1"}))
    assert (result.state, result.value, result.is_repr, result.error) == ("succeeded", {"price": 1.5}, False, None)
    assert (result.exit_code, result.node_id, result.attempts, result.outputs) == (0, "n1", 1, ("a/b.txt",))
    assert result.steps[0].value == 3
    assert result.started == datetime(2026, 1, 1, 10, 0, 0, 123456, timezone.utc)
    assert result.index == 0


def test_a_value_that_json_cannot_hold_is_its_repr_and_said_so(door, blobs):
    leave(blobs, repr="<object>", steps=[])
    (result,) = collect(door, blobs, task(info={"exitCode": 0}))
    assert (result.value, result.is_repr) == ("<object>", True)


def test_a_failed_step_gives_the_error_with_its_traceback(door, blobs):
    error = {"type": "ValueError", "message": "no", "traceback": "Traceback …"}
    leave(blobs, state="failed", steps=[{"name": "1_task.py", "state": "failed", "seconds": 0.1, "error": error}])
    (result,) = collect(door, blobs, task(info={"exitCode": 1, "result": "failure"}))
    assert (result.state, str(result.error), result.error.traceback) == ("failed", "ValueError: no", "Traceback …")


def test_an_exit_code_after_a_good_record_is_still_a_failure(door, blobs):
    leave(blobs, value=1)
    (result,) = collect(door, blobs, task(info={"exitCode": 9}))
    assert (result.state, result.value, result.error.type) == ("failed", None, "ExitCode")


def test_outputs_that_could_not_be_uploaded_are_a_failure(door, blobs):
    leave(blobs, value=1)
    failure = {
        "code": "FileUploadMiscError",
        "message": "An upload failed",
        "details": [{"name": "File", "value": "x"}],
    }
    (result,) = collect(door, blobs, task(info={"exitCode": 0, "failureInfo": failure}))
    assert (result.state, result.error.type) == ("failed", "FileUploadMiscError")
    assert "File: x" in result.error.message


def test_a_task_killed_in_the_middle_keeps_the_steps_it_had_and_its_last_words(door, blobs):
    steps = [{"name": "1_task.py", "state": "succeeded", "seconds": 1.0}, {"name": "2_task.py", "state": "running"}]
    leave(blobs, state="running", steps=steps)
    blobs.blobs["j/task-000001/stderr.txt"] = b"one\nKilled\n"
    (result,) = collect(door, blobs, task(info={"exitCode": 137, "result": "failure"}))
    assert (result.state, result.exit_code) == ("failed", 137)
    assert [step.name for step in result.steps] == ["1_task.py", "2_task.py"]
    assert "exit code 137; its last words: Killed" in result.error.message


def test_the_end_of_stderr_comes_from_the_node_when_nothing_was_uploaded(door, blobs):
    file = f"{URL}/jobs/j/tasks/task-000001/files/stderr.txt"
    door.answers.head(file, headers={"Content-Length": "6"})
    door.answers.get(file, body=b"oh no\n")
    (result,) = collect(door, blobs, task(info={"exitCode": 1}))
    assert "oh no" in result.error.message


def test_a_task_that_never_started_is_told_by_the_service_and_gets_a_record(door, blobs):
    failure = {"code": "BlobNotFound", "message": "One of the blobs", "details": [{"name": "u", "value": "x?sig=abc"}]}
    (result,) = collect(door, blobs, never_ran(info={"failureInfo": failure, "result": "failure"}))
    assert (result.state, result.error.type, result.started) == ("failed", "BlobNotFound", None)
    record = json.loads(blobs.blobs["j/task-000001/result.json"])
    assert (record["state"], record["error"]["type"]) == ("failed", "BlobNotFound")
    assert "abc" not in json.dumps(record)


def test_a_result_told_once_is_told_the_same_again(door, blobs):
    first = collect(door, blobs, never_ran(info=ENDED))
    assert collect(door, blobs, never_ran(info=ENDED)) == first
    assert blobs.written == 1


def test_a_success_without_a_record_is_lost(door, blobs):
    (result,) = collect(door, blobs, task(info={"exitCode": 0, "result": "success"}))
    assert (result.state, result.error.type) == ("lost", "ResultLost")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"task": "another"}'])
def test_a_record_that_is_not_this_tasks_is_not_believed(door, blobs, content):
    blobs.blobs["j/task-000001/result.json"] = content
    (result,) = collect(door, blobs, task(info={"exitCode": 0}))
    assert result.state == "lost"


def test_a_terminated_task_is_cancelled(door, blobs):
    (result,) = collect(door, blobs, task(info=ENDED))
    assert (result.state, result.error.type) == ("cancelled", "TaskEnded")


def test_a_task_that_ran_past_its_own_limit_failed_of_it(door, blobs):
    (result,) = collect(door, blobs, task(info=ENDED, constraints={"maxWallClockTime": "PT4S"}))
    assert (result.state, result.error.type) == ("failed", "TimeoutError")


def test_the_end_of_the_job_is_why_a_task_was_ended_or_never_ran(door, blobs):
    job = facts(reason="MaxWallClockTimeExpiry")
    ran, waited = collect(door, blobs, task(info=ENDED), never_ran("task-000002", "active"), job=job)
    assert (ran.state, waited.state) == ("cancelled", "cancelled")
    assert "MaxWallClockTimeExpiry" in ran.error.message
    assert "MaxWallClockTimeExpiry" in waited.error.message


def test_dependents_of_a_failure_say_so_down_the_line(door, blobs):
    failed = task(info={"exitCode": 1})
    door.answers.head(f"{URL}/jobs/j/tasks/task-000001/files/stderr.txt", status=404, json=error_body("FileNotFound"))
    child = never_ran("task-000002", info=ENDED, dependsOn={"taskIds": ["task-000001"]})
    grandchild = never_ran("task-000003", info=ENDED, dependsOn={"taskIds": ["task-000002"]})
    _, second, third = collect(door, blobs, failed, child, grandchild)
    assert (second.state, str(second.error)) == (
        "cancelled", "DependencyFailed: task task-000001, which it depends on, failed",
    )  # fmt: skip
    assert third.error.type == "DependencyFailed"


def test_results_come_in_submission_order_with_strangers_last(door, blobs):
    shuffled = [
        never_ran("zebra", info=ENDED, displayName="#1 1_task.py"),
        never_ran("stranger", info=ENDED),
        never_ran("task-000003", info=ENDED),
        never_ran("task-000001", info=ENDED),
    ]
    results = collect(door, blobs, *shuffled)
    assert [result.task_id for result in results] == ["task-000001", "zebra", "task-000003", "stranger"]


def test_tasks_still_at_work_are_left_out(door, blobs):
    leave(blobs, value=1)
    job = facts("active", "")
    results = collect(door, blobs, task(info={"exitCode": 0}), task("task-000002", "running"), job=job)
    assert [result.task_id for result in results] == ["task-000001"]
