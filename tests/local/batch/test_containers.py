"""Container tasks, with podman where it can be had: required in CI, skipped where it is not installed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient, models

from tests.fixtures_podman import Podman, new_podman
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, machine, read_file
from tests.real_parts import lacking
from tests.waiting import wait_until

IMAGE = "localhost/azbatchwrap-test:1"
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "echo", "cat", "sleep", "env", "pwd", "touch", "test")


def container_machine() -> models.VirtualMachineConfiguration:
    found = machine()
    found.container_configuration = models.BatchContainerConfiguration(type="dockerCompatible")
    return found


def in_image(image: str = IMAGE, **further: Any) -> dict[str, Any]:
    return {"container_settings": models.BatchTaskContainerSettings(image_name=image, **further)}


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """A podman with a storage of its own, in which the image is."""
    if not BUSYBOX.exists():
        lacking("container tasks need busybox (apt-get install busybox-static)")
    podman = new_podman(tmp_path_factory.mktemp("podman"))
    podman.import_image(_image(), IMAGE)
    yield podman
    podman.end()


def _image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def service(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchService]:
    service = BatchService(tmp_path_factory.mktemp("containers") / "service")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in podman.variables.items():
            patch.setenv(name, value)
        service.start()
        yield service
        service.stop()


@pytest.fixture(scope="module")
def place(service: BatchService) -> Iterator[tuple[BatchClient, str]]:
    """A client, and a job on a pool for containers."""
    with service.client() as client:
        pool_id = add_pool(client, virtual_machine_configuration=container_machine())
        yield client, add_job(client, pool_id)


def test_a_task_runs_in_its_image(place: tuple[BatchClient, str]) -> None:
    client, job_id = place
    settings = [models.EnvironmentSetting(name="WORD", value="two\nlines $and 'quotes'")]
    command = 'test ! -e /etc/passwd && pwd && echo "$WORD" && touch kept && exit 3'
    line = f"/bin/sh -c {_quoted(command)}"
    task_id = add_task(client, job_id, line, environment_settings=settings, **in_image())
    info = completed(client, job_id, task_id).execution_info
    assert info.exit_code == 3, read_file(client, job_id, task_id, "stderr.txt")
    where, *word = read_file(client, job_id, task_id).splitlines()
    assert where.endswith(f"/{task_id}/wd")
    assert word == ["two", "lines $and 'quotes'"]
    assert "wd/kept" in {file.name for file in client.list_task_files(job_id, task_id, recursive=True)}


def _quoted(command: str) -> str:
    return '"' + command.replace('"', '\\"') + '"'


def test_only_what_is_asked_for_is_mounted(place: tuple[BatchClient, str]) -> None:
    client, job_id = place
    mounts = [models.ContainerHostBatchBindMountEntry(source="Task", is_read_only=True)]
    command = (
        "/bin/sh -c 'test ! -e $AZ_BATCH_NODE_SHARED_DIR && test -d $AZ_BATCH_TASK_DIR && ! touch no 2> /dev/null'"
    )
    task_id = add_task(client, job_id, command, **in_image(container_host_batch_bind_mounts=mounts))
    assert completed(client, job_id, task_id).execution_info.exit_code == 0


def test_a_terminated_task_leaves_no_container(place: tuple[BatchClient, str], podman: Podman) -> None:
    client, job_id = place
    task_id = add_task(client, job_id, "/bin/sleep 1000", **in_image())
    wait_until(podman.running)
    client.terminate_task(job_id, task_id)
    completed(client, job_id, task_id)
    wait_until(lambda: not podman.running())


def test_an_image_that_does_not_exist(place: tuple[BatchClient, str]) -> None:
    client, job_id = place
    task_id = add_task(client, job_id, "/bin/true", **in_image("localhost:9/nothing:here"))
    info = completed(client, job_id, task_id).execution_info
    assert (info.exit_code, info.failure_info.code) == (None, "ContainerInvalidImage")


def test_after_a_kill_the_container_is_gone_and_the_task_runs_again(
    place: tuple[BatchClient, str], service: BatchService, podman: Podman
) -> None:
    client, job_id = place
    command = (
        "/bin/sh -c 'test -e $AZ_BATCH_NODE_SHARED_DIR/again || { touch $AZ_BATCH_NODE_SHARED_DIR/again; sleep 1000; }'"
    )
    task_id = add_task(client, job_id, command, **in_image())
    (first,) = wait_until(podman.running)
    service.kill9()
    service.restart()
    assert completed(client, job_id, task_id).execution_info.exit_code == 0
    assert first not in podman.running()


# Without an engine, or on the wrong pool


def test_without_an_engine_the_failure_says_so(
    batch_service: BatchService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch_service.stop()
    monkeypatch.setenv("PATH", str(tmp_path))
    batch_service.restart()
    with batch_service.client() as client:
        job_id = add_job(client, add_pool(client, virtual_machine_configuration=container_machine()))
        info = completed(client, job_id, add_task(client, job_id, **in_image())).execution_info
    assert (info.exit_code, info.failure_info.code) == (None, "CommandLaunchFailed")
    assert "neither podman nor docker answers" in info.failure_info.details[0].value


def test_pools_and_tasks_must_agree_about_containers(client: BatchClient, pool_id: str) -> None:
    plain = add_job(client, pool_id)
    info = completed(client, plain, add_task(client, plain, **in_image())).execution_info
    assert (info.exit_code, info.failure_info.code) == (None, "ContainerPoolNotSupported")
    contained = add_job(client, add_pool(client, virtual_machine_configuration=container_machine()))
    info = completed(client, contained, add_task(client, contained)).execution_info
    assert (info.exit_code, info.failure_info.code) == (None, "CommandLaunchFailed")
    assert "no container settings" in info.failure_info.message
