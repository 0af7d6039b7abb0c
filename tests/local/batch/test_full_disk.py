"""A full disk under the data folder: refused clearly, recovered from without a restart."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError

from tests.fixtures_service import BatchService, wait_until
from tests.local.batch.conftest import add_job, add_pool, add_task, completed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 14 MiB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Take all space there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


def test_a_full_disk_refuses_new_work_and_records_what_runs(small_disk: Path) -> None:
    service = BatchService(small_disk / "service")
    service.start()
    try:
        with service.client(retry_total=0) as client:
            job_id = add_job(client, add_pool(client))
            add_task(client, job_id, "sleep 1.5", id="running")
            wait_until(lambda: client.get_task(job_id, "running").state == models.BatchTaskState.RUNNING)
            fill(small_disk / "ballast")

            large = [models.EnvironmentSetting(name="A", value="y" * 20000)]
            wait_until(lambda: not adds(client, job_id, environment_settings=large))
            accepted = {task.id for task in client.list_tasks(job_id)}

            with pytest.raises(HttpResponseError) as refused:
                add_task(client, job_id)
            assert refused.value.status_code == 503
            assert refused.value.error.code == "ServerBusy"
            assert completed(client, job_id, "running").execution_info.exit_code == 0
            (small_disk / "ballast").unlink()
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
