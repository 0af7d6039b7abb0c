"""Subscriptions, providers and resource groups."""

from __future__ import annotations

import pytest

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.fixtures_aml import ArmProcess
from tests.local.arm.conftest import Group, code, unique


def test_a_life(arm: ArmProcess) -> None:
    group = Group(arm, unique("Rg-"))
    assert arm.ask("HEAD", group.path).status_code == 404
    assert code(arm.ask("GET", group.path)) == (404, "ResourceGroupNotFound")
    made = arm.ask("PUT", group.path, {"location": "West Europe", "tags": {"a": "b"}})
    assert (made.status_code, made.json()["location"]) == (201, "westeurope")
    assert arm.ask("HEAD", group.path).status_code == 204
    again = arm.ask("PUT", group.path.lower(), {"location": "westeurope"})
    assert (again.status_code, again.json()["name"], again.json()["tags"]) == (200, group.name, {})
    assert arm.ask("PATCH", group.path, {"tags": {"c": "d"}}).json()["tags"] == {"c": "d"}
    assert group.name in [each["name"] for each in arm.ask("GET", group.path.rpartition("/")[0]).json()["value"]]
    deleted = arm.ask("DELETE", group.path)
    assert deleted.status_code == 202
    assert arm.ask("GET", deleted.headers["location"]).status_code == 204
    assert arm.ask("HEAD", group.path).status_code == 404


def test_groups_are_found_by_their_tags(arm: ArmProcess) -> None:
    one, other, tag = Group(arm, unique("rg-")), Group(arm, unique("rg-")), unique("tag")
    for group, value in ((one, "it's"), (other, "else")):
        arm.ask("PUT", group.path, {"location": "eastus", "tags": {tag: value}})

    def listed(text: str) -> list[str]:
        answer = arm.ask("GET", f"{one.path.rpartition('/')[0]}?$filter={text}")
        return [each["name"] for each in answer.json()["value"]]

    assert listed(f"tagName eq '{tag}'") == [one.name, other.name]
    assert listed(f"tagname eq '{tag.upper()}' and tagvalue eq 'it''s'") == [one.name]
    assert listed(f"tagName eq '{tag}' and name eq '{other.name}'") == [other.name]
    assert listed(f"tagName eq '{unique('none')}'") == []
    refused = arm.ask("GET", f"{one.path.rpartition('/')[0]}?$filter=startswith(name, 'rg')")
    assert code(refused) == (400, "InvalidFilterInQueryString")


def test_a_group_stays_where_it_is(group: Group) -> None:
    assert code(group.arm.ask("PUT", group.path, {"location": "eastus"})) == (409, "InvalidResourceGroupLocation")


@pytest.mark.parametrize("name", ["ends.", "has blank", "x" * 91, "sl~ash"])
def test_names_that_are_not_allowed(arm: ArmProcess, name: str) -> None:
    answer = arm.ask("PUT", Group(arm, name).path, {"location": "eastus"})
    assert code(answer) == (400, "InvalidResourceGroupName")


def test_a_location_is_required(arm: ArmProcess) -> None:
    assert code(arm.ask("PUT", Group(arm, unique("rg")).path, {})) == (400, "LocationRequired")


def test_what_lies_in_a_group_goes_with_it(group: Group) -> None:
    account, vault = unique("acct"), unique("kv-")
    group.storage(account)
    group.vault(vault)
    listed = group.arm.ask("GET", f"{group.path}/resources").json()["value"]
    assert [each["name"] for each in listed] == [account, vault]
    only = group.arm.ask("GET", f"{group.path}/resources?$filter=resourceType eq 'Microsoft.KeyVault/vaults'").json()
    assert [each["name"] for each in only["value"]] == [vault]
    everywhere = (
        f"/subscriptions/{SUBSCRIPTION}/resources?$filter=resourceGroup eq '{group.name}' and name eq '{account}'"
    )
    assert [each["name"] for each in group.arm.ask("GET", everywhere).json()["value"]] == [account]
    group.arm.ask("DELETE", group.path)
    group.make()
    assert group.arm.ask("GET", f"{group.path}/resources").json()["value"] == []
    # Deleted, a vault keeps its name.
    assert code(group.vault(vault)) == (409, "ConflictError")


def test_a_deletion_that_takes_its_time(group: Group) -> None:
    group.arm.admin.fault("hang", f"{group.name}$", methods="DELETE")
    answer = group.arm.ask("DELETE", group.path)
    assert group.arm.ask("GET", answer.headers["location"]).status_code == 202
    assert group.arm.ask("GET", group.path).json()["properties"]["provisioningState"] == "Deleting"
    assert code(group.arm.ask("PUT", group.path, {"location": "westeurope"})) == (409, "ResourceGroupBeingDeleted")


def test_a_deletion_that_fails(group: Group) -> None:
    group.arm.admin.fault("fail", f"{group.name}$", methods="DELETE", code="ScopeLocked")
    answer = group.arm.ask("DELETE", group.path)
    status = group.arm.ask("GET", answer.headers["azure-asyncoperation"]).json()
    assert (status["status"], status["error"]["code"]) == ("Failed", "ScopeLocked")
    assert group.arm.ask("GET", group.path).status_code == 200


def test_long_lists_come_in_pages(group: Group) -> None:
    for number in range(3):
        group.slow(f"thing-{number}")
    first = group.arm.ask("GET", f"{group.path}/providers/Contoso.Things/things?$top=2").json()
    second = group.arm.ask("GET", first["nextLink"]).json()
    assert [each["name"] for each in first["value"] + second["value"]] == ["thing-0", "thing-1", "thing-2"]
    assert "nextLink" not in second
    wrong = group.arm.ask("GET", f"{group.path}/providers/Contoso.Things/things?$top=many")
    assert code(wrong) == (400, "InvalidParameter")


class TestSubscriptions:
    def test_there_is_one_from_the_start(self, arm: ArmProcess) -> None:
        assert SUBSCRIPTION in [each["subscriptionId"] for each in arm.ask("GET", "/subscriptions").json()["value"]]

    def test_any_other_may_be_used(self, arm: ArmProcess) -> None:
        number = "11111111-2222-3333-4444-555555555555"
        arm.ask("PUT", f"/subscriptions/{number}/resourceGroups/one", {"location": "eastus"})
        assert number in [each["subscriptionId"] for each in arm.ask("GET", "/subscriptions").json()["value"]]
        assert arm.ask("GET", f"/subscriptions/{number}").json()["state"] == "Enabled"

    def test_providers_are_registered(self, arm: ArmProcess) -> None:
        path = f"/subscriptions/{SUBSCRIPTION}/providers"
        found = {each["namespace"]: each for each in arm.ask("GET", path).json()["value"]}
        assert "Microsoft.MachineLearningServices" in found
        registered = arm.ask("POST", f"{path}/microsoft.storage/register").json()
        assert (registered["namespace"], registered["registrationState"]) == ("Microsoft.Storage", "Registered")
        assert {"workspaces", "workspaces/computes"} <= {
            each["resourceType"] for each in found["Microsoft.MachineLearningServices"]["resourceTypes"]
        }
