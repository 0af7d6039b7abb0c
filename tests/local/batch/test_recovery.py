"""What a kill of the service leaves behind, and what the next start makes of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from azure.batch import models

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, all_completed, completed, read_file
from tests.waiting import wait_until


def running_processes(mark: str) -> list[int]:
    """Process ids whose environment holds ``mark``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def batch_service(tmp_path: Path):
    service = BatchService(tmp_path / "service", max_processes=200)
    service.start()
    yield service
    service.stop()


def test_kill_9_with_200_tasks_running(batch_service: BatchService, tmp_path: Path) -> None:
    log = tmp_path / "ended"
    log.mkdir()
    with batch_service.client() as client:
        pool_id = add_pool(client, nodes=4, slots=50)
        job_id = add_job(client, pool_id)
        add_task(client, job_id, id="before")
        finished = completed(client, job_id, "before")
        command = f"/bin/sh -c 'read -t 0 x; sleep 3; echo x >> {log}/$AZ_BATCH_TASK_ID'"
        client.create_tasks(
            job_id,
            [models.BatchTaskCreateOptions(id=f"t{number:03}", command_line=command) for number in range(200)],
        )
        wait_until(lambda: client.get_job_task_counts(job_id).task_counts.running >= 190)

    batch_service.kill9()
    wait_until(lambda: not running_processes(f"AZ_BATCH_JOB_ID={job_id}"))
    batch_service.restart()

    with batch_service.client() as client:
        all_completed(client, job_id, 201)
        tasks = list(client.list_tasks(job_id, filter="startswith(id, 't')"))
        assert len(tasks) == 200
        assert {task.execution_info.exit_code for task in tasks} == {0}
        assert {(task.execution_info.retry_count, task.execution_info.requeue_count) for task in tasks} == {(0, 0)}
        assert client.get_task(job_id, "before").execution_info.end_time == finished.execution_info.end_time
        assert client.get_job_task_counts(job_id).task_counts.succeeded == 201
    assert len(list(log.iterdir())) == 200
    assert {path.read_text() for path in log.iterdir()} == {"x\n"}


def test_what_was_accepted_survives_a_kill(batch_service: BatchService) -> None:
    with batch_service.client() as client:
        add_pool(client, id="p", nodes=2)
        add_job(client, "p", id="j", priority=3)
        client.create_tasks(
            "j", [models.BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/true") for number in range(300)]
        )
        batch_service.kill9()
    batch_service.restart()
    with batch_service.client() as client:
        assert client.get_job("j").priority == 3
        assert len(list(client.list_tasks("j", select=["id"]))) == 300
        assert len(list(client.list_nodes("p"))) == 2
        all_completed(client, "j", 300)


def test_transitions_under_way_are_finished_after_a_kill(batch_service: BatchService) -> None:
    hold = models.BatchStartTask(command_line="/bin/sh -c 'sleep 1'", wait_for_success=True)
    with batch_service.client() as client:
        add_pool(client, id="starting", start_task=hold)
        add_pool(client, id="p", slots=4)
        release = models.BatchJobReleaseTask(command_line="/bin/sh -c 'sleep 1'")
        preparation = models.BatchJobPreparationTask(command_line="/bin/true")
        for name in ("ending", "deleting"):
            add_job(client, "p", id=name, job_preparation_task=preparation, job_release_task=release)
            add_task(client, name, id="t")
            completed(client, name, "t")
        client.begin_terminate_job("ending", models._models.BatchJobTerminateOptions(termination_reason="r"))
        client.begin_delete_job("deleting")
        batch_service.kill9()
    batch_service.restart()
    with batch_service.client() as client:
        wait_until(lambda: client.get_job("ending").state == models.BatchJobState.COMPLETED)
        wait_until(lambda: [job.id for job in client.list_jobs()] == ["ending"])
        wait_until(lambda: [node.state for node in client.list_nodes("starting")] == ["idle"])
        status = next(iter(client.list_job_preparation_and_release_task_status("ending")))
        assert status.job_release_task_execution_info.exit_code == 0
        assert client.get_job("ending").execution_info.termination_reason == "r"


def test_schedules_go_on_after_a_kill(batch_service: BatchService) -> None:
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=4)
    schedule = models.BatchJobScheduleConfiguration(do_not_run_until=soon)
    specification = models.BatchJobSpecification(pool_info=models.BatchPoolInfo(pool_id="p"))
    with batch_service.client() as client:
        client.create_job_schedule(
            models.BatchJobScheduleCreateOptions(id="s", schedule=schedule, job_specification=specification)
        )
    batch_service.kill9()
    batch_service.restart()
    with batch_service.client() as client:
        wait_until(lambda: [job.id for job in client.list_jobs_from_schedule("s")] == ["s:job-1"])


def test_a_stop_during_a_start_task_leaves_nothing_behind(batch_service: BatchService) -> None:
    forever = models.BatchStartTask(command_line="/bin/sleep 300", wait_for_success=True)
    with batch_service.client() as client:
        add_pool(client, id="waiting-for-ever", start_task=forever)
        mark = "AZ_BATCH_POOL_ID=waiting-for-ever"
        wait_until(lambda: running_processes(mark))
    batch_service.stop()
    assert running_processes(mark) == []


def test_a_graceful_stop_ends_tasks_and_runs_them_again(batch_service: BatchService) -> None:
    with batch_service.client() as client:
        pool_id = add_pool(client)
        job_id = add_job(client, pool_id)
        add_task(
            client,
            job_id,
            "test -e $AZ_BATCH_NODE_SHARED_DIR/m && echo second || { touch $AZ_BATCH_NODE_SHARED_DIR/m; sleep 60; }",
            id="t",
        )
        wait_until(lambda: client.get_task(job_id, "t").state == models.BatchTaskState.RUNNING)
        node = client.get_task(job_id, "t").node_info.node_id
        wait_until(lambda: "shared/m" in {file.name for file in client.list_node_files(pool_id, node, recursive=True)})
    batch_service.stop()
    assert running_processes(f"AZ_BATCH_JOB_ID={job_id}") == []
    batch_service.restart()
    with batch_service.client() as client:
        assert completed(client, job_id, "t").execution_info.retry_count == 0
        assert read_file(client, job_id, "t") == "second\n"


def test_a_second_service_on_the_same_folder_is_refused(batch_service: BatchService, tmp_path: Path) -> None:
    import subprocess
    import sys

    config = batch_service.folder / "service.json"
    second = subprocess.run(
        [sys.executable, "-m", "azbatchwrap.local.batch", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 3
    assert "another service is running" in second.stderr
