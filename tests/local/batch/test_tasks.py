"""Tasks over the real SDK: what is answered, what is run, how they end."""

from __future__ import annotations

import datetime as dt

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed, read_file
from tests.waiting import wait_until


def test_a_task_runs_as_a_process_and_leaves_its_output(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "echo out; echo err >&2; pwd")

    task = completed(client, job_id, task_id)

    assert task.execution_info.exit_code == 0
    assert task.execution_info.result == models.BatchTaskExecutionResult.SUCCESS
    assert task.execution_info.start_time <= task.execution_info.end_time
    assert task.previous_state == models.BatchTaskState.RUNNING
    assert task.node_info.task_root_directory == f"workitems/{job_id}/job-1/{task_id}"
    assert read_file(client, job_id, task_id).splitlines()[0] == "out"
    assert read_file(client, job_id, task_id).splitlines()[1].endswith(f"/workitems/{job_id}/job-1/{task_id}/wd")
    assert read_file(client, job_id, task_id, "stderr.txt") == "err\n"


def test_a_new_task_is_answered_with_the_services_defaults(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes", constraints=models.BatchJobConstraints(max_task_retry_count=5))
    add_task(client, job_id, "/bin/true", id="a")

    task = client.get_task(job_id, "a").as_dict()

    assert task["state"] == "active"
    assert task["constraints"] == {
        "maxWallClockTime": "P10675199DT2H48M5.4775807S",
        "retentionTime": "P7D",
        "maxTaskRetryCount": 5,
    }
    assert task["userIdentity"] == {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}
    assert task["requiredSlots"] == 1
    assert task["executionInfo"] == {"retryCount": 0, "requeueCount": 0}
    assert "nodeInfo" not in task
    assert "previousState" not in task
    assert task["creationTime"] == task["lastModified"] == task["stateTransitionTime"]


def test_a_failed_command_says_so(client: BatchClient, job_id: str) -> None:
    task = completed(client, job_id, add_task(client, job_id, "exit 3"))

    assert task.execution_info.exit_code == 3
    assert task.execution_info.result == models.BatchTaskExecutionResult.FAILURE
    assert task.execution_info.failure_info.category == "UserError"
    assert task.execution_info.failure_info.code == "FailureExitCode"


def test_a_program_that_is_not_there_fails_before_it_runs(client: BatchClient, job_id: str) -> None:
    task = completed(client, job_id, add_task(client, job_id, "/no/such/program"))

    assert task.execution_info.exit_code is None
    assert task.execution_info.failure_info.code == "CommandProgramNotFound"
    assert task.node_info.node_id


def test_command_lines_are_not_given_to_a_shell(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "/bin/echo $HOME | cat")
    completed(client, job_id, task_id)
    assert read_file(client, job_id, task_id) == "$HOME | cat\n"


def test_retries_are_counted_and_end(client: BatchClient, job_id: str) -> None:
    task_id = add_task(
        client, job_id, "echo again; exit 1", constraints=models.BatchTaskConstraints(max_task_retry_count=2)
    )

    task = completed(client, job_id, task_id)

    assert task.execution_info.retry_count == 2
    assert task.execution_info.last_retry_time is not None
    assert task.execution_info.requeue_count == 0


def test_the_wall_clock_ends_a_task(client: BatchClient, job_id: str) -> None:
    limit = models.BatchTaskConstraints(max_wall_clock_time=dt.timedelta(seconds=0.5))
    task = completed(client, job_id, add_task(client, job_id, "sleep 60", constraints=limit))

    assert task.execution_info.failure_info.code == "TaskEnded"
    assert task.execution_info.end_time - task.execution_info.start_time < dt.timedelta(seconds=30)


def test_environment_of_job_task_and_service(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(
        client,
        pool_id,
        common_environment_settings=[
            models.EnvironmentSetting(name="BOTH", value="job"),
            models.EnvironmentSetting(name="JOB", value="ünï $x\n'q'"),
        ],
    )
    task_id = add_task(
        client,
        job_id,
        "/usr/bin/env -0",
        environment_settings=[models.EnvironmentSetting(name="BOTH", value="task")],
    )
    completed(client, job_id, task_id)

    found = dict(entry.split("=", 1) for entry in read_file(client, job_id, task_id).split("\0") if entry)
    assert found["BOTH"] == "task"
    assert found["JOB"] == "ünï $x\n'q'"
    assert found["AZ_BATCH_JOB_ID"] == job_id
    assert found["AZ_BATCH_TASK_ID"] == task_id
    assert found["AZ_BATCH_POOL_ID"] == pool_id
    assert found["AZ_BATCH_NODE_SHARED_DIR"].endswith("/shared")
    assert "USER" not in found


def test_terminating_a_running_task(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "sleep 60")
    wait_until(lambda: client.get_task(job_id, task_id).state == models.BatchTaskState.RUNNING)

    client.terminate_task(job_id, task_id)

    task = completed(client, job_id, task_id)
    assert task.execution_info.failure_info.code == "TaskEnded"
    with pytest.raises(ResourceExistsError) as refused:
        client.terminate_task(job_id, task_id)
    assert refused.value.error.code == "TaskCompleted"


def test_terminating_a_task_that_never_ran(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    task_id = add_task(client, job_id)

    client.terminate_task(job_id, task_id)

    task = client.get_task(job_id, task_id).as_dict()
    assert task["state"] == "completed"
    assert task["previousState"] == "active"
    assert task["nodeInfo"] == {}
    assert "startTime" not in task["executionInfo"]
    assert client.get_job_task_counts(job_id).task_counts.failed == 1


def test_reactivation_runs_a_failed_task_again(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "test -e ../mark || { touch ../mark; exit 1; }")
    assert completed(client, job_id, task_id).execution_info.exit_code == 1

    client.reactivate_task(job_id, task_id)

    assert completed(client, job_id, task_id).execution_info.exit_code == 0
    with pytest.raises(ResourceExistsError) as refused:
        client.reactivate_task(job_id, task_id)
    assert refused.value.error.code == "TaskSucceeded"


def test_replacing_constraints(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    task_id = add_task(client, job_id)
    before = client.get_task(job_id, task_id)
    before.constraints = models.BatchTaskConstraints(max_task_retry_count=3)

    client.replace_task(job_id, task_id, before)

    after = client.get_task(job_id, task_id)
    assert after.constraints.max_task_retry_count == 3
    assert after.etag != before.etag


def test_deleting_a_task_takes_its_files_and_its_count(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id)
    completed(client, job_id, task_id)
    node = client.get_task(job_id, task_id).node_info

    client.delete_task(job_id, task_id)

    with pytest.raises(ResourceNotFoundError) as missing:
        client.get_task(job_id, task_id)
    assert missing.value.error.code == "TaskNotFound"
    assert client.get_job_task_counts(job_id).task_counts.completed == 0
    names = {file.name for file in client.list_node_files(node.pool_id, node.node_id, recursive=True)}
    assert node.task_root_directory not in names


def test_deleting_a_running_task_ends_it(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "sleep 60")
    wait_until(lambda: client.get_task(job_id, task_id).state == models.BatchTaskState.RUNNING)

    client.delete_task(job_id, task_id)

    counts = client.get_job_task_counts(job_id).task_counts
    assert (counts.active, counts.running, counts.completed) == (0, 0, 0)
    add_task(client, job_id, id=task_id)
    completed(client, job_id, task_id)


def test_a_collection_of_many_with_one_that_is_there_already(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    add_task(client, job_id, id="t7")
    tasks = [models.BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/true") for number in range(250)]

    result = client.create_tasks(job_id, tasks)

    assert len(result.result_values) == 250
    assert client.get_job_task_counts(job_id).task_counts.active == 250
    assert len(list(client.list_tasks(job_id))) == 250


def test_a_collection_reports_each_refused_task(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    group = models.BatchTaskGroup(
        task_values=[
            models.BatchTaskCreateOptions(id="good", command_line="/bin/true"),
            models.BatchTaskCreateOptions(id="bad id", command_line="/bin/true"),
            models.BatchTaskCreateOptions(id="GOOD", command_line="/bin/true"),
            models.BatchTaskCreateOptions(id="open-quote", command_line="/bin/sh -c 'x"),
        ]
    )

    results = client.create_task_collection(job_id, group).result_values

    assert [result.status for result in results] == [
        "Success", models.BatchTaskAddStatus.CLIENT_ERROR,
        models.BatchTaskAddStatus.CLIENT_ERROR, models.BatchTaskAddStatus.CLIENT_ERROR,
    ]  # fmt: skip
    assert [result.error.code for result in results[1:]] == [
        "InvalidPropertyValue",
        "TaskExists",
        "InvalidPropertyValue",
    ]
    assert [task.id for task in client.list_tasks(job_id)] == ["good"]


def test_a_collection_holds_at_most_100_tasks(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    tasks = [models.BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/true") for number in range(101)]
    with pytest.raises(HttpResponseError) as refused:
        client.create_task_collection(job_id, models.BatchTaskGroup(task_values=tasks))
    assert refused.value.status_code == 400
    assert client.get_job_task_counts(job_id).task_counts.active == 0


def test_a_body_over_one_mebibyte_is_refused(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    settings = [models.EnvironmentSetting(name="A", value="x" * (1024 * 1024))]
    with pytest.raises(HttpResponseError) as refused:
        add_task(client, job_id, "/bin/true", environment_settings=settings)
    assert refused.value.status_code == 413
    assert refused.value.error.code == "RequestBodyTooLarge"


def test_lists_filter_select_and_page(client: BatchClient, job_id: str) -> None:
    ids = [f"n{number:02}" for number in range(12)]
    client.create_tasks(
        job_id,
        [
            models.BatchTaskCreateOptions(id=name, command_line="/bin/false" if name == "n05" else "/bin/true")
            for name in ids
        ],
    )
    all_completed(client, job_id, 12)

    pages = [list(page) for page in client.list_tasks(job_id, max_results=5).by_page()]
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [task.id for page in pages for task in page] == ids

    selected = [task.as_dict() for task in client.list_tasks(job_id, select=["id", "state"])]
    assert selected[0] == {"id": "n00", "state": "completed"}

    failed = client.list_tasks(job_id, filter="executionInfo/result eq 'failure'")
    assert [task.id for task in failed] == ["n05"]
    assert [task.id for task in client.list_tasks(job_id, filter="id eq 'n01' or id eq 'N02'")] == ["n01", "n02"]
    assert [task.id for task in client.list_tasks(job_id, filter="startswith(id, 'n1')")] == ["n10", "n11"]
    assert list(client.list_tasks(job_id, filter="state eq 'active'")) == []


def test_what_completed_since_is_listed_in_order_of_time(client: BatchClient, job_id: str) -> None:
    add_task(client, job_id, id="first")
    moment = completed(client, job_id, "first").state_transition_time
    client.create_tasks(
        job_id, [models.BatchTaskCreateOptions(id=f"later{number}", command_line="/bin/true") for number in range(7)]
    )
    all_completed(client, job_id, 8)

    since = (moment + dt.timedelta(microseconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    wanted = f"state eq 'completed' and stateTransitionTime ge {since}"
    found = list(client.list_tasks(job_id, filter=wanted, max_results=3, select=["id", "stateTransitionTime"]))

    assert {task.id for task in found} == {f"later{number}" for number in range(7)}
    times = [task.state_transition_time for task in found]
    assert times == sorted(times)


def test_a_bad_filter_is_refused_with_its_reason(client: BatchClient, job_id: str) -> None:
    for text in ("state eq", "nothing eq 'x'", "state gt 'active'"):
        with pytest.raises(HttpResponseError) as refused:
            list(client.list_tasks(job_id, filter=text))
        assert refused.value.status_code == 400
        assert refused.value.error.code == "InvalidQueryParameterValue"


def test_a_wide_task_waits_for_its_slots(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=1, slots=4)
    job_id = add_job(client, pool_id)
    add_task(client, job_id, "sleep 0.4", id="narrow")
    wait_until(lambda: client.get_task(job_id, "narrow").state == models.BatchTaskState.RUNNING)
    add_task(client, job_id, "/bin/true", id="wide", required_slots=4)

    narrow, wide = completed(client, job_id, "narrow"), completed(client, job_id, "wide")

    assert wide.execution_info.start_time >= narrow.execution_info.end_time
    assert client.get_job_task_counts(job_id).task_slot_counts.completed == 5


def test_files_go_after_their_retention_time(client: BatchClient, job_id: str) -> None:
    short = models.BatchTaskConstraints(retention_time=dt.timedelta(seconds=0))
    task_id = add_task(client, job_id, constraints=short)
    completed(client, job_id, task_id)

    def is_gone() -> bool:
        try:
            list(client.list_task_files(job_id, task_id))
        except (ResourceNotFoundError, ResourceExistsError):
            return True
        return False

    wait_until(is_gone)
    assert client.get_task(job_id, task_id).state == models.BatchTaskState.COMPLETED
