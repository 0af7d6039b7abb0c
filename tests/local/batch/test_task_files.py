"""Files of tasks and nodes over the wire, ranges and path tricks included."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from azure.batch import BatchClient
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_task, completed, read_file
from tests.local.batch.test_protocol import VERSION, Raw


@pytest.fixture
def done(client: BatchClient, job_id: str) -> tuple[str, str]:
    """(job, task) of a task that left files behind."""
    command = 'printf 0123456789 > "ten bytes ü.txt"; mkdir -p a/b; echo deep > a/b/c.txt; ln -s /etc/passwd out'
    task_id = add_task(client, job_id, command)
    completed(client, job_id, task_id)
    return job_id, task_id


def test_lists(client: BatchClient, done: tuple[str, str]) -> None:
    top = {file.name: file for file in client.list_task_files(*done)}
    assert top.keys() == {"stdout.txt", "stderr.txt", "wd"}
    assert top["wd"].is_directory
    assert top["wd"].properties is None
    everything = {file.name: file for file in client.list_task_files(*done, recursive=True)}
    assert everything["wd/a/b/c.txt"].properties.content_length == 5
    assert "wd/ten bytes ü.txt" in everything
    assert "wd/out" not in everything
    wanted = client.list_task_files(*done, recursive=True, filter="startswith(name, 'wd/a')")
    assert {file.name for file in wanted} == {"wd/a", "wd/a/b", "wd/a/b/c.txt"}
    pages = [list(page) for page in client.list_task_files(*done, recursive=True, max_results=2).by_page()]
    assert [file.name for page in pages for file in page] == list(everything)


def test_content_and_ranges(client: BatchClient, done: tuple[str, str]) -> None:
    name = "wd/ten bytes ü.txt"
    assert read_file(client, *done, name) == "0123456789"
    assert b"".join(client.download_task_file(*done, name, ocp_range="bytes=2-4")) == b"234"
    assert b"".join(client.download_task_file(*done, name, ocp_range="bytes=7-")) == b"789"
    assert b"".join(client.download_task_file(*done, name, ocp_range="bytes=-2")) == b"89"
    with pytest.raises(HttpResponseError) as refused:
        client.download_task_file(*done, name, ocp_range="bytes=10-12")
    assert refused.value.status_code == 416


def test_properties(client: BatchClient, done: tuple[str, str]) -> None:
    found = client.get_task_file_properties(*done, "stdout.txt")
    assert found.content_length == 0
    assert found.is_directory is False
    assert found.file_mode.startswith("0o100")
    assert found.url.endswith("%2Fstdout.txt")
    assert client.get_task_file_properties(*done, "wd").is_directory is True


def test_delete(client: BatchClient, done: tuple[str, str]) -> None:
    client.delete_task_file(*done, "stdout.txt")
    with pytest.raises(ResourceNotFoundError):
        client.get_task_file_properties(*done, "stdout.txt")
    with pytest.raises(ResourceExistsError):
        client.delete_task_file(*done, "wd/a")
    client.delete_task_file(*done, "wd/a", recursive=True)
    assert "wd/a" not in {file.name for file in client.list_task_files(*done, recursive=True)}


def test_files_of_the_node(client: BatchClient, done: tuple[str, str]) -> None:
    node = client.get_task(*done).node_info
    names = {file.name for file in client.list_node_files(node.pool_id, node.node_id)}
    assert {"applications", "fsmounts", "shared", "startup", "volatile", "workitems"} <= names
    content = client.download_node_file(node.pool_id, node.node_id, f"{node.task_root_directory}/wd/a/b/c.txt")
    assert b"".join(content) == b"deep\n"


def test_a_task_that_has_not_run_has_no_files(client: BatchClient) -> None:
    job_id = add_job(client, "pool-without-nodes")
    add_task(client, job_id, id="t")
    with pytest.raises(ResourceExistsError) as refused:
        list(client.list_task_files(job_id, "t"))
    assert refused.value.error.code == "OperationInvalidForCurrentState"


@pytest.mark.parametrize(
    "name",
    [
        "../../../../../state.sqlite3",
        "..%2f..%2f..%2f..%2f..%2fstate.sqlite3",
        "wd/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/state.sqlite3",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "wd/out",
        "wd\\..\\..\\..\\..\\..\\..\\state.sqlite3",
        "wd/%00",
        "nothing",
        "wd/" + "x" * 300,
        quote("ünï\n'\"", safe=""),
    ],
)
def test_no_name_leads_out_of_the_folder(shared_batch_service: BatchService, done: tuple[str, str], name: str) -> None:
    raw = Raw(shared_batch_service)
    for verb in ("GET", "DELETE"):
        status, _, body = raw(verb, f"/jobs/{done[0]}/tasks/{done[1]}/files/{name}?{VERSION}")
        if (verb, name) != ("DELETE", "wd/out"):  # a link may be deleted, its target stays
            assert (status, body["code"]) == (404, "FileNotFound")
    assert (shared_batch_service.data_dir / "state.sqlite3").exists()
