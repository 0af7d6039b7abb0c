"""What a pool's managed identities open: tokens inside tasks, and files of the instance's storage."""

from __future__ import annotations

import datetime as dt
import secrets
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.batch import BatchClient, models
from azure.storage.blob import ContainerClient

from azbatchwrap.local.stack import Stack
from tests.local.batch.conftest import add_job, add_task, completed, read_file
from tests.local.batchmgmt.conftest import TIMEOUT, Management
from tests.local.batchmgmt.test_pools import IDENTITY, properties
from tests.waiting import wait_until

OTHER = IDENTITY.replace("/me", "/somebody-else")
#: Asks as any program on a node would, with the real library, and uses what it gets.
ASK = """
import os, urllib.request, ssl
from azure.identity import ManagedIdentityCredential
def ask(url, scope):
    token = ManagedIdentityCredential(**eval(os.environ.get("WHO", "{}"))).get_token(scope).token
    request = urllib.request.Request(url, headers={"authorization": "Bearer " + token})
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    return urllib.request.urlopen(request, timeout=30, context=context).status
print(ask(os.environ["BATCH"] + "/pools?api-version=2025-06-01", "https://batch.core.windows.net/.default"))
print(ask(os.environ["ARM"] + "/subscriptions?api-version=2022-12-01", "https://management.azure.com/.default"))
"""


@pytest.fixture
def container(management: Management) -> Iterator[ContainerClient]:
    storage = Stack(management.stack.folder).endpoint()["storage"]
    name = f"identities-{secrets.token_hex(4)}"
    with ContainerClient.from_connection_string(storage["connection_string"], name) as container:
        container.create_container()
        container.upload_blob("in/a.txt", b"alpha")
        yield container


@pytest.fixture
def make_job(management: Management, client: BatchClient) -> Iterator[Any]:
    """Makes a pool with these identities, and a job in it; returns the job's id."""
    made: list[str] = []

    def make(*identities: str) -> str:
        name = f"i-{secrets.token_hex(4)}"
        body = properties(scaleSettings={"fixedScale": {"targetDedicatedNodes": 1}})
        if identities:
            body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {each: {} for each in identities}}
        answer = management.ask("PUT", f"/pools/{name}", body)
        assert answer.status_code == 200, answer.text
        made.append(name)
        return add_job(client, name, id=name)

    yield make
    for name in made:
        client.begin_delete_job(name)
        client.begin_delete_pool(name)


def reference(identity: str = IDENTITY) -> models.BatchNodeIdentityReference:
    return models.BatchNodeIdentityReference(resource_id=identity)


def asking(management: Management, who: str = "{}") -> dict[str, Any]:
    """A task that runs `ASK` with this interpreter's packages."""
    settings = {
        "SCRIPT": ASK,
        "WHO": who,
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "BATCH": management.batch["tls_url"],
        "ARM": management.stack.url,
    }
    named = [models.EnvironmentSetting(name=name, value=value) for name, value in settings.items()]
    return {"command": f"{sys.executable} -c 'import os; exec(os.environ[\"SCRIPT\"])'", "environment_settings": named}


def test_files_of_the_linked_storage_are_named_by_their_container(
    client: BatchClient, container: ContainerClient, make_job: Any
) -> None:
    job_id = make_job()
    files = [models.ResourceFile(auto_storage_container_name=container.container_name, blob_prefix="in/")]
    add_task(client, job_id, "cat in/a.txt", id="t", resource_files=files)
    assert completed(client, job_id, "t").execution_info.exit_code == 0
    assert read_file(client, job_id, "t") == "alpha"


def test_an_identity_reads_and_writes_files(client: BatchClient, container: ContainerClient, make_job: Any) -> None:
    job_id = make_job(IDENTITY)
    files = [
        models.ResourceFile(storage_container_url=container.url, file_path="all", identity_reference=reference()),
        models.ResourceFile(http_url=f"{container.url}/in/a.txt", file_path="one", identity_reference=reference()),
    ]
    destination = models.OutputFileBlobContainerDestination(
        container_url=container.url, path="out", identity_reference=reference(IDENTITY.upper())
    )
    output = models.OutputFile(
        file_pattern="result",
        destination=models.OutputFileDestination(container=destination),
        upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )
    add_task(client, job_id, "cat all/in/a.txt one > result", id="t", resource_files=files, output_files=[output])
    info = completed(client, job_id, "t").execution_info
    assert info.failure_info is None, info
    assert container.download_blob("out").readall() == b"alphaalpha"


