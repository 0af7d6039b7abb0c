"""The Azure CLI, unchanged, against the local service. Skipped where there is no ``az``; CI sets AZ_REQUIRED=1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_service import BatchService, wait_until

Az = Callable[..., Any]


@pytest.fixture
def az(shared_batch_service: BatchService, tmp_path: Path) -> Az:
    """Runs ``az batch …`` and gives the parsed answer; a failure gives the message on stderr instead."""
    program = os.environ.get("AZ") or shutil.which("az")
    if program is None:
        if os.environ.get("AZ_REQUIRED"):
            pytest.fail("AZ_REQUIRED is set, and there is no az")
        pytest.skip("the Azure CLI is not installed")
    environment = {
        **os.environ,
        "AZURE_BATCH_ACCOUNT": shared_batch_service.account,
        "AZURE_BATCH_ACCESS_KEY": shared_batch_service.key,
        "AZURE_BATCH_ENDPOINT": shared_batch_service.url,
        "AZURE_CONFIG_DIR": str(tmp_path / "az"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
    }

    def run(line: str, *more: str, refused: str = "") -> Any:
        command = [program, "batch", *line.split(), *more]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if refused:
            assert done.returncode != 0
            assert refused in done.stderr
            return None
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


@pytest.mark.timeout(300)
def test_a_session_of_the_azure_cli(az: Az, tmp_path: Path) -> None:
    agent = "batch.node.ubuntu 22.04"
    image = "canonical:0001-com-ubuntu-server-jammy:22_04-lts"
    az(
        f"pool create --id azp --vm-size Standard_A1_v2 --target-dedicated-nodes 1 --image {image} --node-agent-sku-id",
        agent,
    )
    assert az("pool list --select id,state --filter", "id eq 'azp'") == [{"id": "azp", "state": "active"}]
    az("job create --id azj --pool-id azp --metadata a=b")
    az("job set --job-id azj --priority 5")
    assert az("job show --job-id azj")["priority"] == 5

    az("task create --job-id azj --task-id t1 --command-line", "/bin/echo hello")
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([{"id": f"m{number}", "commandLine": "/bin/true"} for number in range(250)]))
    assert len(az(f"task create --job-id azj --json-file {tasks}")) == 250
    wait_until(lambda: az("job task-counts show --job-id azj")["taskCounts"]["succeeded"] == 251)

    assert len(az("task list --job-id azj")) == 251
    assert az("task show --job-id azj --task-id t1")["executionInfo"]["exitCode"] == 0
    names = {file["name"] for file in az("task file list --job-id azj --task-id t1")}
    assert names == {"stdout.txt", "stderr.txt", "wd"}
    out = tmp_path / "out.txt"
    az(f"task file download --job-id azj --task-id t1 --file-path stdout.txt --destination {out}")
    assert out.read_text() == "hello\n"

    az("task reactivate --job-id azj --task-id t1", refused="TaskSucceeded")
    az("job-schedule create --id azs --recurrence-interval PT1H --pool-id azp")
    assert [job["id"] for job in az("job list --job-schedule-id azs")] == ["azs:job-1"]
    az("job-schedule delete --job-schedule-id azs --yes")
    az("job delete --job-id azj --yes")
    az("pool delete --pool-id azp --yes")
    az("pool show --pool-id azp", refused="PoolNotFound")
