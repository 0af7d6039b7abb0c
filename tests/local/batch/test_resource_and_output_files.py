"""Resource files and output files through the service, on a real Azurite."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from azure.batch import BatchClient, models
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas

from tests.fixtures_service import BatchService
from tests.fixtures_stack import RunningAzurite
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, new_id, read_file
from tests.waiting import wait_until


@pytest.fixture
def container(azurite: RunningAzurite) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        container = blobs.create_container(new_id("files"))
        for name, content in {"in/a.txt": b"alpha", "in/deep/b.txt": b"beta", "other.txt": b"other"}.items():
            container.upload_blob(name, content)
        yield container


def signed(azurite: RunningAzurite, container: ContainerClient, blob: str = "", **permissions: bool) -> str:
    sas = generate_container_sas(
        azurite.account,
        container.container_name,
        account_key=azurite.key,
        permission=ContainerSasPermissions(**permissions),
        expiry=dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1),
    )
    return f"{container.url}{'/' + blob if blob else ''}?{sas}"


def test_resource_files_lie_in_the_working_folder(
    client: BatchClient, job_id: str, azurite: RunningAzurite, container: ContainerClient
) -> None:
    files = [
        models.ResourceFile(
            storage_container_url=signed(azurite, container, read=True, list=True), blob_prefix="in/", file_path="data"
        ),
        models.ResourceFile(
            http_url=signed(azurite, container, "other.txt", read=True), file_path="renamed.txt", file_mode="0755"
        ),
    ]
    task_id = add_task(
        client, job_id, "cat data/in/a.txt data/in/deep/b.txt; test -x renamed.txt", resource_files=files
    )

    task = completed(client, job_id, task_id)

    assert task.execution_info.exit_code == 0
    assert read_file(client, job_id, task_id) == "alphabeta"


def test_a_resource_file_that_is_not_there_fails_the_task(
    client: BatchClient, job_id: str, azurite: RunningAzurite, container: ContainerClient
) -> None:
    missing = models.ResourceFile(http_url=signed(azurite, container, "missing", read=True), file_path="x")
    retries = models.BatchTaskConstraints(max_task_retry_count=3)

    task = completed(client, job_id, add_task(client, job_id, resource_files=[missing], constraints=retries))

    assert task.execution_info.failure_info.code == "BlobNotFound"
    assert task.execution_info.exit_code is None
    assert task.execution_info.retry_count == 0


@pytest.mark.parametrize("case", [("echo good > r.txt", "success"), ("echo bad > r.txt; exit 1", "failure")])
def test_output_files_leave_by_their_conditions(
    client: BatchClient, job_id: str, azurite: RunningAzurite, container: ContainerClient, case: tuple[str, str]
) -> None:
    command, uploaded = case
    url = signed(azurite, container, create=True, write=True)
    outputs = [
        models.OutputFile(
            file_pattern=pattern,
            destination=models.OutputFileDestination(
                container=models.OutputFileBlobContainerDestination(container_url=url, path=path)
            ),
            upload_options=models.OutputFileUploadConfiguration(upload_condition=condition),
        )
        for pattern, path, condition in (
            ("r.txt", "out/success", "tasksuccess"),
            ("r.txt", "out/failure", "taskfailure"),
            ("../std*.txt", "out/logs", "taskcompletion"),
        )
    ]

    completed(client, job_id, add_task(client, job_id, command, output_files=outputs))

    names = set(container.list_blob_names(name_starts_with="out/"))
    assert names == {f"out/{uploaded}", "out/logs/stdout.txt", "out/logs/stderr.txt"}


def test_an_upload_that_is_denied_fails_a_task_that_did_well(
    client: BatchClient, pool_id: str, azurite: RunningAzurite, container: ContainerClient
) -> None:
    job_id = add_job(client, pool_id, uses_task_dependencies=True)
    output = models.OutputFile(
        file_pattern="../stdout.txt",
        destination=models.OutputFileDestination(
            container=models.OutputFileBlobContainerDestination(container_url=signed(azurite, container, read=True))
        ),
        upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )
    tolerant = models.ExitConditions(file_upload_error=models.ExitOptions(dependency_action="satisfy"))
    add_task(client, job_id, id="denied", output_files=[output], exit_conditions=tolerant)
    add_task(client, job_id, id="after", depends_on=models.BatchTaskDependencies(task_ids=["denied"]))

    task = completed(client, job_id, "denied")

    assert task.execution_info.exit_code == 0
    assert task.execution_info.result == models.BatchTaskExecutionResult.FAILURE
    assert task.execution_info.failure_info.code == "FileUploadAccessDenied"
    completed(client, job_id, "after")


def test_an_output_whose_name_is_no_text_fails_a_task_and_is_shown(
    client: BatchClient, job_id: str, azurite: RunningAzurite, container: ContainerClient
) -> None:
    destination = models.OutputFileBlobContainerDestination(container_url=signed(azurite, container, write=True))
    output = models.OutputFile(
        file_pattern="out/*",
        destination=models.OutputFileDestination(container=destination),
        upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )
    command = r'mkdir out && echo x > "$(printf "out/\377")" && echo y > out/good'
    task_id = add_task(client, job_id, command, output_files=[output])

    failure = completed(client, job_id, task_id).execution_info.failure_info

    assert failure is not None
    assert failure.code == "FileUploadMiscError"
    assert {item.name: item.value for item in failure.details}["FilePath"] == r"\xff"
    assert "good" in list(container.list_blob_names())
    assert "wd/out/good" in [file.name for file in client.list_task_files(job_id, task_id, recursive=True)]


def test_a_start_task_with_files_and_node_logs(
    client: BatchClient, azurite: RunningAzurite, container: ContainerClient
) -> None:
    url = signed(azurite, container, "other.txt", read=True)
    start = models.BatchStartTask(
        command_line="/bin/sh -c 'cp other.txt $AZ_BATCH_NODE_SHARED_DIR'",
        resource_files=[models.ResourceFile(http_url=url, file_path="other.txt")],
        wait_for_success=True,
    )
    pool_id = add_pool(client, start_task=start)
    job_id = add_job(client, pool_id)
    task_id = add_task(client, job_id, "cat $AZ_BATCH_NODE_SHARED_DIR/other.txt")
    completed(client, job_id, task_id)
    assert read_file(client, job_id, task_id) == "other"

    (node,) = client.list_nodes(pool_id)
    result = client.upload_node_logs(
        pool_id,
        node.id,
        models.UploadBatchServiceLogsOptions(
            container_url=signed(azurite, container, create=True, write=True),
            start_time=dt.datetime.now(dt.timezone.utc),
        ),
    )
    names = wait_until(lambda: list(container.list_blob_names(name_starts_with=result.virtual_directory_name)))
    assert len(names) == result.number_of_files_uploaded == 1


def test_where_the_logs_of_a_node_go_is_not_asked_before_the_answer(batch_service: BatchService) -> None:
    """As the service has it: the container may be anywhere; what went wrong is in the log."""
    nowhere = models.UploadBatchServiceLogsOptions(
        container_url="http://127.0.0.1:9/none?sig=secret", start_time=dt.datetime.now(dt.timezone.utc)
    )
    with batch_service.client() as client:
        pool_id = add_pool(client)
        (node,) = client.list_nodes(pool_id)
        result = client.upload_node_logs(pool_id, node.id, nowhere)
    assert result.number_of_files_uploaded == 1
    assert result.virtual_directory_name.startswith(batch_service.account)
    wait_until(lambda: f"the log of node {node.id} was not uploaded" in batch_service.log)
    assert "secret" not in batch_service.log
