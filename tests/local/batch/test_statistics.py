"""``$expand=stats`` and the lifetime statistics: worked out from what ran, and kept when it is deleted."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from typing import Any

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed
from tests.local.batch.test_protocol import VERSION, Raw, code_of
from tests.waiting import wait_until

#: Takes more than a quarter of a second of a processor.
BUSY = "import time\nwhile time.process_time() < 0.25: pass"
OLD = "api-version=2022-10-01.16.0"


@pytest.fixture
def raw(shared_batch_service: BatchService) -> Raw:
    return Raw(shared_batch_service)


def python(script: str) -> dict[str, Any]:
    settings = [models.EnvironmentSetting(name="SCRIPT", value=script)]
    return {
        "command": """/usr/bin/python3 -c 'import os; exec(os.environ["SCRIPT"])'""",
        "environment_settings": settings,
    }


def processor(stats: Any) -> float:
    """Seconds of processor time."""
    return seconds(stats.user_cpu_time + stats.kernel_cpu_time)


def seconds(value: dt.timedelta) -> float:
    return value.total_seconds()


def test_a_task_tells_what_it_took(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, **python(BUSY))
    task = completed(client, job_id, task_id)
    assert task.task_statistics is None, "only on request"
    stats = client.get_task(job_id, task_id, expand=["stats"]).task_statistics
    assert processor(stats) >= 0.24
    assert seconds(stats.wall_clock_time) >= 0.24
    lasted = task.execution_info.end_time - task.execution_info.start_time
    assert seconds(stats.wall_clock_time) <= seconds(lasted)
    waited = task.execution_info.start_time - task.creation_time
    assert abs(stats.wait_time - waited) <= dt.timedelta(microseconds=1), "rounded by the client"
    (listed,) = client.list_tasks(job_id, expand=["stats"], select=["id", "stats"])
    assert listed.task_statistics.user_cpu_time == stats.user_cpu_time
    (listed,) = client.list_tasks(job_id, expand=["stats"], select=["id"])
    assert listed.task_statistics is None


def test_quick_tasks_have_true_times(client: BatchClient, job_id: str) -> None:
    """They began after they were made, and lasted at least as long as their process ran."""
    for number in range(20):
        add_task(client, job_id, id=f"quick-{number}")
    all_completed(client, job_id, 20)
    for task in client.list_tasks(job_id, expand=["stats"]):
        info = task.execution_info
        assert task.creation_time < info.start_time < info.end_time
        lasted = info.end_time - info.start_time + dt.timedelta(microseconds=1)
        assert dt.timedelta(microseconds=100) < task.task_statistics.wall_clock_time <= lasted


def test_a_retried_task_shows_when_it_last_began(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "exit 3", constraints=models.BatchTaskConstraints(max_task_retry_count=1))
    info = completed(client, job_id, task_id).execution_info
    assert info.last_retry_time <= info.start_time < info.end_time


def test_a_task_that_wrote_a_file_wrote_to_disk(client: BatchClient, job_id: str) -> None:
    script = "f = open('big', 'wb'); f.write(bytes(range(256)) * 4096 * 8); f.flush(); os.fsync(f.fileno())"
    task_id = add_task(client, job_id, **python(script))
    completed(client, job_id, task_id)
    assert client.get_task(job_id, task_id, expand=["stats"]).task_statistics.write_io_gib >= 8 / 1024


def test_a_job_adds_up_its_tasks(client: BatchClient, pool_id: str) -> None:
    job_id = add_job(client, pool_id)
    fresh = client.get_job(job_id, expand=["stats"]).job_statistics
    assert (fresh.succeeded_tasks_count, fresh.failed_tasks_count, fresh.wall_clock_time) == (0, 0, dt.timedelta())
    for command in (python(BUSY), python(BUSY)):
        completed(client, job_id, add_task(client, job_id, **command))
    thrice = models.BatchTaskConstraints(max_task_retry_count=2)
    completed(client, job_id, add_task(client, job_id, "exit 3", constraints=thrice))
    stats = client.get_job(job_id, expand=["stats"]).job_statistics
    assert (stats.succeeded_tasks_count, stats.failed_tasks_count, stats.task_retries_count) == (2, 1, 2)
    assert processor(stats) >= 0.48
    each = [task.task_statistics for task in client.list_tasks(job_id, expand=["stats"])]
    assert stats.wall_clock_time == sum((one.wall_clock_time for one in each), dt.timedelta())
    assert stats.start_time <= stats.last_update_time
    assert stats.url.startswith(client.get_job(job_id).url)


def test_a_running_task_counts_with_its_time_so_far(client: BatchClient, job_id: str) -> None:
    task_id = add_task(client, job_id, "echo up; exec sleep 60")
    wait_until(lambda: client.get_task(job_id, task_id).state == "running")
    wait_until(lambda: client.get_job(job_id, expand=["stats"]).job_statistics.wall_clock_time > dt.timedelta())
    client.terminate_task(job_id, task_id)
    assert client.get_job(job_id, expand=["stats"]).job_statistics.failed_tasks_count == 1


def test_a_pool_tells_core_time_and_peaks(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=2)
    job_id = add_job(client, pool_id)
    completed(client, job_id, add_task(client, job_id, **python(BUSY)))
    first = client.get_pool(pool_id, expand=["stats"]).pool_statistics
    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1)).result()
    second = client.get_pool(pool_id, expand=["stats"]).pool_statistics
    usage, resources = first.usage_statistics, first.resource_statistics
    assert dt.timedelta() < usage.dedicated_core_time < second.usage_statistics.dedicated_core_time
    assert 0 < resources.avg_cpu_percentage <= 100
    assert 0 < resources.peak_memory_gib < 1
    (listed,) = client.list_pools(filter=f"id eq '{pool_id}'", expand=["stats"])
    assert listed.pool_statistics.usage_statistics.dedicated_core_time > usage.dedicated_core_time


def test_a_schedule_keeps_what_its_deleted_jobs_took(client: BatchClient, pool_id: str) -> None:
    client.create_job_schedule(
        models.BatchJobScheduleCreateOptions(
            id="counted",
            schedule=models.BatchJobScheduleConfiguration(),
            job_specification=models.BatchJobSpecification(pool_info=models.BatchPoolInfo(pool_id=pool_id)),
        )
    )
    (job,) = client.list_jobs_from_schedule("counted")
    completed(client, job.id, add_task(client, job.id))
    before = client.get_job_schedule("counted", expand=["stats"]).job_schedule_statistics
    assert before.succeeded_tasks_count == 1
    client.begin_delete_job(job.id).result()
    after = client.get_job_schedule("counted", expand=["stats"]).job_schedule_statistics
    assert after.succeeded_tasks_count == 1
    assert after.wall_clock_time == before.wall_clock_time > dt.timedelta()
    client.begin_delete_job_schedule("counted").result()


def test_statistics_outlive_a_kill(batch_service: BatchService) -> None:
    with batch_service.client() as client:
        job_id = add_job(client, add_pool(client, id="p"))
        completed(client, job_id, add_task(client, job_id, **python(BUSY)))
        before = client.get_job(job_id, expand=["stats"]).job_statistics
        task = next(iter(client.list_tasks(job_id, expand=["stats"]))).task_statistics
        batch_service.kill9()
        batch_service.restart()
        after = client.get_job(job_id, expand=["stats"]).job_statistics
        assert (after.user_cpu_time, after.succeeded_tasks_count) == (before.user_cpu_time, 1)
        again = next(iter(client.list_tasks(job_id, expand=["stats"]))).task_statistics
        assert again.user_cpu_time == task.user_cpu_time


def test_a_data_folder_of_before_is_taken_on(batch_service: BatchService) -> None:
    """Tasks that ended when nobody measured have no usage, and those to come do."""
    with batch_service.client() as client:
        job_id = add_job(client, add_pool(client, id="p"))
        completed(client, job_id, add_task(client, job_id, id="old"))
        batch_service.stop()
        with contextlib.closing(sqlite3.connect(batch_service.data_dir / "state.sqlite3")) as database, database:
            database.execute("ALTER TABLE tasks DROP COLUMN usage")
            database.execute("DELETE FROM documents WHERE kind IN ('statistics', 'account')")
        batch_service.restart()
        completed(client, job_id, add_task(client, job_id, id="young"))
        walls = {task.id: task.task_statistics.wall_clock_time for task in client.list_tasks(job_id, expand=["stats"])}
    assert walls["young"] > walls["old"] == dt.timedelta()


def test_whole_numbers_travel_as_strings_in_every_version(raw: Raw, client: BatchClient, job_id: str) -> None:
    completed(client, job_id, add_task(client, job_id))
    for version in (VERSION, OLD, "api-version=2019-08-01.10.0"):
        stats = raw("GET", f"/jobs/{job_id}?{version}&$expand=stats")[2]["stats"]
        assert (stats["numSucceededTasks"], stats["readIOps"], stats["waitTime"]) == ("1", "0", "PT0S")
        assert isinstance(stats["readIOGiB"], float)


def test_lifetime_statistics_count_what_is_deleted(raw: Raw, client: BatchClient) -> None:
    before = raw("GET", f"/lifetimejobstats?{OLD}")[2]
    assert before["odata.metadata"].endswith("#jobstats/@Element")
    pool_id = add_pool(client)
    job_id = add_job(client, pool_id)
    completed(client, job_id, add_task(client, job_id))
    client.begin_delete_job(job_id).result()
    client.begin_delete_pool(pool_id).result()
    after = raw("GET", f"/lifetimejobstats?{OLD}")[2]
    assert int(after["numSucceededTasks"]) == int(before["numSucceededTasks"]) + 1
    assert after["url"] == f"{raw.service.url}/lifetimejobstats"
    assert after["waitTime"] != "PT0S"
    pools = raw("GET", f"/lifetimepoolstats?{OLD}")[2]
    assert pools["odata.metadata"].endswith("#poolstats/@Element")
    assert pools["usageStats"]["dedicatedCoreTime"] != "PT0S"
    assert code_of(raw("GET", f"/lifetimejobstats?{VERSION}")) == (404, "InvalidUri")


def test_nothing_else_can_be_expanded(client: BatchClient, job_id: str) -> None:
    with pytest.raises(HttpResponseError, match="InvalidQueryParameterValue"):
        client.get_job(job_id, expand=["tasks"])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/pools?$select=id,colour", "InvalidQueryParameterValue"),
        ("/jobs/{}/tasks?$select=ID", "InvalidQueryParameterValue"),
        ("/jobs/{}?$select=tasks", "InvalidQueryParameterValue"),
        ("/jobs/{}?$filter=id eq 'a'".replace(" ", "%20"), "UnsupportedQueryParameter"),
        ("/jobs?$top=5", "UnsupportedQueryParameter"),
        ("/jobs?$orderby=id", "UnsupportedQueryParameter"),
        ("/supportedimages?$select=osType", "UnsupportedQueryParameter"),
        ("/nodecounts?$expand=stats", "UnsupportedQueryParameter"),
    ],
)
def test_unknown_names_and_options_are_refused(raw: Raw, job_id: str, path: str, code: str) -> None:
    assert code_of(raw("GET", f"{path.format(job_id)}&{VERSION}")) == (400, code)


def test_a_star_selects_everything_and_foreign_words_are_passed_over(raw: Raw, job_id: str) -> None:
    whole = raw("GET", f"/jobs/{job_id}?{VERSION}")[2]
    assert raw("GET", f"/jobs/{job_id}?{VERSION}&$select=*&colour=red")[2] == whole
