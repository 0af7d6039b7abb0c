from __future__ import annotations

import json

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.backoff import Backoff
from azbatchwrap.batch.submit import Submission, chunks
from azbatchwrap.errors import Conflict, ServiceError, Unreachable

from .conftest import URL, error_body

ADD = f"{URL}/jobs/j/addtaskcollection"


def task(task_id: str, value: str = "1") -> tuple[str, bytes]:
    body = {"id": task_id, "commandLine": "true", "environmentSettings": [{"name": "A", "value": value}]}
    return task_id, json.dumps(body).encode()


def success(task_id: str) -> dict[str, object]:
    return {"taskId": task_id, "status": "Success", "eTag": "0x1"}


def failure(task_id: str, status: str, code: str) -> dict[str, object]:
    return {"taskId": task_id, "status": status, "error": error_body(code)}


def add(door, tasks, **options):
    options = {"concurrency": 2, "backoff": Backoff(attempts=3), "sleep": door.pauses.append, **options}
    return Submission(door.service, "j", **options).run(tasks)


def play(door, answer) -> list[list[str]]:
    """Play the service with ``answer(ids, count)``: results, a whole response or an exception; the ids of each request."""
    seen: list[list[str]] = []

    def callback(request):
        ids = [item["id"] for item in json.loads(request.body)["value"]]
        seen.append(ids)
        given = answer(ids, len(seen))
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, tuple) else (200, {}, json.dumps({"value": given}))

    door.answers.add_callback("POST", ADD, callback)
    return seen


def all_well(ids, _count):
    return [success(task_id) for task_id in reversed(ids)]


def test_tasks_go_out_a_hundred_at_a_time(door):
    seen = play(door, all_well)
    assert add(door, [task(f"t{n}") for n in range(250)]) == 250
    assert sorted(map(len, seen)) == [50, 100, 100]
    assert sorted(task_id for ids in seen for task_id in ids) == sorted(f"t{n}" for n in range(250))


def test_an_iterator_is_read_no_faster_than_requests_leave(door):
    drawn = 0
    most_ahead = 0
    seen = play(door, all_well)

    def tasks():
        nonlocal drawn, most_ahead
        for n in range(2000):
            drawn += 1
            most_ahead = max(most_ahead, drawn - sum(map(len, seen)))
            yield task(f"t{n}")

    assert add(door, tasks()) == 2000
    # Two requests in flight, one waiting for a worker, one being filled, and the task that was just drawn.
    assert most_ahead <= 4 * 100 + 1


def test_no_tasks_make_no_request(door):
    assert add(door, []) == 0
    assert len(door.answers.calls) == 0


def test_a_task_the_service_failed_on_is_sent_again_alone(door):
    seen = play(
        door,
        lambda ids, count: [
            failure(task_id, "serverError", "InternalError") if (task_id, count) == ("b", 1) else success(task_id)
            for task_id in ids
        ],
    )
    assert add(door, [task("a"), task("b"), task("c")]) == 3
    assert seen == [["a", "b", "c"], ["b"]]
    assert len(door.pauses) == 1


def test_a_task_the_service_keeps_failing_on_is_given_up(door):
    seen = play(door, lambda ids, _: [failure(task_id, "servererror", "InternalError") for task_id in ids])
    with pytest.raises(ServiceError, match="kept failing"):
        add(door, [task("a")])
    assert len(seen) == 3


def test_a_refused_task_is_not_sent_again_and_the_others_are_added(door):
    seen = play(
        door,
        lambda ids, _: [
            failure(task_id, "clienterror", "InvalidPropertyValue") if task_id == "b" else success(task_id)
            for task_id in ids
        ],
    )
    with pytest.raises(
        ServiceError, match=r"1 tasks were refused, 2 were added\n  - task b: InvalidPropertyValue"
    ) as caught:
        add(door, [task("a"), task("b"), task("c")])
    assert caught.value.code == "InvalidPropertyValue"
    assert len(seen) == 1


