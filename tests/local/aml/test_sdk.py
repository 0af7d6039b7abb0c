"""The real clients with nothing but `eval "$(azbatchwrap local env)"`, as a user's program has them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, DefaultAzureCredential

from tests.fixtures_aml import AmlStack

STORY = Path(__file__).with_name("sdk_story.py")


def test_the_whole_story(aml_stack: AmlStack, tmp_path: Path) -> None:
    python, story = shlex.quote(sys.executable), shlex.quote(str(STORY))
    script = (
        f'eval "$({python} -m azbatchwrap.cli.main local env --data-dir {shlex.quote(str(aml_stack.folder))})"\n'
        f"exec {python} {story} {shlex.quote(str(tmp_path))}"
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "AZBATCHWRAP_", "ARM_"))
    }
    said = subprocess.run(
        ["/bin/sh", "-c", script], env=kept, capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr[-4000:]
    assert json.loads(said.stdout.splitlines()[-1]) == {
        "group before": False,
        "group after": True,
        "no workspace": "ResourceNotFound",
        "workspace": "space",
        "resources": ["components", "storageAccounts", "vaults", "workspaces", "workspaces"],
        "workspace again": "b",
        "compute": "STANDARD_D2_V3",
        "datastore": True,
        "deployed": True,
        "default": "main",
        "job": "Completed",
        "result": "SOME DATAX?",
        "steps": 2,
        "listed": True,
        "failed": "Failed",
        "scores": "score some data\n",
        "schedule": "hour",
        "too large": "ClusterCoreQuotaReached",
        "group at last": False,
    }


def test_the_default_credential_gets_a_token(aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch) -> None:
    aml_stack.use(monkeypatch)
    with DefaultAzureCredential() as credential:
        assert credential.get_token("https://management.azure.com/.default").token.count(".") == 2


def test_a_wrong_secret_gets_none(aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch) -> None:
    aml_stack.use(monkeypatch)
    with (
        ClientSecretCredential("adfs", aml_stack.client_id, "guess", authority=aml_stack.url) as credential,
        pytest.raises(ClientAuthenticationError, match="Invalid client secret"),
    ):
        credential.get_token("https://management.azure.com/.default")
