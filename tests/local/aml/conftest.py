"""Workspaces of a test's own on the shared management plane, made and used over plain HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.storage.blob import BlobServiceClient

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.fixtures_aml import ArmProcess
from tests.waiting import wait_until

ML = "https://ml.azure.com"
FINAL = {"Completed", "Failed", "Canceled"}


def unique(prefix: str) -> str:
    """A name that is free everywhere."""
    return prefix + uuid.uuid4().hex[:8]


def code(answer: requests.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


class Space:
    """A workspace with what it rests on, and a datastore ``data`` on a container of its own."""

    def __init__(self, arm: ArmProcess) -> None:
        self.arm = arm
        self.group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{unique('rg-')}"
        self.container = unique("data-")
        self.account = unique("acct")
        self.path = f"{self.group}/providers/Microsoft.MachineLearningServices/workspaces/space"
        self.blobs = BlobServiceClient.from_connection_string(arm.settings["storage"])

    def make(self) -> None:
        self.ok("PUT", self.group, {"location": "westeurope"})
        storage = f"{self.group}/providers/Microsoft.Storage/storageAccounts/{self.account}"
        vault = f"{self.group}/providers/Microsoft.KeyVault/vaults/{unique('kv-')}"
        self.ok("PUT", storage, {"location": "westeurope", "sku": {"name": "Standard_LRS"}})
        sku = {"family": "A", "name": "standard"}
        self.ok("PUT", vault, {"location": "westeurope", "properties": {"tenantId": "t", "sku": sku}})
        self.vault, self.storage = vault, storage
        assert self.make_workspace().status_code == 201
        self.blobs.create_container(self.container)
        secrets = {"secretsType": "AccountKey", "key": "a2V5"}
        self.put(
            "datastores/data",
            datastoreType="AzureBlob",
            accountName=self.account,
            containerName=self.container,
            credentials={"credentialsType": "AccountKey", "secrets": secrets},
        )
        cluster = {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_D2_v3"}}
        self.put("computes/cpu", **cluster)

    def make_workspace(self, **properties: Any) -> requests.Response:
        given = {"storageAccount": self.storage, "keyVault": self.vault, **properties}
        return self.arm.ask("PUT", self.path, {"location": "westeurope", "properties": given})

    def ok(self, method: str, path: str, body: object = None) -> Any:
        answer = self.arm.ask(method, path, body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def ask(self, method: str, address: str, body: object = None) -> requests.Response:
        return self.arm.ask(method, f"{self.path}/{address}", body)

    def put(self, address: str, **properties: Any) -> Any:
        return self.ok("PUT", f"{self.path}/{address}", {"location": "westeurope", "properties": properties})

    def try_put(self, address: str, **properties: Any) -> requests.Response:
        return self.ask("PUT", address, {"location": "westeurope", "properties": properties})

    def upload(self, name: str, content: str) -> None:
        self.blobs.get_blob_client(self.container, name).upload_blob(content.encode(), overwrite=True)

    def read(self, address: str, name: str) -> str:
        """A file below an output's address."""
        store, _, path = address.partition("datastores/")[2].partition("/paths/")
        container = self.ok("GET", f"{self.path}/datastores/{store}")["properties"]["containerName"]
        blob = self.blobs.get_blob_client(container, f"{path.strip('/')}/{name}")
        return blob.download_blob().readall().decode()

    def component(self, command: str, files: dict[str, str] | None = None, **spec: Any) -> str:
        """A command component; its code is uploaded as the SDK does. Returns its id."""
        if files:
            spec["code"] = f"azureml:{self.code(files)}"
        body = {"type": "command", "command": command, "inputs": {}, "outputs": {}, **spec}
        return str(self.put(f"components/{unique('c')}/versions/1", componentSpec=body)["id"])

    def code(self, files: dict[str, str]) -> str:
        name = str(uuid.uuid4())
        upload = self.ok("POST", f"{self.path}/codes/{name}/versions/1/startPendingUpload", {})
        reference = upload["blobReferenceForConsumption"]
        container = reference["blobUri"].rpartition("/")[2]
        for file, content in files.items():
            self.blobs.get_blob_client(container, f"src/{file}").upload_blob(content.encode())
        return str(self.put(f"codes/{name}/versions/1", codeUri=f"{reference['blobUri']}/src")["id"])

    def deploy(self, component: str, **settings: Any) -> str:
        """An endpoint whose default deployment is a component. Returns its name."""
        endpoint = unique("ep-")
        self.put(f"batchEndpoints/{endpoint}", authMode="AADToken")
        self.put(
            f"batchEndpoints/{endpoint}/deployments/main",
            deploymentConfiguration={
                "deploymentConfigurationType": "PipelineComponent",
                "componentId": {"referenceType": "Id", "assetId": component},
                "settings": {"default_compute": "cpu", **settings},
            },
        )
        self.put(f"batchEndpoints/{endpoint}", authMode="AADToken", defaults={"deploymentName": "main"})
        return endpoint

    def invoke(self, endpoint: str, **properties: Any) -> requests.Response:
        address = self.ok("GET", f"{self.path}/batchEndpoints/{endpoint}")["properties"]["scoringUri"]
        deployment = properties.pop("deployment", None)
        headers = {"azureml-model-deployment": deployment} if deployment else {}
        return self.arm.ask("POST", address, {"properties": properties}, audience=ML, **headers)

    def job(self, name: str) -> Any:
        return self.ok("GET", f"{self.path}/jobs/{name}")["properties"]

    def finished(self, name: str) -> Any:
        """The job's properties once it is over."""
        return wait_until(lambda: found if (found := self.job(name))["status"] in FINAL else None)

    def run(self, endpoint: str, **properties: Any) -> Any:
        answer = self.invoke(endpoint, **properties)
        assert answer.status_code == 201, answer.text
        return self.finished(answer.json()["name"])

    def log(self, job: str) -> str:
        """Everything that a job and its steps wrote."""
        run = f"/history/v1.0{self.path}/runs/{job}"
        files = self.arm.ask("GET", f"{run}/details", audience=ML).json()["logFiles"]
        return "\n".join(requests.get(files[name], timeout=30).text for name in sorted(files))


def folder(path: str) -> dict[str, str]:
    """An input: a folder of the datastore ``data``."""
    return {"jobInputType": "UriFolder", "uri": f"azureml://datastores/data/paths/{path}"}


def literal(value: object) -> dict[str, object]:
    return {"jobInputType": "Literal", "value": value}


@pytest.fixture(scope="module")
def space(arm: ArmProcess) -> Iterator[Space]:
    """One workspace for the tests of a module."""
    found = Space(arm)
    found.make()
    yield found
    arm.admin.clear_faults()
