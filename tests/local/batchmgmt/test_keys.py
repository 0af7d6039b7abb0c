"""Keys of the account: listed, renewed while everything runs, and known to all who read the instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError

from azbatchwrap import config
from azbatchwrap.local.stack import Options, Stack
from tests.fixtures_aml import aml_stack_of
from tests.fixtures_stack import clean_environment, ended_stack, local_variables, run_cli
from tests.local.batchmgmt.conftest import Management


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Management]:
    """An instance whose keys nobody else uses."""
    folder = tmp_path / "instance"
    with ended_stack(folder):
        Stack(folder).up(Options(aml=True))
        yield Management(aml_stack_of(folder), dict(Stack(folder).endpoint()["batch"]))


def takes(management: Management, key: str) -> bool:
    credential = AzureNamedKeyCredential(management.batch["account"], key)
    with BatchClient(management.batch["url"], credential, retry_total=0) as client:
        try:
            list(client.list_pools())
        except HttpResponseError as error:
            if error.status_code != 403:
                raise
            return False
    return True


def test_a_renewed_key_is_in_force_at_once_and_after_a_restart(own: Management) -> None:
    folder = own.stack.folder
    before = own.ask("POST", "/listKeys").json()
    assert before["primary"] == own.batch["key"] != before["secondary"]
    assert takes(own, before["primary"])
    assert takes(own, before["secondary"])

    after = own.ask("POST", "/regenerateKeys", {"keyName": "Primary"}).json()

    assert after["secondary"] == before["secondary"]
    assert takes(own, after["primary"])
    assert takes(own, after["secondary"])
    assert not takes(own, before["primary"])
    assert own.ask("POST", "/listKeys").json() == after
    assert own.ask("GET", "/pools").status_code == 200, "the management side goes on with it"
    endpoint = config.read_endpoint(folder)
    assert endpoint is not None
    assert local_variables(endpoint)["AZURE_BATCH_ACCESS_KEY"] == after["primary"]
    said = run_cli("local", "env", "--data-dir", str(folder), folder=folder, environment=clean_environment(folder))
    assert after["primary"] in said.stdout
    Stack(folder).down()
    Stack(folder).up()
    assert takes(own, after["primary"])
    assert not takes(own, before["primary"])


def test_the_other_key_is_renewed_alone(own: Management) -> None:
    before = own.ask("POST", "/listKeys").json()
    after = own.ask("POST", "/regenerateKeys", {"keyName": "Secondary"}).json()
    assert after["primary"] == before["primary"]
    assert [takes(own, key) for key in (before["primary"], after["secondary"], before["secondary"])] == [
        True,
        True,
        False,
    ]


def test_there_is_no_third_key(management: Management) -> None:
    assert management.code("POST", "/regenerateKeys", {"keyName": "Tertiary"}) == (400, "InvalidRequestBody")
