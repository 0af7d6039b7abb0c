"""Jobs over the real SDK: life, preparation and release, dependencies, actions on failure and completion."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed, new_id, read_file
from tests.waiting import wait_until


def state_of(client: BatchClient, job_id: str) -> str:
    return str(client.get_job(job_id).state.value)


def test_a_new_job_is_answered_with_the_services_defaults(client: BatchClient) -> None:
    job_id = add_job(client, "no-such-pool", metadata=[models.BatchMetadataItem(name="a", value="b")])

    job = client.get_job(job_id).as_dict()

    assert job["state"] == "active"
    assert job["priority"] == 0
    assert job["constraints"] == {"maxWallClockTime": "P10675199DT2H48M5.4775807S", "maxTaskRetryCount": 0}
    assert job["onAllTasksComplete"] == job["onTaskFailure"] == "noaction"
    assert job["poolInfo"] == {"poolId": "no-such-pool"}
    assert job["executionInfo"]["poolId"] == "no-such-pool"
    assert job["metadata"] == [{"name": "a", "value": "b"}]


def test_ids_are_compared_without_case(client: BatchClient) -> None:
    job_id = add_job(client, "p", id=new_id("Cased"))
    with pytest.raises(ResourceExistsError) as refused:
        add_job(client, "p", id=job_id.upper())
    assert refused.value.error.code == "JobExists"
    assert client.get_job(job_id.lower()).id == job_id


def test_patch_replaces_whole_objects_and_put_restores_defaults(client: BatchClient) -> None:
    constraints = models.BatchJobConstraints(max_task_retry_count=5)
    job_id = add_job(client, "p", constraints=constraints, priority=7)

    client.update_job(
        job_id,
        models.BatchJobUpdateOptions(
            constraints=models.BatchJobConstraints(max_wall_clock_time=dt.timedelta(hours=26))
        ),
    )
    patched = client.get_job(job_id)
    assert patched.constraints.max_task_retry_count == 0
    assert patched.constraints.max_wall_clock_time == dt.timedelta(hours=26)
    assert patched.priority == 7

    client.replace_job(job_id, models.BatchJob(pool_info=models.BatchPoolInfo(pool_id="p")))
    replaced = client.get_job(job_id)
    assert replaced.priority == 0
    assert replaced.constraints.as_dict()["maxWallClockTime"] == "P10675199DT2H48M5.4775807S"


def test_disable_requeues_and_enable_runs_again(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "test -e ../mark || { touch ../mark; sleep 60; }")
    wait_until(lambda: client.get_task(job_id, task_id).state == models.BatchTaskState.RUNNING)
    wait_until(lambda: "mark" in {file.name for file in client.list_task_files(job_id, task_id)})

    client.begin_disable_job(job_id, models.BatchJobDisableOptions(disable_tasks="requeue")).result()

    assert state_of(client, job_id) == "disabled"
    task = client.get_task(job_id, task_id)
    assert task.state == models.BatchTaskState.ACTIVE
    assert task.execution_info.requeue_count == 1
    client.begin_enable_job(job_id).result()
    assert completed(client, job_id, task_id).execution_info.requeue_count == 1


def test_terminate_ends_running_tasks_and_leaves_queued_ones(client: BatchClient, job_id: str) -> None:
    running = add_task(client, job_id, "sleep 60", required_slots=2)
    queued = add_task(client, job_id)
    wait_until(lambda: client.get_task(job_id, running).state == models.BatchTaskState.RUNNING)

    client.begin_terminate_job(job_id, models._models.BatchJobTerminateOptions(termination_reason="enough")).result()

    job = client.get_job(job_id)
    assert job.state == models.BatchJobState.COMPLETED
    assert job.execution_info.termination_reason == "enough"
    assert job.previous_state == models.BatchJobState.ACTIVE
    assert client.get_task(job_id, running).execution_info.failure_info.code == "TaskEnded"
    assert client.get_task(job_id, queued).state == models.BatchTaskState.ACTIVE
    with pytest.raises(ResourceExistsError) as refused:
        add_task(client, job_id)
    assert refused.value.error.code == "JobCompleted"


def test_delete_takes_everything(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "sleep 60")
    wait_until(lambda: client.get_task(job_id, task_id).state == models.BatchTaskState.RUNNING)

    client.begin_delete_job(job_id).result()

    with pytest.raises(ResourceNotFoundError):
        client.get_job(job_id)
    add_job(client, "p", id=job_id)
    assert list(client.list_tasks(job_id)) == []


def test_the_job_ends_after_its_last_task(client: BatchClient, job_id: str) -> None:
    client.create_tasks(
        job_id, [models.BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/true") for number in range(5)]
    )
    client.update_job(job_id, models.BatchJobUpdateOptions(all_tasks_complete_mode="terminatejob"))

    wait_until(lambda: state_of(client, job_id) == "completed")

    assert client.get_job(job_id).execution_info.termination_reason == "AllTasksComplete"
    assert client.get_job_task_counts(job_id).task_counts.succeeded == 5


def test_a_job_without_tasks_ends_at_once_when_asked_to(client: BatchClient) -> None:
    job_id = add_job(client, "p", all_tasks_complete_mode="terminatejob")
    wait_until(lambda: state_of(client, job_id) == "completed")
    assert client.get_job(job_id).execution_info.termination_reason == "AllTasksComplete"


def test_the_wall_clock_ends_a_job(client: BatchClient, pool_id: str) -> None:
    limit = models.BatchJobConstraints(max_wall_clock_time=dt.timedelta(seconds=1))
    job_id = add_job(client, pool_id, constraints=limit)
    add_task(client, job_id, "sleep 60")

    wait_until(lambda: state_of(client, job_id) == "completed")

    assert client.get_job(job_id).execution_info.termination_reason == "MaxWallClockTimeExpiry"
    assert client.get_job_task_counts(job_id).task_counts.failed == 1


def test_preparation_runs_once_per_node_before_tasks_and_release_at_the_end(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=2, slots=2)
    job_id = add_job(
        client,
        pool_id,
        job_preparation_task=models.BatchJobPreparationTask(
            command_line="/bin/sh -c 'echo once >> $AZ_BATCH_NODE_SHARED_DIR/prepared-$AZ_BATCH_JOB_ID; sleep 0.2'"
        ),
        job_release_task=models.BatchJobReleaseTask(
            command_line="/bin/sh -c 'rm $AZ_BATCH_NODE_SHARED_DIR/prepared-$AZ_BATCH_JOB_ID'"
        ),
    )
    for number in range(6):
        add_task(client, job_id, "cat $AZ_BATCH_NODE_SHARED_DIR/prepared-$AZ_BATCH_JOB_ID; sleep 0.1", id=f"t{number}")
    all_completed(client, job_id, 6)

    assert {read_file(client, job_id, f"t{number}") for number in range(6)} == {"once\n"}
    status = list(client.list_job_preparation_and_release_task_status(job_id))
    assert len(status) == 2
    assert all(each.job_preparation_task_execution_info.exit_code == 0 for each in status)
    assert all(each.job_release_task_execution_info is None for each in status)

    client.begin_terminate_job(job_id, models._models.BatchJobTerminateOptions(termination_reason="x")).result()

    status = list(client.list_job_preparation_and_release_task_status(job_id))
    assert [each.job_release_task_execution_info.exit_code for each in status] == [0, 0]
    for node in client.list_nodes(pool_id):
        names = {file.name for file in client.list_node_files(pool_id, node.id, recursive=True)}
        assert f"shared/prepared-{job_id}" not in names


def test_a_failed_preparation_bars_the_node(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=1)
    job_id = add_job(
        client, pool_id, job_preparation_task=models.BatchJobPreparationTask(command_line="/bin/sh -c 'exit 9'")
    )
    add_task(client, job_id, id="t")

    def failed() -> bool:
        status = list(client.list_job_preparation_and_release_task_status(job_id))
        return bool(status) and status[0].job_preparation_task_execution_info.exit_code == 9

    wait_until(failed)
    wait_until(lambda: client.get_task(job_id, "t").state == models.BatchTaskState.ACTIVE)
    other = add_job(client, pool_id)
    add_task(client, other, id="t")
    completed(client, other, "t")
    assert client.get_task(job_id, "t").state == models.BatchTaskState.ACTIVE


def test_the_status_of_a_job_without_preparation_is_refused(client: BatchClient, job_id: str) -> None:
    with pytest.raises(ResourceExistsError) as refused:
        list(client.list_job_preparation_and_release_task_status(job_id))
    assert refused.value.error.code == "JobPreparationTaskNotSpecified"


def test_tasks_wait_for_the_tasks_they_depend_on(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(client, pool_id, uses_task_dependencies=True)
    needs = models.BatchTaskDependencies(task_ids=["a"], task_id_ranges=[models.BatchTaskIdRange(start=1, end=3)])
    add_task(client, job_id, id="last", depends_on=needs)
    for name in ("1", "2", "03"):
        add_task(client, job_id, id=name)
    all_completed(client, job_id, 3)
    assert client.get_task(job_id, "last").state == models.BatchTaskState.ACTIVE

    add_task(client, job_id, id="a")

    last = completed(client, job_id, "last")
    assert last.execution_info.start_time >= client.get_task(job_id, "a").execution_info.end_time
    assert last.depends_on.task_id_ranges[0].end == 3


def test_a_failed_parent_blocks_unless_its_exit_condition_satisfies(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(client, pool_id, uses_task_dependencies=True)
    satisfied = models.ExitConditions(
        exit_codes=[models.ExitCodeMapping(code=7, exit_options=models.ExitOptions(dependency_action="satisfy"))]
    )
    add_task(client, job_id, "exit 7", id="tolerated", exit_conditions=satisfied)
    add_task(client, job_id, "exit 8", id="fatal", exit_conditions=satisfied)
    add_task(client, job_id, id="runs", depends_on=models.BatchTaskDependencies(task_ids=["TOLERATED"]))
    add_task(client, job_id, id="waits", depends_on=models.BatchTaskDependencies(task_ids=["fatal"]))

    completed(client, job_id, "runs")
    completed(client, job_id, "fatal")

    assert client.get_task(job_id, "waits").state == models.BatchTaskState.ACTIVE


def test_dependencies_need_a_job_that_uses_them(client: BatchClient, job_id: str) -> None:
    with pytest.raises(Exception, match="usesTaskDependencies") as refused:
        add_task(client, job_id, depends_on=models.BatchTaskDependencies(task_ids=["a"]))
    assert refused.value.error.code == "TaskDependenciesNotSpecifiedOnJob"


def test_a_failed_task_ends_the_job_that_asked_for_it(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(client, pool_id, task_failure_mode="performexitoptionsjobaction")
    harmless = models.ExitConditions(default=models.ExitOptions(job_action="none"))
    add_task(client, job_id, "exit 1", id="harmless", exit_conditions=harmless)
    completed(client, job_id, "harmless")
    assert state_of(client, job_id) == "active"

    add_task(client, job_id, "exit 1", id="fatal")

    wait_until(lambda: state_of(client, job_id) == "completed")
    assert client.get_job(job_id).execution_info.termination_reason == "TaskFailed"


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_job_manager_has_its_node_to_itself_unless_it_shares_it(client: BatchClient, is_alone: bool) -> None:
    pool_id = add_pool(client, nodes=1, slots=2)
    manager = models.BatchJobManagerTask(
        id="manager", command_line="/bin/sleep 600", run_exclusive=is_alone, kill_job_on_completion=False
    )
    job_id = add_job(client, pool_id, job_manager_task=manager)
    wait_until(lambda: client.get_task(job_id, "manager").state == "running")
    add_task(client, job_id, id="worker")
    if is_alone:
        (node,) = client.list_nodes(pool_id)
        assert (node.running_tasks_count, node.running_task_slots_count) == (1, 1)
        assert client.get_task(job_id, "worker").state == "active"
        client.terminate_task(job_id, "manager")
    completed(client, job_id, "worker")
    client.begin_delete_job(job_id)
    client.begin_delete_pool(pool_id)


def test_a_job_manager_keeps_off_spot_nodes_where_it_must(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0, target_low_priority_nodes=1)
    manager = models.BatchJobManagerTask(id="manager", command_line="/bin/true", allow_low_priority_node=False)
    job_id = add_job(client, pool_id, job_manager_task=manager)
    other = add_job(client, pool_id)
    completed(client, other, add_task(client, other))
    assert client.get_task(job_id, "manager").state == "active"
    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1)).result()
    wait_until(lambda: client.get_job(job_id).state == "completed")
    (task,) = client.list_tasks(job_id)
    assert task.node_info.node_id.endswith("_d")
    client.begin_delete_pool(pool_id)


def test_a_job_manager_task_ends_its_job(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(
        client, pool_id, job_manager_task=models.BatchJobManagerTask(id="manager", command_line="/bin/true")
    )
    wait_until(lambda: state_of(client, job_id) == "completed")
    assert client.get_job(job_id).execution_info.termination_reason == "JMComplete"
    assert client.get_task(job_id, "manager").execution_info.exit_code == 0


def test_higher_priorities_go_first(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0, slots=1)
    low, high = add_job(client, pool_id, priority=-5), add_job(client, pool_id, priority=5)
    for job_id in (low, high):
        add_task(client, job_id, id="t")

    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1)).result()

    first = completed(client, high, "t").execution_info
    second = completed(client, low, "t").execution_info
    assert first.end_time <= second.start_time


def test_an_auto_pool_lives_as_long_as_its_job(client: BatchClient) -> None:
    from tests.local.batch.conftest import machine

    specification = models.BatchAutoPoolSpecification(
        auto_pool_id_prefix="auto",
        pool_lifetime_option="job",
        pool=models.BatchPoolSpecification(
            vm_size="standard_d2s_v3", virtual_machine_configuration=machine(), target_dedicated_nodes=1
        ),
    )
    job_id = new_id("job")
    client.create_job(
        models.BatchJobCreateOptions(id=job_id, pool_info=models.BatchPoolInfo(auto_pool_specification=specification))
    )
    pool_id = client.get_job(job_id).execution_info.pool_id
    assert pool_id.startswith("auto_")
    add_task(client, job_id, id="t")
    completed(client, job_id, "t")

    client.begin_delete_job(job_id).result()

    def is_gone() -> bool:
        try:
            return client.get_pool(pool_id) is None
        except ResourceNotFoundError:
            return True

    wait_until(is_gone)


def test_an_auto_pool_s_job_keeps_it_and_may_name_it_again(client: BatchClient) -> None:
    """As it was sent, or as it was shown; whether it is kept alive may change."""
    from tests.local.batch.conftest import machine

    def info(**options: Any) -> models.BatchPoolInfo:
        pool = models.BatchPoolSpecification(vm_size="SMALL", virtual_machine_configuration=machine(), **options)
        automatic = models.BatchAutoPoolSpecification(pool_lifetime_option="job", pool=pool)
        return models.BatchPoolInfo(auto_pool_specification=automatic)

    job_id = new_id("job")
    client.create_job(models.BatchJobCreateOptions(id=job_id, pool_info=info()))
    client.update_job(job_id, models.BatchJobUpdateOptions(pool_info=info(), priority=1))
    client.replace_job(job_id, models.BatchJob(pool_info=info(), priority=2))
    shown = client.get_job(job_id)
    assert shown.priority == 2
    shown.pool_info.auto_pool_specification.keep_alive = True
    client.replace_job(job_id, shown)
    assert client.get_job(job_id).pool_info.auto_pool_specification.keep_alive is True

    for other in (info(task_slots_per_node=3), models.BatchPoolInfo(pool_id="p")):
        with pytest.raises(ResourceExistsError) as refused:
            client.update_job(job_id, models.BatchJobUpdateOptions(pool_info=other))
        assert refused.value.error.code == "PropertyCannotBeUpdated"
    both = models.BatchPoolInfo(pool_id="p", auto_pool_specification=info().auto_pool_specification)
    with pytest.raises(HttpResponseError, match="Exactly one"):
        client.update_job(job_id, models.BatchJobUpdateOptions(pool_info=both))
    pool_id = client.get_job(job_id).execution_info.pool_id
    client.begin_delete_job(job_id).result()
    client.begin_delete_pool(pool_id)


def test_lists_of_jobs(client: BatchClient) -> None:
    prefix = new_id("listed")
    for number in range(3):
        add_job(client, "p", id=f"{prefix}-{number}")
    wanted = f"startswith(id, '{prefix}')"

    assert [job.id for job in client.list_jobs(filter=wanted, max_results=2)] == [f"{prefix}-{n}" for n in range(3)]
    (first, *_) = client.list_jobs(filter=wanted, select=["id"])
    assert first.as_dict() == {"id": f"{prefix}-0"}
