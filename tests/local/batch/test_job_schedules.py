"""Job schedules over the real SDK."""

from __future__ import annotations

import datetime as dt

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

from tests.local.batch.conftest import add_task, completed, new_id
from tests.waiting import wait_until


def add_schedule(client: BatchClient, schedule: models.BatchJobScheduleConfiguration, pool_id: str = "p") -> str:
    schedule_id = new_id("schedule")
    specification = models.BatchJobSpecification(
        pool_info=models.BatchPoolInfo(pool_id=pool_id), all_tasks_complete_mode="noaction"
    )
    client.create_job_schedule(
        models.BatchJobScheduleCreateOptions(id=schedule_id, schedule=schedule, job_specification=specification)
    )
    return schedule_id


def test_the_first_job_is_there_at_once(client: BatchClient, pool_id: str) -> None:
    daily = models.BatchJobScheduleConfiguration(
        recurrence_interval=dt.timedelta(days=1), start_window=dt.timedelta(hours=1)
    )
    schedule_id = add_schedule(client, daily, pool_id)

    schedule = client.get_job_schedule(schedule_id)

    assert client.job_schedule_exists(schedule_id)
    assert schedule.execution_info.recent_job.id == f"{schedule_id}:job-1"
    assert schedule.execution_info.next_run_time - schedule.creation_time == dt.timedelta(days=1)
    assert schedule.schedule.start_window == dt.timedelta(hours=1)
    (job,) = client.list_jobs_from_schedule(schedule_id)
    task_id = add_task(client, job.id, "pwd")
    task = completed(client, job.id, task_id)
    assert task.node_info.task_root_directory == f"workitems/{schedule_id}/job-1/{task_id}"
    assert (
        b"".join(client.download_task_file(job.id, task_id, "stdout.txt"))
        .strip()
        .endswith(f"/workitems/{schedule_id}/job-1/{task_id}/wd".encode())
    )


def test_nothing_runs_before_its_time(client: BatchClient) -> None:
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    schedule_id = add_schedule(client, models.BatchJobScheduleConfiguration(do_not_run_until=later))
    assert list(client.list_jobs_from_schedule(schedule_id)) == []
    assert client.get_job_schedule(schedule_id).execution_info.next_run_time == later


def test_disable_enable_terminate_delete(client: BatchClient) -> None:
    schedule_id = add_schedule(client, models.BatchJobScheduleConfiguration())

    client.disable_job_schedule(schedule_id)
    assert client.get_job_schedule(schedule_id).state == models.BatchJobScheduleState.DISABLED
    client.enable_job_schedule(schedule_id)
    enabled = client.get_job_schedule(schedule_id)
    assert (enabled.state, enabled.previous_state) == ("active", "disabled")

    client.begin_terminate_job_schedule(schedule_id).result()
    ended = client.get_job_schedule(schedule_id)
    assert (ended.state, ended.previous_state) == ("completed", "active")
    assert ended.execution_info.end_time is not None
    (job,) = client.list_jobs_from_schedule(schedule_id)
    assert job.execution_info.termination_reason == "TerminateWorkitem"
    with pytest.raises(ResourceExistsError) as refused:
        client.disable_job_schedule(schedule_id)
    assert refused.value.error.code == "JobScheduleCompleted"

    client.begin_delete_job_schedule(schedule_id).result()
    with pytest.raises(ResourceNotFoundError):
        client.get_job_schedule(schedule_id)
    with pytest.raises(ResourceNotFoundError):
        client.get_job(job.id)


def test_update_and_replace(client: BatchClient) -> None:
    schedule_id = add_schedule(client, models.BatchJobScheduleConfiguration())
    item = models.BatchMetadataItem(name="a", value="b")

    client.update_job_schedule(schedule_id, models.BatchJobScheduleUpdateOptions(metadata=[item]))
    schedule = client.get_job_schedule(schedule_id)
    assert schedule.metadata[0].name == "a"

    schedule.metadata = None
    schedule.job_specification.priority = 9
    client.replace_job_schedule(schedule_id, schedule)
    replaced = client.get_job_schedule(schedule_id)
    assert replaced.metadata is None
    assert replaced.job_specification.priority == 9
    assert [found.id for found in client.list_job_schedules(filter=f"id eq '{schedule_id}'")] == [schedule_id]


def test_one_job_at_a_time(client: BatchClient) -> None:
    minutely = models.BatchJobScheduleConfiguration(recurrence_interval=dt.timedelta(minutes=1))
    schedule_id = add_schedule(client, minutely)
    (job,) = client.list_jobs_from_schedule(schedule_id)
    client.begin_terminate_job(job.id, models._models.BatchJobTerminateOptions(termination_reason="x")).result()
    wait_until(lambda: client.get_job(job.id).state == models.BatchJobState.COMPLETED)
    assert len(list(client.list_jobs_from_schedule(schedule_id))) == 1
