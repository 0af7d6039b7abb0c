"""The management side of Batch in a whole instance, asked over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from azure.batch import BatchClient
from azure.core.credentials import AzureNamedKeyCredential

from azbatchwrap.local.arm.names import CLIENT_ID, TENANT
from azbatchwrap.local.stack import Stack
from tests.fixtures_aml import AmlStack

TIMEOUT = 30


@dataclass(frozen=True)
class Management:
    """Requests with a token. Addresses count from the account on."""

    stack: AmlStack
    batch: dict[str, Any]

    def token(self, audience: str | None = None) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": self.stack.client_secret,
            "scope": f"{audience or self.stack.url}/.default",
        }
        address = f"{self.stack.url}/{TENANT}/oauth2/token"
        answer = requests.post(address, data=form, verify=self.stack.bundle, timeout=TIMEOUT)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def ask(self, method: str, path: str, body: object = None) -> requests.Response:
        place = f"/subscriptions/{self.stack.subscription}/resourceGroups/azbatchwrap/providers/Microsoft.Batch"
        address = f"{self.stack.url}{place}/batchAccounts/{self.batch['account']}{path}?api-version=2024-07-01"
        headers = {"authorization": f"Bearer {self.token()}"}
        return requests.request(method, address, json=body, headers=headers, verify=self.stack.bundle, timeout=TIMEOUT)

    def code(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and code of a refusal."""
        answer = self.ask(method, path, body)
        return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture(scope="session")
def management(aml_stack: AmlStack) -> Management:
    return Management(aml_stack, dict(Stack(aml_stack.folder).endpoint()["batch"]))


@pytest.fixture
def client(management: Management) -> Iterator[BatchClient]:
    credential = AzureNamedKeyCredential(management.batch["account"], management.batch["key"])
    with BatchClient(management.batch["url"], credential, retry_total=0) as client:
        yield client
