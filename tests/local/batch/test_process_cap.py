"""The cap on processes: over all pools, kept by every task that is not a multi-instance task."""

from __future__ import annotations

from pathlib import Path

from azure.batch import models

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed, read_file


def test_tasks_with_a_time_limit_get_their_turn_beside_any_number_of_others(tmp_path: Path) -> None:
    """Of another pool, and of a less important job of their own."""
    limited = models.BatchTaskConstraints(max_wall_clock_time="PT1H")
    service = BatchService(tmp_path / "service", max_processes=1)
    service.start()
    try:
        with service.client() as client:
            shared = add_pool(client, slots=8)
            crowd = [add_job(client, shared, priority=-1), add_job(client, add_pool(client, slots=8))]
            for job_id in crowd:
                tasks = [
                    models.BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/sleep 0.05")
                    for number in range(90)
                ]
                client.create_tasks(job_id, tasks)
            important = add_job(client, shared)
            add_task(client, important, id="limited", constraints=limited)
            completed(client, important, "limited")
            left = [client.get_job_task_counts(job_id).task_counts.active for job_id in crowd]
    finally:
        service.stop()
    assert min(left) > 30, "it did not have to wait until they were done"


def test_no_more_processes_than_allowed_run_at_a_time(tmp_path: Path) -> None:
    service = BatchService(tmp_path / "service", max_processes=2)
    service.start()
    try:
        with service.client() as client:
            jobs = [add_job(client, add_pool(client, nodes=1, slots=4)) for _ in range(2)]
            for job_id in jobs:
                tasks = [
                    models.BatchTaskCreateOptions(
                        id=f"t{number}", command_line="/bin/sh -c 'date +%s%N; sleep 0.15; date +%s%N'"
                    )
                    for number in range(6)
                ]
                client.create_tasks(job_id, tasks)
            for job_id in jobs:
                all_completed(client, job_id, 6)
            # What the processes saw themselves: the service hears of an end a little after it.
            times = [
                tuple(map(int, read_file(client, job_id, f"t{number}").split()))
                for job_id in jobs
                for number in range(6)
            ]
    finally:
        service.stop()
    assert len(times) == 12
    assert max(sum(start <= moment < end for start, end in times) for moment, _ in times) <= 2
