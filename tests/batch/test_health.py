from __future__ import annotations

import pytest

from azbatchwrap.batch.health import LOST_PATIENCE, Health
from azbatchwrap.errors import NodeUnusable, NoEligibleNode, ResizeFailed, StartTaskFailed, WaitTimeout
from azbatchwrap.progress import NullProgress

from .conftest import URL, error_body


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def node(node_id="n1", state="idle", **more):
    return {"id": node_id, "state": state, "schedulingState": "enabled", **more}


def show(door, *nodes, prepared=None, **pool):
    """What the service says about the pool from now on."""
    door.answers.reset()
    body = {"id": "p", "state": "active", "allocationState": "steady", "targetDedicatedNodes": len(nodes), **pool}
    door.answers.get(f"{URL}/pools/p", json=body)
    door.answers.get(f"{URL}/pools/p/nodes", json={"value": list(nodes)})
    status = f"{URL}/jobs/j/jobpreparationandreleasetaskstatus"
    if prepared is None:
        door.answers.get(status, status=409, json=error_body("JobPreparationTaskNotSpecified"))
    else:
        door.answers.get(status, json={"value": prepared})


def show_file(door, path, content):
    url = f"{URL}/pools/p/nodes/n1/files/{path.replace('/', '%2F')}"
    door.answers.head(url, headers={"Content-Length": str(len(content))})
    door.answers.get(url, body=content, content_type="application/octet-stream")


def preparation(node_id, result, **info):
    return {"nodeId": node_id, "jobPreparationTaskExecutionInfo": {"state": "completed", "result": result, **info}}


@pytest.fixture
def health(door):
    return Health(door.service, "p", "j", clock=Clock())


@pytest.mark.parametrize("state", ["idle", "running", "creating", "waitingForStartTask", "rebooting", "preempted"])
def test_a_node_that_works_or_will_is_reason_enough_to_wait(door, health, state):
    show(door, node(state=state), node("n2", "startTaskFailed"))
    health.check()


@pytest.mark.parametrize("more", [{"allocationState": "resizing"}, {"enableAutoScale": True}])
def test_a_pool_without_nodes_that_may_get_some_is_waited_for(door, health, more):
    show(door, **more)
    assert health.check() == []


def test_a_pool_without_nodes_and_none_coming_is_an_error(door, health):
    show(door)
    with pytest.raises(NoEligibleNode, match="no nodes and none is coming: resize") as caught:
        health.check()
    assert caught.value.pool_id == "p"


@pytest.mark.parametrize("gone", ["missing", "deleting"])
def test_a_pool_that_is_gone_is_an_error(door, health, gone):
    show(door, node(), state="deleting")
    if gone == "missing":
        door.answers.replace("GET", f"{URL}/pools/p", status=404, json=error_body("PoolNotFound"))
    with pytest.raises(NoEligibleNode, match="does not exist"):
        health.check()


def test_start_tasks_that_failed_everywhere_are_told_with_exit_code_and_stderr(door, health):
    show(door, node(state="startTaskFailed", startTaskInfo={"state": "completed", "exitCode": 3, "result": "failure"}))
    show_file(door, "startup/stderr.txt", b"apt: no such package\n")
    with pytest.raises(StartTaskFailed, match="apt: no such package") as caught:
        health.check()
    assert (caught.value.node_id, caught.value.exit_code) == ("n1", 3)


def test_a_start_task_that_failed_on_one_node_is_mentioned_once(door, health):
    show(door, node("n0"), node(state="startTaskFailed", startTaskInfo={"exitCode": 3}))
    assert health.check() == ["node n1: the start task failed (exit code 3)"]
    assert health.check() == []


def test_a_preparation_that_failed_on_every_node_ends_the_wait(door, health):
    info = {"exitCode": 1, "taskRootDirectory": "workitems/j/job-1/jobpreparation"}
    show(door, node(), prepared=[preparation("n1", "failure", **info)])
    show_file(door, "workitems/j/job-1/jobpreparation/stderr.txt", b"this node cannot be prepared: disk full\n")
    with pytest.raises(NoEligibleNode, match="cannot be prepared: disk full") as caught:
        health.check()
    assert (caught.value.node_id, caught.value.exit_code) == ("n1", 1)


def test_a_preparation_that_failed_on_one_of_two_nodes_does_not(door, health):
    show(door, node(), node("n2"), prepared=[preparation("n1", "failure", exitCode=1), preparation("n2", "success")])
    assert health.check() == ["node n1: the job's preparation failed (exit code 1)"]


