"""Mixed auto-users, which cannot share files on Azure, are told in the service's log."""

from __future__ import annotations

from azure.batch import BatchClient, models

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed


def user(elevation: str, scope: str = "pool") -> models.UserIdentity:
    return models.UserIdentity(auto_user=models.AutoUserSpecification(scope=scope, elevation_level=elevation))


def warnings(service: BatchService, pool_id: str) -> list[str]:
    return [line for line in service.log.splitlines() if f"pool {pool_id}: " in line and "auto-user" in line]


def test_a_start_task_as_admin_and_tasks_that_are_not(shared_batch_service: BatchService, client: BatchClient) -> None:
    start = models.BatchStartTask(command_line="/bin/true", user_identity=user("admin"), wait_for_success=True)
    pool_id = add_pool(client, start_task=start)
    job_id = add_job(client, pool_id)
    assert warnings(shared_batch_service, pool_id) == []
    for _ in range(2):
        completed(client, job_id, add_task(client, job_id))
    (warning,) = warnings(shared_batch_service, pool_id)
    assert "the start task runs as the admin auto-user and task" in warning
    assert "cannot read each other's files" in warning


def test_one_kind_of_user_is_no_reason_to_warn(shared_batch_service: BatchService, client: BatchClient) -> None:
    pool_id = add_pool(client)
    job_id = add_job(client, pool_id)
    completed(client, job_id, add_task(client, job_id))
    completed(client, job_id, add_task(client, job_id, user_identity=user("admin", scope="task")))
    assert warnings(shared_batch_service, pool_id) == []
