from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3

from azbatchwrap import config, names
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, NotFound
from azbatchwrap.storage import AzureBatchStorage, Deployment, FileReference, Role
from tests.fixtures_stack import RunningAzurite
from tests.storage.conftest import QUICK, Forwarder, settings_for

Opener = Callable[..., AzureBatchStorage]
NOW = timedelta(0)


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A folder as a driver script has it."""
    for name in ("a.txt", "b.txt", "tasks/1_task.py", "tasks/2_task.py", "pi.jar", "requirements.txt"):
        path = tmp_path / "driver" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return tmp_path / "driver"


def test_the_first_version_s_spelling(storage: AzureBatchStorage, driver: Path) -> None:
    storage.addInputFilePath(str(driver / "a.txt"))
    storage.addInputFilePath(str(driver / "b.txt"))
    storage.uploadInputFiles()
    storage.addTaskFilePath(str(driver / "tasks/1_task.py"))
    storage.addTaskFilePath(str(driver / "tasks/2_task.py"))
    storage.uploadTaskFiles()
    storage.addApplicationFilePath(str(driver / "pi.jar"))
    storage.uploadApplicationFiles()
    storage.createOutputFolder()
    found = [storage.getApplicationInputFiles(), storage.getBatchTaskFiles(), storage.getApplicationFiles()]
    assert [[(file.name, file.role) for file in files] for files in found] == [
        [("a.txt", "input"), ("b.txt", "input")],
        [("1_task.py", "task"), ("2_task.py", "task")],
        [("pi.jar", "application")],
    ]


def test_getters_upload_what_was_not(storage: AzureBatchStorage, driver: Path) -> None:
    storage.add_task_file_path(driver / "tasks")
    [first, _] = storage.get_batch_task_files()
    assert urllib3.request("GET", first.url).data == b"this is tasks/1_task.py"


def test_a_reference_as_a_resource_file_of_azure_batch(storage: AzureBatchStorage, driver: Path) -> None:
    storage.add_input_file_path(driver / "a.txt")
    [file] = storage.get_application_input_files()
    resource = file.resource_file()
    assert (resource.file_path, resource.http_url) == ("a.txt", file.url)


def deployed(storage: AzureBatchStorage, driver: Path, engine: bytes = b"engine") -> Deployment:
    for name in ("a.txt", "requirements.txt"):
        storage.add_input_file_path(driver / name)
    storage.add_task_file_path(driver / "tasks")
    files = storage.get_application_input_files() + storage.get_batch_task_files()
    return storage.deploy(files, engine)


def test_a_deployment_lists_every_file_below_its_role(storage: AzureBatchStorage, driver: Path) -> None:
    deployment = deployed(storage, driver)
    data = urllib3.request("GET", deployment.url).data
    assert deployment.hash == hashlib.sha256(data).hexdigest()
    listed = json.loads(data)
    assert [file["path"] for file in listed["files"]] == [
        "inputs/a.txt", "inputs/requirements.txt", "tasks/1_task.py", "tasks/2_task.py",
    ]  # fmt: skip
    assert listed["files"][0] | {"path": ""} == {
        "path": "", "sha256": hashlib.sha256(b"this is a.txt").hexdigest(), "size": 13,
    }  # fmt: skip
    assert listed["requirements"] == hashlib.sha256(b"this is requirements.txt").hexdigest()
    assert listed["engine"] == hashlib.sha256(b"engine").hexdigest()
    assert urllib3.request("GET", deployment.engine_url).data == b"engine"
    assert deployment.container == storage.files_container


def test_the_same_files_are_the_same_deployment_and_cost_a_listing(
    opened: Opener, forwarder: Forwarder, driver: Path
) -> None:
    first = deployed(opened(), driver)
    again = deployed(opened(forwarder), driver)
    assert again.hash == first.hash
    assert forwarder.kinds() == ["GET list"]
    assert deployed(opened(), driver, b"newer engine").hash != first.hash


def test_names_of_any_kind_in_a_deployment(storage: AzureBatchStorage, tmp_path: Path) -> None:
    name = "ü 'q\" \n日本.txt"
    (tmp_path / name).write_text("x")
    storage.add_input_file_path(tmp_path / name)
    deployment = storage.deploy(storage.get_application_input_files(), b"e")
    data = storage.read_bytes(deployment.container, names.deployment_blob(deployment.hash))
    assert data.isascii()
    assert json.loads(data)["files"][0]["path"] == f"inputs/{name}"


def test_two_files_for_one_place_are_refused(storage: AzureBatchStorage) -> None:
    files = [FileReference("x", digit * 64, 1, Role.INPUT, "") for digit in "ab"]
    with pytest.raises(ConfigurationError, match="inputs/x"):
        storage.deploy(files, b"e")


def test_a_deployment_of_lost_content_is_refused(storage: AzureBatchStorage) -> None:
    with pytest.raises(NotFound, match=r"x\.txt.*Upload the files again"):
        storage.deploy([FileReference("x.txt", "a" * 64, 1, Role.INPUT, "")], b"e")


@pytest.mark.parametrize("name", ["Upper", "a", "two--hyphens", "with_underscore", "x" * 64])
def test_a_container_s_name_is_checked_before_it_is_made(storage: AzureBatchStorage, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a container"):
        storage.create_output_folder(name)


def test_the_output_container_is_the_project_s_unless_named(storage: AzureBatchStorage, project: str) -> None:
    assert storage.output_container == names.output_container(project)
    assert storage.create_output_folder(f"{project}-named") == storage.output_container == f"{project}-named"
    assert storage.create_output_folder(f"{project}-named") == f"{project}-named"


def test_json_and_many_blobs(storage: AzureBatchStorage) -> None:
    container = storage.create_output_folder()
    for number in range(30):
        storage.write_bytes(container, f"j/{number}", json.dumps({"n": number}).encode())
    storage.write_bytes(container, "broken", b"{")
    assert storage.read_json(container, "j/7") == {"n": 7}
    with pytest.raises(AzBatchWrapError, match="broken is not JSON"):
        storage.read_json(container, "broken")
    blobs = [f"j/{number}" for number in (29, 100, 0)]
    assert list(storage.read_many(container, blobs)) == [("j/29", b'{"n": 29}'), ("j/100", None), ("j/0", b'{"n": 0}')]


def test_a_listing_of_many_pages(storage: AzureBatchStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    container = storage.create_output_folder()
    for number in range(25):
        storage.write_bytes(container, f"n/{number:02d} & <ü>", b"x" * number)
    monkeypatch.setattr("azbatchwrap.storage.wire._PAGE", 10)
    found = list(storage.list_blobs(container, "n/"))
    assert [(entry.name, entry.size) for entry in found] == [(f"n/{n:02d} & <ü>", n) for n in range(25)]
    assert all(entry.md5 for entry in found)


def test_unused_content_is_what_no_kept_deployment_lists(storage: AzureBatchStorage, driver: Path) -> None:
    kept = deployed(storage, driver)
    (driver / "tasks/2_task.py").write_text("changed")
    storage.upload_task_files()
    files = storage.get_batch_task_files()
    dropped = storage.deploy(files, b"other engine")
    assert {deployment.hash for deployment in storage.list_deployments()} == {kept.hash, dropped.hash}

    assert storage.unused_content({kept.hash}) == []  # all of it is young
    unused = storage.unused_content({kept.hash}, settled=NOW)
    assert {entry.name for entry in unused} == {
        names.deployment_blob(dropped.hash),
        names.content_blob(hashlib.sha256(b"other engine").hexdigest()),
        names.content_blob(hashlib.sha256(b"changed").hexdigest()),
    }
    assert storage.delete_content(unused) == 3
    assert storage.delete_content(unused) == 0
    assert storage.unused_content({kept.hash}, settled=NOW) == []
    assert [deployment.hash for deployment in storage.list_deployments()] == [kept.hash]


def test_after_a_clean_up_the_same_object_uploads_again(storage: AzureBatchStorage, driver: Path) -> None:
    first = deployed(storage, driver)
    storage.delete_content(storage.unused_content(set(), settled=NOW))
    assert list(storage.list_blobs(storage.files_container)) == []
    storage.upload_input_files()
    storage.upload_task_files()
    assert deployed(storage, driver).hash == first.hash


def test_only_the_project_s_own_containers_are_listed_and_deleted(storage: AzureBatchStorage, driver: Path) -> None:
    deployed(storage, driver)
    container = storage.create_output_folder()
    storage.account.client.create_container(f"{container}-foreign")
    assert storage.list_containers() == sorted([storage.files_container, container])
    assert storage.delete_container(container) is True
    assert storage.delete_container(container) is False
    assert storage.list_containers() == [storage.files_container]
    assert storage.list_deployments() != []


def test_nothing_there_is_nothing_unused(storage: AzureBatchStorage) -> None:
    assert storage.list_deployments() == []
    assert storage.unused_content(set(), settled=NOW) == []


def test_a_container_being_deleted_is_waited_for(
    opened: Opener, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azbatchwrap.storage.inventory._UNTIL_DELETED", QUICK)
    answers = [(409, {"x-ms-error-code": "ContainerBeingDeleted"}, b"")] * 2
    forwarder.faults.append(lambda request: answers.pop() if answers and request.method == "PUT" else None)
    storage = opened(forwarder)
    container = storage.create_output_folder()
    assert answers == []
    assert container in storage.list_containers()


def test_settings_are_found_when_none_are_given(
    azurite: RunningAzurite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, project: str
) -> None:
    monkeypatch.setattr(config, "load", lambda: settings_for(azurite.connection_string, project))
    monkeypatch.setenv("AZBATCHWRAP_HOME", str(tmp_path))
    with AzureBatchStorage() as storage:
        assert storage.project == project
        assert storage.create_output_folder() == names.output_container(project)
