"""Workspaces and what lies in them, without any job."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from azbatchwrap.local.aml.jobs import Jobs
from azbatchwrap.local.aml.schedules import Schedules
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.names import SUBSCRIPTION
from azbatchwrap.local.arm.server import assemble
from azbatchwrap.local.arm.service import Arm, Settings
from tests.fixtures_aml import ArmProcess
from tests.fixtures_stack import RunningAzurite
from tests.local.aml.conftest import Space, code, literal, unique


class TestWorkspaces:
    @pytest.fixture
    def own(self, arm: ArmProcess) -> Space:
        space = Space(arm)
        space.make()
        return space

    def test_what_it_rests_on_must_be_there(self, space: Space) -> None:
        missing = space.storage.replace("acct", "nope")
        assert code(space.make_workspace(storageAccount=missing)) == (400, "ValidationError")
        assert code(space.make_workspace(keyVault=None)) == (400, "ValidationError")

    def test_its_id_and_its_datastores_stay(self, space: Space) -> None:
        before = space.ok("GET", space.path)["properties"]
        again = space.make_workspace(friendlyName="Another name").json()["properties"]
        assert (again["workspaceId"], again["friendlyName"]) == (before["workspaceId"], "Another name")
        patched = space.arm.ask("PATCH", space.path, {"tags": {"a": "b"}}).json()
        assert (patched["tags"], patched["properties"]["friendlyName"]) == ({"a": "b"}, "Another name")
        default = space.ok("GET", f"{space.path}/datastores?isDefault=true&api-version=2024-01-01")["value"]
        assert [each["name"] for each in default] == ["workspaceblobstore"]
        assert space.blobs.get_container_client(default[0]["properties"]["containerName"]).exists()

    def test_lists_of_a_group_and_of_the_subscription(self, space: Space) -> None:
        kind = "providers/Microsoft.MachineLearningServices/workspaces"
        of_group = space.ok("GET", f"{space.group}/{kind}")["value"]
        assert [each["id"] for each in of_group] == [space.path]
        everywhere = space.ok("GET", f"/subscriptions/{SUBSCRIPTION}/{kind}")["value"]
        assert space.path in [each["id"] for each in everywhere]

    def test_a_deleted_one_keeps_its_name(self, own: Space) -> None:
        before = own.ok("GET", own.path)["properties"]["workspaceId"]
        own.ok("DELETE", own.path)
        deleted = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/deletedWorkspaces"
        assert own.path in [each["id"] for each in own.ok("GET", deleted)["value"]]
        refused = own.make_workspace()
        assert code(refused) == (409, "Conflict")
        assert "Soft-deleted workspace exists" in refused.json()["error"]["message"]
        recovered = own.make_workspace(allowRecoverSoftDeletedWorkspace=True)
        assert recovered.json()["properties"]["workspaceId"] == before
        assert own.ask("GET", "datastores/data").status_code == 200

    @pytest.mark.parametrize(
        ("recovers", "other_storage", "words"),
        [("false", False, "Soft-deleted workspace exists"), ("true", True, "storageAccount of a workspace cannot be")],
    )
    def test_a_template_that_cannot_have_it_leaves_it_deleted(
        self, own: Space, recovers: str, other_storage: bool, words: str
    ) -> None:
        own.ok("DELETE", own.path)
        storage = own.storage
        if other_storage:
            storage = f"{own.group}/providers/Microsoft.Storage/storageAccounts/{unique('other')}"
            own.ok("PUT", storage, {"location": "westeurope", "sku": {"name": "Standard_LRS"}})
        properties = {"storageAccount": storage, "keyVault": own.vault, "allowRecoverSoftDeletedWorkspace": recovers}
        workspace = {
            "type": "Microsoft.MachineLearningServices/workspaces",
            "apiVersion": "2023-08-01-preview",
            "name": "space",
            "location": "westeurope",
            "properties": properties,
        }
        deployment = f"{own.group}/providers/Microsoft.Resources/deployments/{unique('d')}"
        template = {"contentVersion": "1.0.0.0", "resources": [workspace]}
        own.ok("PUT", deployment, {"properties": {"mode": "Incremental", "template": template}})
        failed = own.ok("GET", deployment)["properties"]
        assert words in failed["error"]["details"][0]["message"]
        assert own.ask("GET", "datastores/data").status_code == 404
        assert own.make_workspace(allowRecoverSoftDeletedWorkspace=True).status_code == 201

    def test_one_that_is_purged_leaves_its_name(self, own: Space) -> None:
        own.ok("DELETE", own.path)
        own.ok("DELETE", f"{own.path}?forceToPurge=true")
        assert own.make_workspace().status_code == 201
        assert own.ask("GET", "datastores/data").status_code == 404
        own.ok("DELETE", f"{own.path}?forceToPurge=true")
        assert own.make_workspace().status_code == 201

    def test_containers_go_with_their_storage_account(self, own: Space) -> None:
        own.upload("a.txt", "here")
        code_container = own.ok("GET", f"{own.path}{own.code({'x.py': ''}).partition('/workspaces/space')[2]}")
        own.ok("DELETE", own.storage)
        for container in (own.container, code_container["properties"]["codeUri"].split("/")[-2]):
            with pytest.raises(ResourceNotFoundError):
                own.blobs.get_container_client(container).get_container_properties()


class TestDatastores:
    def test_secrets_are_shown_on_request_only(self, space: Space) -> None:
        assert space.ok("GET", f"{space.path}/datastores/data")["properties"]["credentials"] == {
            "credentialsType": "AccountKey"
        }
        secrets = space.ok("POST", f"{space.path}/datastores/data/listSecrets")
        assert secrets == {"secretsType": "AccountKey", "key": "a2V5"}

    @pytest.mark.parametrize(
        "properties",
        [
            {},
            {"datastoreType": "AzureBlob", "containerName": "c-1"},
            {"datastoreType": "AzureBlob", "accountName": "a", "containerName": "Not Allowed"},
            {
                "datastoreType": "AzureBlob",
                "accountName": "a",
                "containerName": "c-1",
                "credentials": {"credentialsType": "AccountKey"},
            },
        ],
    )
    def test_bad_ones(self, space: Space, properties: dict[str, Any]) -> None:
        assert code(space.try_put("datastores/bad", **properties)) == (400, "BadArgument")

    def test_one_without_secrets(self, space: Space) -> None:
        space.put("datastores/open", datastoreType="AzureBlob", accountName="a", containerName="c-1")
        assert space.ask("POST", "datastores/open/listSecrets").status_code == 400


def cluster(**inner: Any) -> dict[str, Any]:
    return {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_D2_v3", **inner}}


class TestComputes:
    def test_what_the_service_fills_in(self, space: Space) -> None:
        scale = {"minNodeCount": 0, "maxNodeCount": 4}
        made = space.put(f"computes/{unique('c')}", **cluster(scaleSettings=scale))["properties"]
        assert made["provisioningState"] == "Succeeded"
        assert made["properties"]["vmSize"] == "STANDARD_D2_V3"
        assert made["properties"]["scaleSettings"]["nodeIdleTimeBeforeScaleDown"] == "PT120S"
        assert made["properties"]["enableNodePublicIp"] is True

    def test_its_scale_changes_and_its_size_does_not(self, space: Space) -> None:
        name = unique("c")
        space.put(f"computes/{name}", **cluster())
        body = {"properties": {"properties": {"scaleSettings": {"maxNodeCount": 7}}}}
        patched = space.ok("PATCH", f"{space.path}/computes/{name}", body)["properties"]["properties"]
        assert (patched["scaleSettings"]["maxNodeCount"], patched["vmSize"]) == (7, "STANDARD_D2_V3")
        assert code(space.try_put(f"computes/{name}", **cluster(vmSize="Standard_DS3_v2"))) == (400, "BadArgument")

    @pytest.mark.parametrize(
        "inner",
        [
            {"vmSize": "huge"},
            {"vmSize": None},
            {"scaleSettings": {"minNodeCount": 3, "maxNodeCount": 2}},
            {"scaleSettings": {"minNodeCount": -1, "maxNodeCount": 2}},
            {"scaleSettings": {"minNodeCount": "0", "maxNodeCount": 2}},
        ],
    )
    def test_bad_ones(self, space: Space, inner: dict[str, Any]) -> None:
        assert code(space.try_put(f"computes/{unique('c')}", **cluster(**inner))) == (400, "BadArgument")

    def test_the_quota(self, space: Space) -> None:
        wanted = cluster(scaleSettings={"minNodeCount": 0, "maxNodeCount": 51})
        assert code(space.try_put(f"computes/{unique('c')}", **wanted)) == (400, "ClusterCoreQuotaReached")
        place = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/westeurope"
        usages = {each["name"]["value"]: each for each in space.ok("GET", f"{place}/usages")["value"]}
        assert usages["standardDv3Family"]["currentValue"] >= 2
        assert usages["standardDv3Family"]["limit"] == 100
        assert "Standard_D2_v2" in [each["name"] for each in space.ok("GET", f"{place}/vmSizes")["value"]]

    @pytest.mark.parametrize("name", ["a", "1cpu", "with_underscore", "x" * 33])
    def test_names_that_are_not_allowed(self, space: Space, name: str) -> None:
        assert code(space.try_put(f"computes/{name}", **cluster())) == (400, "BadArgument")


class TestAssets:
    def test_a_version_does_not_change(self, space: Space) -> None:
        address = f"environments/{unique('e')}/versions/1"
        space.put(address, image="one", tags={"a": "b"})
        assert space.put(address, image="one", tags={"c": "d"})["properties"]["tags"] == {"c": "d"}
        assert code(space.try_put(address, image="two")) == (400, "AssetVersionImmutable")

    def test_versions_newest_first(self, space: Space) -> None:
        name = unique("e")
        for version in ("1", "2", "10"):
            space.put(f"environments/{name}/versions/{version}", image=version)
        space.put(f"environments/{name}/versions/2", image="2", isArchived=True)
        listed = space.ok("GET", f"{space.path}/environments/{name}/versions?$orderBy=createdtime desc&$top=2")
        assert [each["name"] for each in listed["value"]] == ["10", "1"]

    def test_the_container_tells_the_latest_version_and_the_next(self, space: Space) -> None:
        name = unique("e")
        for version in ("9", "10", "named"):
            space.put(f"environments/{name}/versions/{version}", image=version)
        properties = space.ok("GET", f"{space.path}/environments/{name}")["properties"]
        assert (properties["latestVersion"], properties["nextVersion"]) == ("named", "11")

    def test_codes_are_found_by_their_content(self, space: Space) -> None:
        content = uuid.uuid4().hex
        path = f"{space.path}/codes/{uuid.uuid4()}/versions?hash={content}&hashVersion=202208"
        assert space.ok("GET", path)["value"] == []
        made = f"codes/{uuid.uuid4()}/versions/1"
        space.put(made, codeUri="http://somewhere/c/src", properties={"hash_sha256": content})
        assert [each["id"] for each in space.ok("GET", path)["value"]] == [f"{space.path}/{made}"]

    @pytest.mark.parametrize("kind", ["codes", "components", "environments", "models", "data"])
    def test_empty_ones(self, space: Space, kind: str) -> None:
        assert code(space.try_put(f"{kind}/{unique('x')}/versions/1")) == (400, "BadArgument")


class TestEndpoints:
    @pytest.mark.parametrize("name", ["ab", "simple_pipeline", "1st", "ends-", "x" * 33])
    def test_names_that_are_not_allowed(self, space: Space, name: str) -> None:
        assert code(space.try_put(f"batchEndpoints/{name}")) == (400, "BadArgument")

    def test_names_are_unique_in_their_region(self, space: Space, arm: ArmProcess) -> None:
        name = unique("ep-")
        space.put(f"batchEndpoints/{name}")
        other = Space(arm)
        other.make()
        assert code(other.try_put(f"batchEndpoints/{name}")) == (409, "EndpointNameAlreadyTaken")
        elsewhere = other.ask("PUT", f"batchEndpoints/{name}", {"location": "eastus", "properties": {}})
        assert elsewhere.status_code == 201

    def test_the_default_must_be_there(self, space: Space) -> None:
        answer = space.try_put(f"batchEndpoints/{unique('ep-')}", defaults={"deploymentName": "absent"})
        assert code(answer) == (400, "DeploymentNotFound")

    @pytest.mark.parametrize(
        ("properties", "words"),
        [
            ({}, "names no pipeline component"),
            ({"deploymentConfiguration": {"componentId": {"assetId": "azureml:absent:1"}}}, "absent:1 does not exist"),
            ({"compute": "absent"}, "The compute absent does not exist"),
        ],
    )
    def test_deployments_name_what_exists(self, space: Space, properties: dict[str, Any], words: str) -> None:
        name = unique("ep-")
        space.put(f"batchEndpoints/{name}")
        answer = space.try_put(f"batchEndpoints/{name}/deployments/main", **properties)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]

    def test_deployments_go_with_their_endpoint(self, space: Space) -> None:
        endpoint = space.deploy(space.component("true"))
        space.ok("DELETE", f"{space.path}/batchEndpoints/{endpoint}")
        assert space.ask("GET", f"batchEndpoints/{endpoint}/deployments/main").status_code == 404


HOURLY = {"triggerType": "Recurrence", "frequency": "hour", "interval": 1}


class TestSchedules:
    @pytest.mark.parametrize(
        "properties",
        [
            {"trigger": HOURLY},
            {"trigger": HOURLY, "action": {"actionType": "CreateMonitor"}},
            {"trigger": HOURLY, "action": {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": {}}},
            {"trigger": {}, "action": {"actionType": "CreateJob", "jobDefinition": {"jobType": "Command"}}},
        ],
    )
    def test_bad_ones(self, space: Space, properties: dict[str, Any]) -> None:
        assert code(space.try_put(f"schedules/{unique('s')}", **properties)) == (400, "BadArgument")

    async def test_what_is_due_is_started_once(self, tmp_path: Path, azurite: RunningAzurite) -> None:
        """In this process, where the service can be told the time."""
        arm = assemble(Settings(tmp_path, "secret", azurite.connection_string))
        jobs = Jobs(arm)
        schedules = Schedules(arm, jobs)
        workspace = _bare_workspace(arm)
        invocation = {"endpointName": "ep-one", "properties": {"inputData": {"word": literal("due")}}}
        actions = {
            "command": {"actionType": "CreateJob", "jobDefinition": {"jobType": "Command", "command": "true"}},
            "endpoint": {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": invocation},
        }
        for name, action in actions.items():
            arm.resources.put(ids.parse(f"{workspace}/schedules/{name}"), _scheduled(action))
        arm.resources.put(ids.parse(f"{workspace}/schedules/off"), _scheduled(actions["command"], isEnabled=False))
        await jobs.start()
        try:
            later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=3, minutes=1)
            for _ in range(2):
                schedules.start_due(later)
            found = [each["properties"] for each in arm.resources.below(workspace, JOB)]
            assert sorted(each["jobType"] for each in found) == ["Command", "Pipeline"]
            assert [each["tags"] for each in found if each["tags"]] == [{"azureml.schedule": "command"}]
            assert [each["inputs"]["word"]["value"] for each in found if "inputs" in each] == ["due"]
            schedules.start_due(later + dt.timedelta(hours=1))
            assert len(arm.resources.below(workspace, JOB)) == 4
        finally:
            await jobs.stop()
            arm.store.close()

    def test_an_endpoint_may_be_what_is_invoked(self, space: Space) -> None:
        definition = {"endpointName": "some-endpoint", "properties": {"inputData": {}}}
        action = {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": definition}
        made = space.put(f"schedules/{unique('s')}", trigger=HOURLY, action=action)["properties"]
        assert (made["isEnabled"], made["provisioningState"]) == (True, "Succeeded")


JOB = "Microsoft.MachineLearningServices/workspaces/jobs"


def _scheduled(action: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {"properties": {"trigger": HOURLY, "action": action, **further}}


def _bare_workspace(arm: Arm) -> str:
    """A workspace and an endpoint, of which there is no more than their records. Returns the workspace's id."""
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
    arm.store.save("group", group.lower(), {"name": "rg"})
    workspace = f"{group}/providers/Microsoft.MachineLearningServices/workspaces/space"
    kinds = "Microsoft.MachineLearningServices/workspaces"
    arm.resources.save({"id": workspace, "name": "space", "type": kinds, "properties": {}})
    for address, properties in (
        ("components/c", {}),
        ("components/c/versions/1", {"componentSpec": {"type": "command", "command": "true", "inputs": {"word": {}}}}),
        ("batchEndpoints/ep-one", {}),
        (
            "batchEndpoints/ep-one/deployments/main",
            {"deploymentConfiguration": {"componentId": {"assetId": f"{workspace}/components/c/versions/1"}}},
        ),
        ("batchEndpoints/ep-one", {"defaults": {"deploymentName": "main"}}),
    ):
        arm.resources.put(ids.parse(f"{workspace}/{address}"), {"location": "eastus", "properties": properties})
    return workspace
