"""Deployment templates with `Microsoft.Batch` resources: the account, applications, packages and pools."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import requests
from azure.batch import BatchClient

from tests.local.batchmgmt.conftest import TIMEOUT, Management
from tests.local.batchmgmt.test_pools import IDENTITY, MACHINE
from tests.waiting import wait_until

VERSION = "2024-07-01"


def deploy(management: Management, template: dict[str, Any], **parameters: Any) -> Any:
    """The properties of the deployment, once it is over."""
    place = f"{management.stack.url}/subscriptions/{management.stack.subscription}/resourceGroups/azbatchwrap"
    address = f"{place}/providers/Microsoft.Resources/deployments/d-{secrets.token_hex(4)}?api-version=2021-04-01"
    given = {name: {"value": value} for name, value in parameters.items()}
    body = {"properties": {"mode": "Incremental", "template": template, "parameters": given}}
    headers = {"authorization": f"Bearer {management.token()}"}
    settings: dict[str, Any] = {"headers": headers, "verify": management.stack.bundle, "timeout": TIMEOUT}
    answer = requests.put(address, json=body, **settings)
    assert answer.status_code == 201, answer.text

    def ended() -> Any:
        properties = requests.get(address, **settings).json()["properties"]
        return properties if properties["provisioningState"] in {"Succeeded", "Failed"} else None

    return wait_until(ended)


def account(management: Management, **further: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.Batch/batchAccounts",
        "apiVersion": VERSION,
        "name": "[parameters('account')]",
        "location": "local",
        **further,
    }


@pytest.fixture
def name() -> str:
    return f"t-{secrets.token_hex(4)}"


PARAMETERS = {"account": {"type": "string"}, "name": {"type": "string"}}
POOL = {
    "type": "Microsoft.Batch/batchAccounts/pools",
    "apiVersion": VERSION,
    "name": "[concat(parameters('account'), '/', parameters('name'))]",
    "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
    "properties": {
        "vmSize": "STANDARD_D2S_V3",
        "deploymentConfiguration": MACHINE,
        "scaleSettings": {"fixedScale": {"targetDedicatedNodes": 1}},
    },
}


def test_a_template_makes_pools_and_applications_of_the_account(
    management: Management, client: BatchClient, name: str
) -> None:
    application = {"type": "applications", "apiVersion": VERSION, "name": "[parameters('name')]", "properties": {}}
    package = {"type": "versions", "apiVersion": VERSION, "name": "1.0"}
    template = {
        "parameters": PARAMETERS,
        "resources": [
            {**POOL, "dependsOn": ["[resourceId('Microsoft.Batch/batchAccounts', parameters('account'))]"]},
            account(management, resources=[{**application, "resources": [package]}]),
        ],
        "outputs": {
            "endpoint": {
                "type": "string",
                "value": "[reference(resourceId('Microsoft.Batch/batchAccounts', parameters('account'))).accountEndpoint]",
            }
        },
    }
    properties = deploy(management, template, account=management.batch["account"], name=name)
    assert properties["provisioningState"] == "Succeeded", properties
    assert management.batch["tls_url"] == f"https://{properties['outputs']['endpoint']['value']}"
    made = [each["id"].rpartition("/batchAccounts/")[2] for each in properties["outputResources"]]
    owner = management.batch["account"]
    assert made == [
        owner,
        f"{owner}/applications/{name}",
        f"{owner}/applications/{name}/versions/1.0",
        f"{owner}/pools/{name}",
    ]
    assert client.get_pool(name).target_dedicated_nodes == 1
    assert client.get_pool(name).identity.user_assigned_identities[0].resource_id == IDENTITY
    assert name in [each.id for each in client.list_applications()]
    assert management.ask("GET", f"/applications/{name}/versions/1.0").json()["properties"]["state"] == "Pending"
    again = deploy(management, template, account=owner, name=name)
    assert again["provisioningState"] == "Succeeded", again
    client.begin_delete_pool(name)


def test_what_the_data_plane_refuses_fails_the_deployment(management: Management, name: str) -> None:
    broken = {**POOL, "properties": {**POOL["properties"], "taskSlotsPerNode": 1000}}
    properties = deploy(
        management, {"parameters": PARAMETERS, "resources": [broken]}, account=management.batch["account"], name=name
    )
    assert properties["provisioningState"] == "Failed"
    assert properties["error"]["details"][0]["code"] == "InvalidPropertyValue"


def test_a_second_account_cannot_be_made(management: Management, name: str) -> None:
    template = {"parameters": PARAMETERS, "resources": [account(management)]}
    properties = deploy(management, template, account="another", name=name)
    assert properties["error"]["details"][0]["code"] == "SubscriptionQuotaExceeded"