def test_a_preparation_that_is_under_way_bars_nothing(door, health):
    show(door, node(), prepared=[{"nodeId": "n1", "jobPreparationTaskExecutionInfo": {"state": "running"}}])
    health.check()


QUOTA_REACHED = [{"code": "AccountCoreQuotaReached", "message": "The core quota is reached."}]


def test_a_resize_that_brought_no_node_is_told_with_its_codes(door):
    health = Health(door.service, "p", "j", patience=0)
    show(door, resizeErrors=QUOTA_REACHED, targetDedicatedNodes=4)
    with pytest.raises(ResizeFailed, match="0 of 4 nodes: AccountCoreQuotaReached: The core quota") as caught:
        health.check()
    assert caught.value.codes == ("AccountCoreQuotaReached",)
    assert "ask Azure for a higher quota" in str(caught.value)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_lack_of_nodes_is_waited_out_as_long_as_patience_lasts(door, scaled):
    clock = Clock()
    health = Health(door.service, "p", "j", patience=100, clock=clock)
    show(door, resizeErrors=QUOTA_REACHED, targetDedicatedNodes=4, enableAutoScale=scaled)
    door.answers.post(f"{URL}/pools/p/resize", status=202)
    assert health.check() == ["pool p has 0 of 4 nodes: AccountCoreQuotaReached: The core quota is reached."]
    clock.now = 99
    assert health.check() == []
    resizes = [call.request for call in door.answers.calls if call.request.method == "POST"]
    assert len(resizes) == (0 if scaled else 2)  # a formula asks again by itself
    clock.now = 100
    with pytest.raises(ResizeFailed):
        health.check()


def test_patience_begins_anew_once_there_was_a_node(door):
    clock = Clock()
    health = Health(door.service, "p", "j", patience=100, clock=clock)
    for now, nodes in ((0, []), (90, [node()]), (150, []), (200, [])):
        clock.now = now
        show(door, *nodes, resizeErrors=QUOTA_REACHED, targetDedicatedNodes=4)
        door.answers.post(f"{URL}/pools/p/resize", status=409, json=error_body("PoolBeingResized"))
        health.check()


def test_a_resize_that_brought_some_nodes_is_mentioned(door, health):
    errors = [{"code": "AllocationFailed", "message": "No room."}]
    show(door, node(), resizeErrors=errors, currentDedicatedNodes=1, targetDedicatedNodes=2)
    assert health.check() == ["pool p has 1 of 2 nodes: AllocationFailed: No room."]


def test_lost_nodes_are_given_time_to_come_back(door, health):
    show(door, node(state="unusable", errors=[{"code": "AgentDown", "message": "gone"}]))
    assert health.check() == ["node n1 is unusable"]
    health.clock.now = LOST_PATIENCE + 1
    with pytest.raises(NodeUnusable, match="AgentDown: gone") as caught:
        health.check()
    assert caught.value.node_id == "n1"


def test_a_node_that_came_back_starts_the_patience_anew(door, health):
    show(door, node(state="unusable"))
    health.check()
    show(door, node())
    health.check()
    show(door, node(state="unusable"))
    health.clock.now = LOST_PATIENCE + 1
    health.check()


def test_nodes_that_take_no_tasks_are_no_reason_to_wait(door, health):
    show(door, node(schedulingState="disabled"))
    with pytest.raises(NoEligibleNode, match="no node that takes tasks"):
        health.check()


def test_waiting_for_nodes_ends_when_they_are_ready(door, health):
    show(door, node(state="starting"), node("n2"))
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        show(door, node(), node("n2"))

    assert health.wait_until_ready(1.0, None, NullProgress(), sleep) == 2
    assert looks == [1.0]


def test_waiting_for_nodes_ends_with_those_that_came(door, health):
    show(door, node(), resizeErrors=[{"code": "AllocationFailed", "message": "No room."}], targetDedicatedNodes=3)
    assert health.wait_until_ready(1.0, None, NullProgress()) == 1


def test_waiting_for_nodes_takes_no_longer_than_it_may(door, health):
    show(door, node(state="starting"))

    def sleep(seconds):
        health.clock.now += seconds

    with pytest.raises(WaitTimeout, match="0 of 1 nodes"):
        health.wait_until_ready(1.0, 5.0, NullProgress(), sleep)
