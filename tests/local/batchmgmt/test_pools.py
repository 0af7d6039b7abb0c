"""Pools of the management side are the data plane's pools, in the other spelling."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from azure.batch import BatchClient

from tests.local.batchmgmt.conftest import Management
from tests.waiting import wait_until

MACHINE = {
    "virtualMachineConfiguration": {
        "imageReference": {"publisher": "canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts"},
        "nodeAgentSkuId": "batch.node.ubuntu 22.04",
    }
}
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"


@pytest.fixture
def path() -> str:
    return f"/pools/m-{secrets.token_hex(4)}"


def properties(**further: Any) -> dict[str, Any]:
    return {"properties": {"vmSize": "STANDARD_D2S_V3", "deploymentConfiguration": MACHINE, **further}}


def test_what_was_asked_for_is_there_in_both_planes(management: Management, path: str, client: BatchClient) -> None:
    identity = {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}
    users = [{"name": "ada", "password": "not kept 1!", "elevationLevel": "Admin"}]
    network = {
        "endpointConfiguration": {
            "inboundNatPools": [
                {
                    "name": "web",
                    "protocol": "TCP",
                    "backendPort": 8080,
                    "frontendPortRangeStart": 50000,
                    "frontendPortRangeEnd": 50100,
                }
            ]
        }
    }
    body = properties(
        scaleSettings={"fixedScale": {"targetDedicatedNodes": 1, "resizeTimeout": "PT8M"}},
        userAccounts=users,
        networkConfiguration=network,
        interNodeCommunication="Enabled",
        taskSlotsPerNode=3,
    )
    made = management.ask("PUT", path, {**body, "identity": identity})
    assert made.status_code == 200, made.text
    shown = made.json()
    assert list(shown["identity"]["userAssignedIdentities"]) == [IDENTITY]
    assert shown["properties"]["userAccounts"] == [{"name": "ada", "elevationLevel": "Admin"}]
    assert shown["properties"]["scaleSettings"]["fixedScale"]["resizeTimeout"] == "PT8M"
    assert shown["properties"]["networkConfiguration"]["endpointConfiguration"]["inboundNatPools"][0]["name"] == "web"
    assert shown["etag"].startswith('W/"0x')
    pool = client.get_pool(path.rpartition("/")[2])
    assert (pool.target_dedicated_nodes, pool.task_slots_per_node) == (1, 3)
    assert pool.enable_inter_node_communication
    again = management.ask("PUT", path, body)
    assert again.status_code == 200, again.text
    assert management.ask("DELETE", path).status_code == 200
    wait_until(lambda: management.ask("GET", path).status_code == 404)
    assert management.ask("DELETE", path).status_code == 204


def test_scale_and_start_task_change(management: Management, path: str) -> None:
    def steady() -> bool:
        return bool(management.ask("GET", path).json()["properties"]["allocationState"] == "Steady")

    assert management.ask("PUT", path, properties()).status_code == 200
    wait_until(steady)
    grown = {"properties": {"scaleSettings": {"fixedScale": {"targetDedicatedNodes": 2}}}}
    assert management.ask("PATCH", path, grown).status_code == 200
    wait_until(lambda: management.ask("GET", path).json()["properties"]["currentDedicatedNodes"] == 2)
    wait_until(steady)
    formula = {"formula": "$TargetDedicatedNodes = 0;", "evaluationInterval": "PT7M"}
    scaled = management.ask("PATCH", path, {"properties": {"scaleSettings": {"autoScale": formula}}})
    assert scaled.json()["properties"]["scaleSettings"]["autoScale"] == formula
    wait_until(steady)
    task = {"commandLine": "/bin/true", "userIdentity": {"autoUser": {"scope": "Pool", "elevationLevel": "Admin"}}}
    changed = management.ask("PATCH", path, {"properties": {"startTask": task}})
    assert changed.json()["properties"]["startTask"]["userIdentity"] == task["userIdentity"]
    assert management.ask("POST", f"{path}/disableAutoScale").status_code == 200
    assert management.ask("DELETE", path).status_code == 200


def test_refusals_are_the_data_plane_s(management: Management, path: str) -> None:
    assert management.code("GET", path) == (404, "PoolNotFound")
    assert management.code("PATCH", path, {"properties": {}}) == (404, "PoolNotFound")
    assert management.code("PUT", path, {"properties": {}}) == (400, "MissingRequiredProperty")
    assert management.code("PUT", path, properties(taskSlotsPerNode="many")) == (400, "InvalidPropertyValue")
    assert management.code("PUT", "/pools/no%20blanks", properties())[0] == 400
    assert management.code("POST", f"{path}/stopResize") == (404, "PoolNotFound")
    assert management.code("PUT", path, [1])[0] == 400
    wrong = {**properties(), "identity": {"type": "SystemAssigned"}}
    assert management.code("PUT", path, wrong) == (400, "InvalidRequestBody")
    management.ask("DELETE", path)


def test_a_pool_whose_formula_stays_is_not_asked_to_take_it_again(management: Management, path: str) -> None:
    """The data plane takes a formula every 30 seconds at most."""
    scale = {"autoScale": {"formula": "$TargetDedicatedNodes = 0;", "evaluationInterval": "PT7M"}}
    answers = [management.ask("PUT", path, properties(scaleSettings=scale)) for _ in range(4)]
    assert [each.status_code for each in answers] == [200] * 4
    assert len({each.json()["etag"] for each in answers}) == 1
    management.ask("DELETE", path)


@pytest.mark.parametrize("wrong", [5, "text", ["a"], [[1]]])
def test_what_is_an_object_cannot_be_something_else(management: Management, path: str, wrong: object) -> None:
    assert management.ask("PUT", path, properties()).status_code == 200
    machine = {"virtualMachineConfiguration": wrong}
    image = {"virtualMachineConfiguration": {"imageReference": wrong, "nodeAgentSkuId": "batch.node.ubuntu 22.04"}}
    bodies: list[dict[str, object]] = [
        *({name: wrong} for name in ("properties", "identity")),
        *(
            {"properties": {name: wrong}}
            for name in ("deploymentConfiguration", "scaleSettings", "applicationPackages")
        ),
        *({"properties": {"deploymentConfiguration": each}} for each in (machine, image)),
        *({"properties": {"scaleSettings": {name: wrong}}} for name in ("autoScale", "fixedScale")),
        {"identity": {"type": "UserAssigned", "userAssignedIdentities": wrong}},
    ]
    for body in bodies:
        for method in ("PUT", "PATCH"):
            assert management.ask(method, path, body).status_code == 400, (method, body)
    application = "/applications/of-a-wrong-type"
    for body in ({"properties": wrong}, {"properties": {"displayName": [wrong]}}):
        assert management.ask("PUT", application, body).status_code == 400, body
    version = management.ask("PUT", application, {"properties": {"defaultVersion": [wrong]}})
    assert version.status_code == 404
    for body in ({"properties": wrong}, {"tags": wrong}, {"properties": {"autoStorage": wrong}}):
        assert management.ask("PATCH", "", body).status_code == 400, body
    management.ask("DELETE", path)
