"""Deployment templates: their expressions, and what becomes of their resources."""

from __future__ import annotations

from typing import Any

import pytest

from azbatchwrap.local.arm.errors import ArmError
from azbatchwrap.local.arm.template import Scope, evaluate
from tests.local.arm.conftest import Group, code, unique

GROUP = {"name": "rg", "location": "eastus", "id": "/subscriptions/S/resourceGroups/rg", "tags": {"Env": "dev"}}


def scope(**variables: Any) -> Scope:
    return Scope(
        "S", GROUP, "T", {"name": "acct", "count": 2, "none": None}, variables, lambda _: {"key": "found"}, "dep"
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[parameters('name')]", "acct"),
        ("[PARAMETERS( 'name' )]", "acct"),
        ("[[not an expression]", "[not an expression]"),
        ("plain", "plain"),
        ("[concat('a', parameters('name'), 1)]", "aacct1"),
        ("[concat(createArray(1), createArray(2))]", [1, 2]),
        ("[if(equals('A', 'a'), 'yes', 'no')]", "yes"),
        ("[not(and(true(), or(false(), empty(''))))]", False),
        ("[resourceGroup().location]", "eastus"),
        ("[resourceGroup().tags['env']]", "dev"),
        ("[subscription().subscriptionId]", "S"),
        ("[subscription().tenantId]", "T"),
        ("[format('{0}-{1}', 'a', 2)]", "a-2"),
        ("['it''s']", "it's"),
        ("[substring('abcdef', 1, 2)]", "bc"),
        ("[toLower(split('A,B', ',')[1])]", "b"),
        ("[coalesce(parameters('none'), 'x')]", "x"),
        ("[json('null')]", None),
        ("[union(createObject('a', 1), createObject('b', 2))]", {"a": 1, "b": 2}),
        ("[resourceId('N/a/b', 'x', 'y')]", "/subscriptions/S/resourceGroups/rg/providers/N/a/x/b/y"),
        ("[resourceId('other', 'N/a', 'x')]", "/subscriptions/S/resourceGroups/other/providers/N/a/x"),
        ("[resourceId('Z', 'other', 'N/a', 'x')]", "/subscriptions/Z/resourceGroups/other/providers/N/a/x"),
        ("[reference('x').key]", "found"),
        ("[variables('outer')]", "acct!"),
        ("[int('5')]", 5),
        ("[deployment().name]", "dep"),
    ],
)
def test_expressions(expression: str, expected: object) -> None:
    assert (
        evaluate(expression, scope(outer="[concat(variables('inner'), '!')]", inner="[parameters('name')]")) == expected
    )


@pytest.mark.parametrize(
    "expression",
    [
        "[parameters('absent')]", "[variables('absent')]", "[frobnicate(1)]", "[concat('a']", "[concat('a') 'b']",
        "[resourceGroup().absent]", "[#]", "[if(true())]", "['open]", "[json('{')]",
    ],
)  # fmt: skip
def test_expressions_that_make_no_sense(expression: str) -> None:
    with pytest.raises(ArmError, match="InvalidTemplate"):
        evaluate(expression, scope())


def test_unique_strings_depend_on_their_parts_alone() -> None:
    first, again, other = (evaluate(f"[uniqueString('{text}')]", scope()) for text in "aab")
    assert first == again != other
    assert len(first) == 13


def thing(name: str, **further: Any) -> dict[str, Any]:
    return {"type": "Contoso.Things/things", "apiVersion": "2024-01-01", "name": name, "location": "eastus", **further}


def deploy(group: Group, template: dict[str, Any], **parameters: Any) -> Any:
    given = {name: {"value": value} for name, value in parameters.items()}
    body = {"properties": {"mode": "Incremental", "template": template, "parameters": given}}
    return group.arm.ask("PUT", group.of("Microsoft.Resources/deployments", "dep"), body)


def deployed(group: Group) -> Any:
    return group.get("Microsoft.Resources/deployments", "dep").json()["properties"]