def test_a_task_that_exists_already_is_refused_on_a_first_answer(door):
    play(door, lambda ids, _: [failure(task_id, "clienterror", "TaskExists") for task_id in ids])
    with pytest.raises(Conflict) as caught:
        add(door, [task("a")])
    assert caught.value.code == "TaskExists"


def lost_once(ids, count):
    if count == 1:
        return requests.exceptions.ReadTimeout("the answer did not come")
    return [failure(task_id, "clienterror", "TaskExists") for task_id in ids]


def test_after_a_lost_answer_a_task_that_exists_is_added_if_it_is_the_same(door):
    play(door, lost_once)
    door.answers.get(f"{URL}/jobs/j/tasks/a", json=json.loads(task("a")[1]))
    assert add(door, [task("a")]) == 1


def test_after_a_lost_answer_a_task_of_somebody_else_is_refused(door):
    play(door, lost_once)
    door.answers.get(f"{URL}/jobs/j/tasks/a", json=json.loads(task("a", "another")[1]))
    with pytest.raises(Conflict):
        add(door, [task("a")])


def test_a_request_that_is_too_large_is_halved_until_it_fits(door):
    def answer(ids, _count):
        if len(ids) > 2:
            return 413, {}, json.dumps(error_body("RequestBodyTooLarge", MaxLimit="1048576"))
        return all_well(ids, _count)

    seen = play(door, answer)
    assert add(door, [task(f"t{n}") for n in range(7)]) == 7
    assert max(len(ids) for ids in seen[1:]) <= 4


def test_one_task_that_is_too_large_is_refused_by_name_and_the_rest_added(door):
    def answer(ids, _count):
        if "big" in ids:
            return 413, {}, json.dumps(error_body("RequestBodyTooLarge"))
        return all_well(ids, _count)

    play(door, answer)
    with pytest.raises(ServiceError, match="1 tasks were refused, 3 were added"):
        add(door, [task("a"), task("big"), task("c"), task("d")])


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_whole_request_that_fails_is_retried_then_given_up(door, status):
    seen = play(door, lambda _ids, _count: (status, {"Retry-After": "1"}, json.dumps(error_body("ServerBusy"))))
    with pytest.raises(ServiceError) as caught:
        add(door, [task("a")])
    assert caught.value.status == status
    assert len(seen) == 4


def test_an_unreachable_service_stops_the_submission_early(door):
    drawn = 0

    def tasks():
        nonlocal drawn
        for n in range(100_000):
            drawn += 1
            yield task(f"t{n}")

    play(door, lambda _ids, _count: requests.exceptions.ConnectTimeout("no"))
    with pytest.raises(Unreachable):
        add(door, tasks())
    assert drawn < 2000


def test_an_error_of_the_iterator_itself_comes_through(door):
    play(door, all_well)

    def tasks():
        yield task("a")
        raise LookupError("the data ended early")

    with pytest.raises(LookupError):
        add(door, tasks())


def test_an_answer_cut_off_is_sent_again(door):
    def answer(ids, count):
        return (200, {}, '{"value":[{"taskId":"a","st') if count == 1 else all_well(ids, count)

    seen = play(door, answer)
    assert add(door, [task("a")]) == 1
    assert seen == [["a"], ["a"]]


def test_results_that_name_fewer_tasks_than_were_sent_are_not_believed(door):
    seen = play(door, lambda ids, count: all_well(ids[:1] if count == 1 else ids, count))
    assert add(door, [task("a"), task("b")]) == 2
    assert seen == [["a", "b"], ["b"]]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 7), st.integers(10, 120))
def test_chunks_keep_order_and_limits(sizes, most, most_bytes):
    tasks = [(f"t{n}", b"x" * size) for n, size in enumerate(sizes)]
    made = list(chunks(tasks, most=most, most_bytes=most_bytes))
    assert [one for chunk in made for one in chunk] == tasks
    for chunk in made:
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(len(body) + 1 for _, body in chunk) <= most_bytes
