"""Applications and packages: their rules, and what nodes make of them."""

from __future__ import annotations

import io
import secrets
import zipfile

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient

from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, read_file
from tests.local.batchmgmt.conftest import Management

ZIP = {"format": "zip"}


@pytest.fixture
def place(management: Management) -> str:
    """The address of a new application."""
    path = f"/applications/tool-{secrets.token_hex(4)}"
    assert management.ask("PUT", path, {"properties": {"displayName": "A tool"}}).status_code == 200
    return path


def package(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def add_package(management: Management, path: str, content: bytes) -> None:
    url = management.ask("PUT", path).json()["properties"]["storageUrl"]
    BlobClient.from_blob_url(url).upload_blob(content, overwrite=True)
    assert management.ask("POST", f"{path}/activate", ZIP).status_code == 200


def test_a_package_is_pending_until_it_is_activated(management: Management, place: str, client: BatchClient) -> None:
    path = f"{place}/versions/1.0"
    assert management.ask("PUT", path).json()["properties"]["state"] == "Pending"
    name = place.rpartition("/")[2]
    assert list(client.get_application(name).versions) == []
    assert management.code("POST", f"{path}/activate", ZIP) == (409, "ApplicationPackageBlobNotFound")
    add_package(management, path, package(a="1"))
    assert client.get_application(name).versions == ["1.0"]
    assert management.ask("GET", path).json()["properties"]["state"] == "Active"


def test_the_rules_of_applications(management: Management, place: str) -> None:
    add_package(management, f"{place}/versions/1.0", package(a="1"))
    assert management.code("POST", f"{place}/versions/1.0/activate", {"format": "tar"})[0] == 400
    assert management.code("PUT", "/applications/no%20blanks", {})[0] == 400
    assert management.code("PUT", f"{place}/versions/.hidden", {})[0] == 400
    assert management.code("PUT", f"{place}/versions/a%2Fb", {})[0] == 400
    assert management.code("PUT", "/applications/missing/versions/1.0")[0] == 404
    unknown = {"properties": {"defaultVersion": "9.9"}}
    assert management.code("PATCH", place, unknown) == (404, "ApplicationPackageNotFound")
    assert management.code("DELETE", place)[0] == 409
    chosen = {"properties": {"defaultVersion": "1.0", "allowUpdates": False}}
    assert management.ask("PATCH", place, chosen).json()["properties"]["displayName"] == "A tool"
    assert management.code("DELETE", f"{place}/versions/1.0")[0] == 409
    assert management.code("PUT", f"{place}/versions/1.0")[0] == 409
    free = {"properties": {"defaultVersion": None, "allowUpdates": True}}
    assert management.ask("PATCH", place, free).status_code == 200
    assert management.ask("DELETE", f"{place}/versions/1.0").status_code == 200
    assert management.ask("DELETE", f"{place}/versions/1.0").status_code == 204
    assert management.ask("DELETE", place).status_code == 200
    assert management.ask("DELETE", place).status_code == 204


def test_every_version_has_its_folder_and_its_variable(management: Management, place: str, client: BatchClient) -> None:
    for version in ("1.0", "2.0"):
        add_package(management, f"{place}/versions/{version}", package(**{"what.txt": f"tool {version}\n"}))
    assert management.ask("PATCH", place, {"properties": {"defaultVersion": "2.0"}}).status_code == 200
    name = place.rpartition("/")[2]
    variable = f"AZ_BATCH_APP_PACKAGE_{name.replace('-', '_')}"
    reference = models.BatchApplicationPackageReference
    pool_id = add_pool(
        client, id=f"pool-{name}", application_package_references=[reference(application_id=name, version="1.0")]
    )
    job_id = add_job(client, pool_id, id=f"job-{name}")
    add_task(client, job_id, f"cat ${variable}_1_0/what.txt; env | grep -c {variable}", id="of-the-pool")
    own = [reference(application_id=name)]
    command = f"cat ${variable}/what.txt; test ${variable} = ${variable}_2_0"
    add_task(client, job_id, command, id="its-own", application_package_references=own)
    assert completed(client, job_id, "of-the-pool").execution_info.exit_code == 0
    assert read_file(client, job_id, "of-the-pool") == "tool 1.0\n1\n"
    assert completed(client, job_id, "its-own").execution_info.exit_code == 0
    assert read_file(client, job_id, "its-own") == "tool 2.0\n"
    client.begin_delete_job(job_id)
    client.begin_delete_pool(pool_id)


def test_a_broken_package_fails_the_task(management: Management, place: str, client: BatchClient) -> None:
    add_package(management, f"{place}/versions/1.0", b"no zip file")
    name = place.rpartition("/")[2]
    pool_id = add_pool(client, id=f"pool-{name}")
    job_id = add_job(client, pool_id, id=f"job-{name}")
    own = [models.BatchApplicationPackageReference(application_id=name, version="1.0")]
    add_task(client, job_id, id="t", application_package_references=own)
    info = completed(client, job_id, "t").execution_info
    assert (info.exit_code, info.failure_info.code) == (None, "ResourceFileCreateFailed")
    client.begin_delete_job(job_id)
    client.begin_delete_pool(pool_id)


def test_pools_refuse_packages_that_are_not_there(client: BatchClient) -> None:
    missing = [models.BatchApplicationPackageReference(application_id="missing", version="1")]
    with pytest.raises(HttpResponseError) as caught:
        add_pool(client, id="pool-of-missing", application_package_references=missing)
    assert caught.value.error.code == "InvalidApplicationPackageReferences"


def test_applications_outlive_the_data_plane_s_death(batch_service: BatchService) -> None:
    admin = BatchAdmin(batch_service.url, batch_service.account, Secret(batch_service.key))
    versions = [{"version": "1.0", "url": "http://127.0.0.1:9/p.zip"}]
    admin.ask("PUT", "/_local/applications/Kept", {"versions": versions, "displayName": "K", "defaultVersion": "1.0"})
    batch_service.kill9()
    batch_service.restart()
    with batch_service.client() as client:
        found = client.get_application("kept")
        assert (found.id, found.display_name, found.versions) == ("Kept", "K", ["1.0"])
        admin.ask("DELETE", "/_local/applications/KEPT")
        assert list(client.list_applications()) == []
