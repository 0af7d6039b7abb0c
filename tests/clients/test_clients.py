"""Programs that we did not write drive the services: each client tries every operation that it has."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.local.batch.routes import FORMER_OPERATIONS, OPERATIONS
from tests.clients.environments import node_environment, python_environment, required
from tests.clients.records import PROGRAMS, Report, run_program
from tests.clients.table import written_cells
from tests.clients.words import AZ_GROUPS, NOT_OFFERED, SLIPS

ALL = {name for name, *_ in (*OPERATIONS, *FORMER_OPERATIONS)}
AZ = "azure-cli==2.91.0"
#: Installations count in the time of the test that needs them.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def settings(client_settings: dict[str, Any]) -> dict[str, Any]:
    """Every program uses ids that begin with a prefix of its own."""
    return client_settings | {"prefix": f"c{secrets.token_hex(4)}"}


def _assert_covers(report: Report) -> None:
    """Every operation was tried and went well, but for the client's own slips and what it does not offer.

    The table in the documentation says the same.
    """
    missing = NOT_OFFERED.get(report.client, {}).keys()
    assert report.operations() == ALL - missing
    failed = report.failed()
    assert failed.keys() == SLIPS.get(report.client, {}).keys(), failed
    assert written_cells(report.client) == {name: name in ALL - missing - failed.keys() for name in ALL}


OLDER = ("14.2.0", "12.0.0", "9.0.0", "8.0.0", "6.0.1")


@pytest.mark.parametrize("version", OLDER)
def test_older_azure_batch(version: str, settings: dict[str, Any]) -> None:
    python = required(lambda: python_environment(f"azure-batch=={version}"))
    program = PROGRAMS / "azure_batch_msrest.py"
    _assert_covers(run_program(f"azure-batch {version}", [str(python), program], settings))


@pytest.mark.parametrize("version", OLDER)
def test_every_property_of_older_azure_batch(version: str, settings: dict[str, Any]) -> None:
    """azure-batch 15 has tests of its own: tests/local/batch/test_every_property.py."""
    python = required(lambda: python_environment(f"azure-batch=={version}"))
    command = [str(python), PROGRAMS / "every_property_msrest.py"]
    report = run_program(f"azure-batch {version}, every property", command, settings)
    assert report.failed() == {}
    assert report.operations() == {"pool", "job", "auto", "task", "schedule"}


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_azure_batch_15(kind: str, settings: dict[str, Any]) -> None:
    command: list[str | Path] = [sys.executable, PROGRAMS / "azure_batch_15.py", kind]
    _assert_covers(run_program(f"azure-batch 15.1.0 {kind}", command, settings))


@pytest.mark.parametrize("version", ["10.2.0", "8.0.0"])
def test_azure_batch_of_nodejs(version: str, settings: dict[str, Any]) -> None:
    found = required(lambda: node_environment(f"@azure/batch@{version}"))
    assert isinstance(found, tuple)
    node, modules = found
    command: list[str | Path] = [node, PROGRAMS / "azure_batch_node.mjs", modules]
    _assert_covers(run_program(f"@azure/batch {version}", command, settings))


def test_the_management_client_and_tokens(settings: dict[str, Any]) -> None:
    pytest.importorskip("azure.mgmt.batch")
    report = run_program("azure-mgmt-batch", [sys.executable, PROGRAMS / "azure_mgmt_batch.py"], settings)
    assert report.failed() == {}
    assert len(report.operations()) > 30


def test_every_group_of_the_azure_cli(settings: dict[str, Any]) -> None:
    python = str(required(lambda: python_environment(AZ)))
    data = run_program("azure-cli 2.91.0", [python, PROGRAMS / "az_batch.py"], settings)
    management = run_program("azure-cli 2.91.0 signed in", [python, PROGRAMS / "az_management.py"], settings)
    assert management.failed() == {}
    words = [each.detail.partition(":")[0] for each in data.tried] + [each.operation for each in management.tried]
    commands = [word.removeprefix("az batch ") for word in words if word.startswith("az batch ")]
    assert {command.rpartition(" ")[0] for command in commands} >= AZ_GROUPS
    _assert_covers(data)
