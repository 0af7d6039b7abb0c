"""Resource groups of a test's own on the shared management plane."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.fixtures_aml import ArmProcess


@dataclass(frozen=True)
class Group:
    """A resource group and short ways to ask about what lies in it."""

    arm: ArmProcess
    name: str

    @property
    def path(self) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{self.name}"

    def of(self, kind: str, name: str) -> str:
        """The address of a resource: ``Microsoft.X/things`` and its name."""
        return f"{self.path}/providers/{kind}/{name}"

    def make(self) -> None:
        assert self.arm.ask("PUT", self.path, {"location": "westeurope"}).status_code in {200, 201}

    def put(self, kind: str, name: str, **body: Any) -> requests.Response:
        return self.arm.ask("PUT", self.of(kind, name), {"location": "westeurope", **body})

    def get(self, kind: str, name: str) -> requests.Response:
        return self.arm.ask("GET", self.of(kind, name))

    def delete(self, kind: str, name: str) -> requests.Response:
        return self.arm.ask("DELETE", self.of(kind, name))

    def vault(self, name: str, **properties: Any) -> requests.Response:
        sku = {"family": "A", "name": "standard"}
        return self.put("Microsoft.KeyVault/vaults", name, properties={"tenantId": "t", "sku": sku, **properties})

    def storage(self, name: str) -> requests.Response:
        return self.put("Microsoft.Storage/storageAccounts", name, sku={"name": "Standard_LRS"})

    def slow(self, name: str) -> requests.Response:
        """A resource of a kind that nobody knows: its making is a long-running operation."""
        return self.put("Contoso.Things/things", name, properties={"a": 1})

    def state(self, name: str) -> Any:
        return self.get("Contoso.Things/things", name).json()["properties"]["provisioningState"]


@pytest.fixture
def group(arm: ArmProcess) -> Iterator[Group]:
    found = Group(arm, f"rg-{uuid.uuid4().hex[:8]}")
    found.make()
    yield found
    arm.admin.clear_faults()


def unique(prefix: str) -> str:
    """A name that is free everywhere."""
    return prefix + uuid.uuid4().hex[:8]


def code(answer: requests.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]