def test_an_identity_takes_the_logs_of_a_node(client: BatchClient, container: ContainerClient, make_job: Any) -> None:
    pool_id = make_job(IDENTITY)
    (node,) = client.list_nodes(pool_id)
    wanted = models.UploadBatchServiceLogsOptions(
        container_url=container.url,
        start_time=dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1),
        identity_reference=reference(),
    )
    told = client.upload_node_logs(pool_id, node.id, wanted)
    assert told.number_of_files_uploaded == 1
    wait_until(lambda: list(container.list_blob_names(name_starts_with=told.virtual_directory_name)))


def test_an_identity_that_the_pool_lacks_opens_nothing(
    client: BatchClient, container: ContainerClient, make_job: Any
) -> None:
    job_id = make_job(IDENTITY)
    files = [
        models.ResourceFile(storage_container_url=container.url, file_path="x", identity_reference=reference(OTHER))
    ]
    add_task(client, job_id, id="in", resource_files=files)
    failure = completed(client, job_id, "in").execution_info.failure_info
    assert failure.code == "BlobAccessDenied"
    assert "does not have the identity" in str([detail.value for detail in failure.details])
    destination = models.OutputFileBlobContainerDestination(
        container_url=container.url, path="out", identity_reference=reference(OTHER)
    )
    output = models.OutputFile(
        file_pattern="../stdout.txt",
        destination=models.OutputFileDestination(container=destination),
        upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )
    add_task(client, job_id, id="out", output_files=[output])
    assert completed(client, job_id, "out").execution_info.failure_info.code == "FileUploadAccessDenied"


def test_an_identity_opens_no_other_account(client: BatchClient, make_job: Any) -> None:
    job_id = make_job(IDENTITY)
    elsewhere = "https://elsewhere.blob.core.windows.net/files/a"
    files = [models.ResourceFile(http_url=elsewhere, file_path="x", identity_reference=reference())]
    add_task(client, job_id, id="t", resource_files=files)
    assert completed(client, job_id, "t").execution_info.failure_info.code == "BlobAccessDenied"


def test_a_task_gets_tokens_for_its_pools_identity(management: Management, client: BatchClient, make_job: Any) -> None:
    job_id = make_job(IDENTITY)
    add_task(client, job_id, id="t", **asking(management))
    assert completed(client, job_id, "t").execution_info.exit_code == 0, read_file(client, job_id, "t", "stderr.txt")
    assert read_file(client, job_id, "t") == "200\n200\n"


def test_one_of_several_identities_is_named(management: Management, client: BatchClient, make_job: Any) -> None:
    job_id = make_job(IDENTITY, OTHER)
    pool = management.ask("GET", f"/pools/{job_id}").json()
    known = pool["identity"]["userAssignedIdentities"][IDENTITY]["clientId"]
    add_task(client, job_id, id="unnamed", **asking(management))
    add_task(client, job_id, id="named", **asking(management, str({"client_id": known})))
    add_task(client, job_id, id="by-id", **asking(management, str({"identity_config": {"resource_id": OTHER}})))
    assert completed(client, job_id, "unnamed").execution_info.exit_code == 1
    assert "2 identities" in read_file(client, job_id, "unnamed", "stderr.txt")
    for task_id in ("named", "by-id"):
        completed(client, job_id, task_id)
        assert read_file(client, job_id, task_id) == "200\n200\n", read_file(client, job_id, task_id, "stderr.txt")


def test_without_the_secret_or_an_identity_there_is_no_token(
    management: Management, client: BatchClient, make_job: Any
) -> None:
    plain, named = make_job(), make_job(IDENTITY)
    add_task(client, plain, "env", id="t")
    completed(client, plain, "t")
    assert "IDENTITY_" not in read_file(client, plain, "t")
    address = f"{management.batch['url']}/_identity/{named}/token?resource=https://management.azure.com&api-version=2019-08-01"
    for header in ({}, {"X-IDENTITY-HEADER": "0" * 64}, {"X-IDENTITY-HEADER": "é".encode("latin-1").decode("latin-1")}):
        answer = requests.get(address, headers=header, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()["statusCode"]) == (401, 401)
