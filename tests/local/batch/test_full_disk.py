"""A full disk under the data folder: refused clearly, recovered from without a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.real_parts import small_disk
from tests.waiting import wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=14m") as place:
        yield place


def fill(path: Path) -> None:
    """Take all space there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


def test_a_full_disk_refuses_new_work_and_records_what_runs(disk: Path) -> None:
    service = BatchService(disk / "service")
    service.start()
    try:
        with service.client(retry_total=0) as client:
            job_id = add_job(client, add_pool(client))
            add_task(client, job_id, "sleep 1.5", id="running")
            wait_until(lambda: client.get_task(job_id, "running").state == models.BatchTaskState.RUNNING)
            fill(disk / "ballast")

            large = [models.EnvironmentSetting(name="A", value="y" * 20000)]
            wait_until(lambda: not adds(client, job_id, environment_settings=large))
            accepted = {task.id for task in client.list_tasks(job_id)}

            with pytest.raises(HttpResponseError) as refused:
                add_task(client, job_id)
            assert refused.value.status_code == 503
            assert refused.value.error.code == "ServerBusy"
            assert completed(client, job_id, "running").execution_info.exit_code == 0
            (disk / "ballast").unlink()
            wait_until(lambda: adds(client, job_id))
            assert accepted <= {task.id for task in client.list_tasks(job_id)}
    finally:
        service.stop()


def adds(client: BatchClient, job_id: str, **options: Any) -> bool:
    try:
        add_task(client, job_id, **options)
    except HttpResponseError:
        return False
    return True
