"""Whatever property a pool of azure-mgmt-batch has: it is taken, kept, and shown in the management side's words."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from azure.batch import BatchClient

from tests.local.batch.test_every_property import COMPUTE
from tests.local.batchmgmt.conftest import Management
from tests.local.batchmgmt.test_pools import MACHINE
from tests.local.every_property import SECRETS, Filler, lost

models = pytest.importorskip("azure.mgmt.batch.models")
FIXED = {"fixedScale": {"targetDedicatedNodes": 0, "targetLowPriorityNodes": 0, "resizeTimeout": "PT8M"}}
USERS = [{"autoUser": {"scope": "Task", "elevationLevel": "Admin"}}, {"userName": "joe"}]
OWN: dict[str, Any] = {
    "vmSize": "small",
    "virtualMachineConfiguration.imageReference": [
        MACHINE["virtualMachineConfiguration"]["imageReference"],
        {"id": f"{COMPUTE}/galleries/g/images/i"},
    ],
    "nodeAgentSkuId": "batch.node.ubuntu 22.04",
    "scaleSettings": [FIXED, {"autoScale": {"formula": "$TargetDedicatedNodes=0;", "evaluationInterval": "PT8M"}}],
    "applicationPackages": None,
    "subnetId": None,
    "userIdentity": USERS,
    "resourceFiles": [[{"httpUrl": "http://127.0.0.1:9/x", "filePath": "a", "fileMode": "0755"}]],
    "inboundNatPools.frontendPortRangeStart": 3000,
    "inboundNatPools.frontendPortRangeEnd": 4000,
    "networkSecurityGroupRules.priority": 200,
    "maxBatchInstancePercent": 20,
    "maxUnhealthyInstancePercent": 20,
    "userAccounts.name": "joe",
    "mountConfiguration": None,
}
FILLER = Filler(models, OWN)


def _body(number: int) -> dict[str, Any]:
    properties = FILLER.body(models.PoolProperties, number)
    from_older_clients = {"resourceTags": {"a": "b"}, "targetNodeCommunicationMode": "Classic"}
    return properties | from_older_clients


@pytest.fixture
def path() -> str:
    return f"/pools/w-{secrets.token_hex(4)}"


@pytest.mark.parametrize("number", range(4))
def test_what_is_put(management: Management, path: str, client: BatchClient, number: int) -> None:
    properties = _body(number) | {"applicationLicenses": ["maya"]}
    shown = management.ask("PUT", path, {"properties": properties}).json()["properties"]
    assert list(lost(properties, shown)) == []
    assert _words(properties) <= _words(shown)
    # The data plane has words of its own: those of its clients' enumerations.
    data = _words(client.get_pool(path.rpartition("/")[2]).as_dict())
    assert not {"Standard_LRS", "Premium_LRS", "NonAdmin", "Admin", "DockerCompatible", "BatchManaged", "TCP"} & data
    again = management.ask("PUT", path, {"properties": properties})
    assert again.status_code == 200, again.text
    assert management.ask("GET", path).json()["etag"] == again.json()["etag"]
    management.ask("DELETE", path)


def _words(value: Any) -> set[str]:
    """All texts of a body but for secrets and names of members."""
    if isinstance(value, dict):
        return set().union(*(_words(each) for name, each in value.items() if name not in SECRETS))
    if isinstance(value, list):
        return set().union(*map(_words, value))
    return {value} if isinstance(value, str) else set()


def test_mounts(management: Management, path: str) -> None:
    mounts = [{kind: each} for kind, each in FILLER.body(models.MountConfiguration, 0).items()]
    body = {"vmSize": "small", "deploymentConfiguration": MACHINE, "mountConfiguration": mounts}
    shown = management.ask("PUT", path, {"properties": body}).json()["properties"]
    assert list(lost(mounts, shown["mountConfiguration"])) == []
    management.ask("DELETE", path)


def test_what_is_changed(management: Management, path: str) -> None:
    management.ask("PUT", path, {"properties": {"vmSize": "small", "deploymentConfiguration": MACHINE}})
    properties = _body(1)
    changed = management.ask("PATCH", path, {"properties": properties})
    assert changed.status_code == 200, changed.text
    assert list(lost(properties, changed.json()["properties"])) == []
    management.ask("DELETE", path)