class TestDeployments:
    def test_resources_come_in_the_order_of_their_needs(self, group: Group) -> None:
        account = unique("acct")
        template = {
            "parameters": {"place": {"type": "string", "defaultValue": "[resourceGroup().location]"}},
            "resources": [
                thing("second", location="[parameters('place')]", dependsOn=["first"], properties={"x": "[guid('a')]"}),
                thing("first", dependsOn=[f"[resourceId('Microsoft.Storage/storageAccounts', '{account}')]"]),
                thing("never", condition="[equals(1, 2)]"),
                {**thing(account), "type": "Microsoft.Storage/storageAccounts", "sku": {"name": "Standard_LRS"}},
            ],
            "outputs": {
                "blob": {
                    "type": "string",
                    "value": f"[reference('Microsoft.Storage/storageAccounts|{account}').primaryEndpoints.blob]",
                }
            },
        }
        answer = deploy(group, template)
        assert answer.status_code == 201, answer.text
        assert group.arm.ask("GET", answer.headers["azure-asyncoperation"]).json()["status"] == "Succeeded"
        properties = deployed(group)
        made = [each["id"].rpartition("/")[2] for each in properties["outputResources"]]
        assert (properties["provisioningState"], made) == ("Succeeded", [account, "first", "second"])
        assert properties["outputs"]["blob"]["value"].startswith("http://127.0.0.1")
        assert group.get("Contoso.Things/things", "second").json()["location"] == "westeurope"
        assert group.get("Contoso.Things/things", "never").status_code == 404
        again = deploy(group, template)
        assert again.status_code == 200

    def test_a_resource_that_is_refused_fails_the_deployment(self, group: Group) -> None:
        group.arm.admin.fault("forbidden", "/things/second")
        answer = deploy(group, {"resources": [thing("first"), thing("second"), thing("third")]})
        assert answer.status_code == 201
        properties = deployed(group)
        assert properties["provisioningState"] == "Failed"
        assert properties["error"]["code"] == "DeploymentFailed"
        assert properties["error"]["details"][0]["code"] == "AuthorizationFailed"
        assert group.get("Contoso.Things/things", "third").status_code == 404
        steps = group.arm.ask("GET", f"{group.path}/deployments/dep/operations").json()["value"]
        assert [each["properties"]["provisioningState"] for each in steps] == ["Succeeded", "Failed"]
        one = group.arm.ask("GET", f"{group.path}/deployments/dep/operations/{steps[0]['operationId']}")
        assert one.json() == steps[0]

    def test_a_resource_that_fails_later_fails_it_too(self, group: Group) -> None:
        group.arm.admin.fault("fail", "/things/first", times=1, code="QuotaExceeded", message="No more.")
        answer = deploy(group, {"resources": [thing("first"), thing("second", dependsOn=["first"])]})
        status = group.arm.ask("GET", answer.headers["azure-asyncoperation"]).json()
        assert (status["status"], status["error"]["code"]) == ("Failed", "DeploymentFailed")
        assert deployed(group)["error"]["details"] == [{"code": "QuotaExceeded", "message": "No more."}]
        assert group.get("Contoso.Things/things", "second").status_code == 404
        assert deploy(group, {"resources": [thing("first")]}).status_code == 200
        assert deployed(group)["provisioningState"] == "Succeeded"

    def test_one_that_goes_on_is_running(self, group: Group) -> None:
        group.arm.admin.fault("hang", "/things/")
        deploy(group, {"resources": [thing("first")]})
        assert deployed(group)["provisioningState"] == "Running"
        assert code(deploy(group, {"resources": []})) == (409, "DeploymentActive")
        path = group.of("Microsoft.Resources/deployments", "dep")
        assert group.arm.ask("POST", f"{path}/cancel").status_code == 204
        assert deployed(group)["provisioningState"] == "Canceled"
        assert code(group.arm.ask("POST", f"{path}/cancel")) == (409, "DeploymentCannotBeCancelled")

    @pytest.mark.parametrize(
        ("template", "words"),
        [
            ({"resources": [thing("a", dependsOn=["b"]), thing("b", dependsOn=["a"])]}, "circle"),
            ({"parameters": {"x": {"type": "string"}}, "resources": []}, "'x' is not provided"),
            ({"resources": [thing("a/b")]}, "does not fit the type"),
            ({"resources": [thing("a", copy={"count": 2})]}, "copy"),
        ],
    )
    def test_templates_that_are_refused(self, group: Group, template: dict[str, Any], words: str) -> None:
        answer = deploy(group, template)
        assert code(answer) == (400, "InvalidTemplate")
        assert words in answer.json()["error"]["message"]

    def test_foreign_parameters(self, group: Group) -> None:
        assert code(deploy(group, {"resources": []}, stranger=1)) == (400, "InvalidTemplate")

    def test_validation_makes_nothing(self, group: Group) -> None:
        path = f"{group.of('Microsoft.Resources/deployments', 'dep')}/validate"
        body = {"properties": {"mode": "Incremental", "template": {"resources": [thing("a")]}}}
        assert group.arm.ask("POST", path, body).status_code == 200
        assert group.get("Contoso.Things/things", "a").status_code == 404
