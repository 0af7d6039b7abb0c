"""What Azure's support has to approve: parallel-task limits and pre-emption, on an account that is enabled for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def enabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchClient]:
    service = BatchService(_folder(tmp_path_factory), chaos={"support_approval": True}, max_processes=8)
    service.start()
    with service.client() as client:
        yield client
    service.stop()


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("enabled")


def running(client: BatchClient, job_id: str) -> set[str]:
    return {task.id for task in client.list_tasks(job_id, filter="state eq 'running'", select=["id"])}


def add_sleepers(client: BatchClient, job_id: str, count: int) -> None:
    for number in range(count):
        add_task(client, job_id, "exec sleep 600", id=f"sleeper-{number}")
    wait_until(lambda: len(running(client, job_id)) == count)


@pytest.mark.parametrize("options", [{"max_parallel_tasks": 2}, {"allow_task_preemption": True}])
def test_other_accounts_are_refused(client: BatchClient, pool_id: str, options: dict[str, object]) -> None:
    with pytest.raises(HttpResponseError, match="InvalidPropertyValue"):
        add_job(client, pool_id, **options)
    job_id = add_job(client, pool_id)
    with pytest.raises(HttpResponseError, match="InvalidPropertyValue"):
        client.update_job(job_id, models.BatchJobUpdateOptions(**options))


def test_no_more_tasks_run_than_the_job_allows(enabled: BatchClient) -> None:
    job_id = add_job(enabled, add_pool(enabled, slots=4), max_parallel_tasks=2)
    for number in range(6):
        add_task(enabled, job_id, "sleep 0.05", id=f"t{number}")
    assert len(running(enabled, job_id)) <= 2
    all_completed(enabled, job_id, 6)
    enabled.update_job(job_id, models.BatchJobUpdateOptions(max_parallel_tasks=-1))
    add_sleepers(enabled, job_id, 4)
    enabled.begin_delete_job(job_id)


def test_a_more_important_job_takes_the_slots_of_one_that_allows_it(enabled: BatchClient) -> None:
    pool_id = add_pool(enabled, slots=2)
    modest = add_job(enabled, pool_id, priority=-5, allow_task_preemption=True)
    firm = add_job(enabled, pool_id, priority=-10)
    add_sleepers(enabled, modest, 1)
    add_sleepers(enabled, firm, 1)
    urgent = add_job(enabled, pool_id, priority=100)
    add_task(enabled, urgent, "exec sleep 600", id="first")
    wait_until(lambda: running(enabled, urgent) == {"first"})
    assert running(enabled, modest) == set()
    assert running(enabled, firm) == {"sleeper-0"}, "it does not allow it"
    preempted = enabled.get_task(modest, "sleeper-0")
    assert preempted.state == "active"
    assert preempted.execution_info.requeue_count == 0
    enabled.terminate_task(urgent, "first")
    wait_until(lambda: running(enabled, modest) == {"sleeper-0"})
    for job_id in (modest, firm, urgent):
        enabled.begin_delete_job(job_id)


def test_a_task_of_many_slots_gets_a_node_that_can_make_room(enabled: BatchClient) -> None:
    pool_id = add_pool(enabled, slots=3)
    modest = add_job(enabled, pool_id, allow_task_preemption=True)
    add_sleepers(enabled, modest, 3)
    urgent = add_job(enabled, pool_id, priority=1)
    add_task(enabled, urgent, id="wide", required_slots=2)
    assert completed(enabled, urgent, "wide").execution_info.exit_code == 0
    wait_until(lambda: len(running(enabled, modest)) == 3)
    for job_id in (modest, urgent):
        enabled.begin_delete_job(job_id)


def test_an_equal_job_waits(enabled: BatchClient) -> None:
    pool_id = add_pool(enabled, slots=1)
    first = add_job(enabled, pool_id, allow_task_preemption=True)
    add_sleepers(enabled, first, 1)
    second = add_job(enabled, pool_id, allow_task_preemption=True)
    add_task(enabled, second, id="patient")
    enabled.update_job(second, models.BatchJobUpdateOptions(metadata=[]))
    assert running(enabled, first) == {"sleeper-0"}
    assert enabled.get_task(second, "patient").state == "active"
    enabled.terminate_task(first, "sleeper-0")
    completed(enabled, second, "patient")
    for job_id in (first, second):
        enabled.begin_delete_job(job_id)


def test_room_is_made_too_where_only_processes_are_short(tmp_path: Path) -> None:
    service = BatchService(tmp_path, chaos={"support_approval": True}, max_processes=1)
    service.start()
    try:
        with service.client() as client:
            pool_id = add_pool(client, slots=8)
            modest = add_job(client, pool_id, allow_task_preemption=True)
            add_sleepers(client, modest, 1)
            for number in range(3):
                add_task(client, modest, "exec sleep 600", id=f"queued-{number}")
            urgent = add_job(client, pool_id, priority=1)
            add_task(client, urgent, id="plain")
            limited = models.BatchTaskConstraints(max_wall_clock_time="PT1H")
            add_task(client, urgent, id="limited", constraints=limited)
            all_completed(client, urgent, 2)
            wait_until(lambda: len(running(client, modest)) == 1)
    finally:
        service.stop()
