"""Resources of known and unknown kinds."""

from __future__ import annotations

import pytest
from azure.storage.blob import BlobServiceClient

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.fixtures_aml import ArmProcess
from tests.local.arm.conftest import Group, code, unique

THINGS = "Contoso.Things/things"


class TestAnyKind:
    def test_a_life(self, group: Group) -> None:
        made = group.put(THINGS, "One", tags={"a": "b"}, properties={"deep": {"x": 1, "y": 2}})
        assert made.status_code == 201
        assert made.json()["id"] == f"{group.path}/providers/{THINGS}/One"
        changed = group.arm.ask("PATCH", group.of(THINGS, "one"), {"properties": {"deep": {"y": 3}}})
        assert changed.json()["properties"]["deep"] == {"x": 1, "y": 3}
        assert changed.json()["tags"] == {"a": "b"}
        replaced = group.put(THINGS, "One", properties={"z": 1})
        assert (replaced.status_code, replaced.json()["tags"]) == (200, {})
        assert replaced.json()["properties"] == {"z": 1, "provisioningState": "Succeeded"}
        assert group.arm.ask("HEAD", group.of(THINGS, "One")).status_code == 204
        assert group.delete(THINGS, "One").status_code == 202
        assert code(group.get(THINGS, "One")) == (404, "ResourceNotFound")
        assert group.delete(THINGS, "One").status_code == 204

    def test_a_parent_must_be_there(self, group: Group) -> None:
        answer = group.put(f"{THINGS}/one/parts", "two")
        assert code(answer) == (404, "ParentResourceNotFound")

    def test_a_parent_takes_its_children_along(self, group: Group) -> None:
        group.slow("one")
        group.put(f"{THINGS}/one/parts", "two")
        assert group.get(f"{THINGS}/one/parts", "two").status_code == 200
        group.delete(THINGS, "one")
        group.slow("one")
        assert group.get(f"{THINGS}/one/parts", "two").status_code == 404

    def test_a_group_must_be_there(self, arm: ArmProcess) -> None:
        nowhere = Group(arm, "nowhere")
        assert code(nowhere.slow("one")) == (404, "ResourceGroupNotFound")
        assert code(nowhere.get(THINGS, "one")) == (404, "ResourceGroupNotFound")

    def test_a_resource_stays_where_it_is(self, group: Group) -> None:
        group.slow("one")
        answer = group.arm.ask("PUT", group.of(THINGS, "one"), {"location": "eastus"})
        assert code(answer) == (409, "InvalidResourceLocation")

    def test_a_location_is_required(self, group: Group) -> None:
        assert code(group.arm.ask("PUT", group.of(THINGS, "one"), {})) == (400, "LocationRequired")


class TestStorageAccounts:
    def test_they_are_the_instances_storage(self, group: Group) -> None:
        name = unique("acct")
        made = group.storage(name).json()
        keys = group.arm.ask("POST", f"{group.of('Microsoft.Storage/storageAccounts', name)}/listKeys").json()["keys"]
        service = BlobServiceClient(made["properties"]["primaryEndpoints"]["blob"], keys[0]["value"])
        container = service.create_container(unique("made-"))
        container.upload_blob("a.txt", b"content")
        assert container.download_blob("a.txt").readall() == b"content"

    @pytest.mark.parametrize("name", ["Upper", "no-hyphen", "ab", "x" * 25])
    def test_names_that_are_not_allowed(self, group: Group, name: str) -> None:
        assert code(group.storage(name)) == (400, "AccountNameInvalid")

    def test_a_name_that_another_group_has(self, group: Group) -> None:
        name = unique("acct")
        group.storage(name)
        other = Group(group.arm, unique("rg-"))
        other.make()
        assert code(other.storage(name)) == (409, "StorageAccountAlreadyTaken")
        path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Storage/checkNameAvailability"
        assert group.arm.ask("POST", path, {"name": name}).json()["reason"] == "AlreadyExists"
        assert group.arm.ask("POST", path, {"name": unique("acct")}).json() == {"nameAvailable": True}
        assert group.arm.ask("POST", path, {"name": "A"}).json()["reason"] == "AccountNameInvalid"
        assert group.storage(name).status_code == 200

    def test_a_sku_is_required(self, group: Group) -> None:
        assert code(group.put("Microsoft.Storage/storageAccounts", unique("acct"))) == (400, "ValueMissing")


class TestKeyVaults:
    def deleted(self, group: Group, name: str) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/{name}"

    def test_a_deleted_one_keeps_its_name(self, group: Group) -> None:
        name = unique("kv-")
        assert group.vault(name).status_code == 201
        group.delete("Microsoft.KeyVault/vaults", name)
        found = group.arm.ask("GET", self.deleted(group, name)).json()
        assert found["properties"]["vaultId"].endswith(name)
        listed = group.arm.ask("GET", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.KeyVault/deletedVaults")
        assert name in [each["name"] for each in listed.json()["value"]]
        assert code(group.vault(name)) == (409, "ConflictError")

    def test_it_can_be_recovered(self, group: Group) -> None:
        name = unique("kv-")
        group.vault(name, enableRbacAuthorization=True)
        group.delete("Microsoft.KeyVault/vaults", name)
        recovered = group.vault(name, createMode="recover", enableRbacAuthorization=False)
        assert recovered.status_code == 201
        assert recovered.json()["properties"]["enableRbacAuthorization"] is True
        assert code(group.arm.ask("GET", self.deleted(group, name))) == (404, "DeletedVaultNotFound")

    def test_it_can_be_purged(self, group: Group) -> None:
        name = unique("kv-")
        group.vault(name)
        group.delete("Microsoft.KeyVault/vaults", name)
        assert group.arm.ask("POST", f"{self.deleted(group, name)}/purge").status_code == 200
        assert group.vault(name).status_code == 201

    def test_nothing_to_recover(self, group: Group) -> None:
        assert code(group.vault(unique("kv-"), createMode="recover")) == (404, "DeletedVaultNotFound")


def test_application_insights_rest_on_log_analytics(group: Group) -> None:
    kind = "Microsoft.Insights/components"
    assert code(group.put(kind, "ai", properties={"Application_Type": "web"})) == (400, "BadRequest")
    logs = group.of("Microsoft.OperationalInsights/workspaces", "la")
    assert code(group.put(kind, "ai", properties={"WorkspaceResourceId": logs})) == (400, "BadRequest")
    group.put("Microsoft.OperationalInsights/workspaces", "la")
    made = group.put(kind, "ai", properties={"WorkspaceResourceId": logs}).json()["properties"]
    again = group.put(kind, "ai", properties={"WorkspaceResourceId": logs}).json()["properties"]
    assert made["InstrumentationKey"] == again["InstrumentationKey"]


def test_registries_have_a_server(group: Group) -> None:
    name = unique("reg")
    made = group.put("Microsoft.ContainerRegistry/registries", name, sku={"name": "Basic"})
    assert made.json()["properties"]["loginServer"] == f"{name}.azurecr.io"
