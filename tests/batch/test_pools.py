from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import datetime, timezone

import pytest

from azbatchwrap.batch.formula import Scale, read_formula
from azbatchwrap.batch.jobs import LONGEST_DELEGATION, SAS_MARGIN, JobPlan, Jobs
from azbatchwrap.batch.node_setup import start_task
from azbatchwrap.batch.pools import PoolPlan, Pools
from azbatchwrap.config import PoolSettings
from azbatchwrap.errors import ConfigurationError, Conflict, PoolError

from .conftest import URL, error_body

POOL = f"{URL}/pools/p"
UBUNTU = {
    "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
    "nodeAgentSKUId": "batch.node.ubuntu 24.04",
    "verificationType": "verified",
    "osType": "linux",
}


@pytest.fixture
def pools(door):
    door.answers.get(f"{URL}/supportedimages", json={"value": [UBUNTU]})
    return Pools(door.service, PoolSettings(), "mine")


def sent(door, call=-1):
    return json.loads(door.answers.calls[call].request.body)


def test_a_pool_says_whose_it_is_and_what_it_was_asked_for(door, pools):
    door.answers.post(f"{URL}/pools", status=201)
    assert pools.create(PoolPlan("p", "standard_d2s_v3", 3, 2, 4, metadata={"k": "v"})) == ""
    body = sent(door)
    facts = {item["name"]: item["value"] for item in body["metadata"]}
    assert (body["targetDedicatedNodes"], body["targetLowPriorityNodes"], body["taskSlotsPerNode"]) == (3, 2, 4)
    assert facts["azbatchwrap_project"] == "mine"
    assert facts["k"] == "v"
    assert "startTask" not in body
    assert pools.is_ours(body)
    assert not Pools(door.service, PoolSettings(), "other").is_ours(body)


def test_what_the_data_plane_cannot_make_needs_the_management_plane(door, pools):
    place = "/subscriptions/s/resourceGroups/g/providers"
    subnet = f"{place}/Microsoft.Network/virtualNetworks/v/subnets/nodes"
    for special in ({"identity": f"{place}/Microsoft.ManagedIdentity/userAssignedIdentities/me"}, {"subnet": subnet}):
        with pytest.raises(ConfigurationError, match="AZURE_SUBSCRIPTION_ID"):
            pools.create(PoolPlan("p", "standard_d2s_v3", 1, **special))
    assert all(call.request.method == "GET" for call in door.answers.calls)


def test_metadata_is_changed_entry_by_entry_and_not_over_somebody_elses_change(door, pools):
    mine = [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]
    door.answers.get(POOL, json={"id": "p", "eTag": "0x1", "metadata": mine})
    door.answers.patch(POOL, status=412, json=error_body("ConditionNotMet"))
    door.answers.get(POOL, json={"id": "p", "eTag": "0x2", "metadata": [*mine, {"name": "c", "value": "3"}]})
    door.answers.patch(POOL, status=200)
    pools.set_metadata("p", {"b": "new"})
    assert {item["name"]: item["value"] for item in sent(door)["metadata"]} == {"a": "1", "b": "new", "c": "3"}
    assert door.answers.calls[-1].request.headers["If-Match"] == "0x2"


def test_metadata_that_others_keep_changing_is_given_up(door, pools):
    door.answers.get(POOL, json={"id": "p", "eTag": "0x1"})
    door.answers.patch(POOL, status=412, json=error_body("ConditionNotMet"))
    with pytest.raises(Conflict):
        pools.set_metadata("p", {"b": "new"})
    assert sum(call.request.method == "PATCH" for call in door.answers.calls) == 3


def test_a_resize_keeps_what_it_is_not_told_and_lets_tasks_finish(door, pools):
    door.answers.get(POOL, json={"id": "p", "targetDedicatedNodes": 2, "targetLowPriorityNodes": 5})
    door.answers.post(f"{POOL}/resize", status=202)
    pools.resize("p", 7, None)
    assert sent(door) == {
        "targetDedicatedNodes": 7, "targetLowPriorityNodes": 5, "nodeDeallocationOption": "taskcompletion",
    }  # fmt: skip


def test_a_pool_that_scales_by_our_formula_gets_another_one(door, pools):
    scale = Scale(1, 4, 0, 600, datetime(2026, 1, 1, tzinfo=timezone.utc))
    door.answers.get(POOL, json={"id": "p", "enableAutoScale": True, "autoScaleFormula": scale.formula()})
    door.answers.post(f"{POOL}/enableautoscale", status=200)
    pools.resize("p", 7, 2)
    changed = read_formula(sent(door)["autoScaleFormula"])
    assert (changed.least, changed.most, changed.spot, changed.span) == (1, 7, 2, 600)
    assert changed.wanted > scale.wanted
    door.answers.replace(
        "POST", f"{POOL}/enableautoscale", status=503, json=error_body("TooManyEnableAutoScaleRequests")
    )
    with pytest.raises(PoolError, match="half a minute"):
        pools.resize("p", 8, None)


def test_a_pool_that_scales_by_another_formula_is_not_resized(door, pools):
    door.answers.get(POOL, json={"id": "p", "enableAutoScale": True, "autoScaleFormula": "$TargetDedicatedNodes = 1;"})
    with pytest.raises(PoolError, match="somebody else's"):
        pools.resize("p", 7, None)


def run_start_task(task, tmp_path, *, programs=(), url="https://a.region.batch.azure.com"):
    """Run a start task's command line as a node does, with nothing but ``programs`` and a shell on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in programs:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (folder / name).chmod(0o755)
    words = shlex.split(task["commandLine"])
    environment = {"PATH": str(folder), "AZ_BATCH_ACCOUNT_URL": url}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False)


def jdk_task(door, pools):
    door.answers.post(f"{URL}/pools", status=201)
    pools.create(PoolPlan("p", "standard_d2s_v3", 1, jdk=True))
    task = sent(door)["startTask"]
    assert task["userIdentity"]["autoUser"] == {"scope": "pool", "elevationLevel": "admin"}
    assert task["waitForSuccess"] is True
    return task


def test_a_jdk_is_installed_on_a_node_without_one(door, pools, tmp_path):
    done = run_start_task(jdk_task(door, pools), tmp_path, programs=["apt-get"])
    assert done.returncode == 0
    assert "install -y --no-install-recommends default-jdk-headless" in done.stdout


def test_no_jdk_is_installed_where_there_is_one(door, pools, tmp_path):
    done = run_start_task(jdk_task(door, pools), tmp_path, programs=["apt-get", "java"])
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "[::1]:5"])
def test_nothing_is_installed_into_a_users_own_machine(door, pools, tmp_path, host):
    done = run_start_task(jdk_task(door, pools), tmp_path, programs=["apt-get"], url=f"http://{host}")
    assert (done.returncode, done.stdout) == (0, "")
    assert "install a JDK" in done.stderr


def test_start_commands_stop_at_the_first_that_fails(tmp_path):
    done = run_start_task(start_task(["echo one", "echo 'it''s' two; false", "echo three"]), tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["one", "its two"]


# --- jobs -------------------------------------------------------------------------------------------------------------


def plan(**options):
    return JobPlan(**{
        "job_id": "j", "pool_id": "p", "deployment": "d" * 64, "files_container": "files", "output_container": "out",
        **options,
    })  # fmt: skip


def test_a_job_has_its_limit_its_preparation_and_its_places_from_the_start(door):
    door.answers.post(f"{URL}/jobs", status=201)
    jobs = Jobs(door.service, "mine")
    files = [{"httpUrl": "E?sig=1", "filePath": "engine.pyz"}, {"httpUrl": "L?sig=2", "filePath": "deployment.json"}]
    jobs.create(plan(limit=3600), files=files, files_url="F?sig=3")
    body = sent(door)
    assert body["constraints"] == {"maxWallClockTime": "PT3600S", "maxTaskRetryCount": 0}
    assert body["onAllTasksComplete"] == "noaction"
    preparation = body["jobPreparationTask"]
    assert preparation["resourceFiles"] == files
    assert preparation["userIdentity"] == body["jobReleaseTask"]["userIdentity"]
    assert preparation["waitForSuccess"] is True


def test_a_job_read_back_knows_how_long_its_signatures_must_live(door):
    created = "2026-01-01T00:00:00.1234567Z"
    facts = {"azbatchwrap_deployment": "d", "azbatchwrap_output": "out", "azbatchwrap_files": "files"}
    body = {
        "id": "j", "state": "active", "creationTime": created, "constraints": {"maxWallClockTime": "P1DT1H"},
        "metadata": [{"name": name, "value": value} for name, value in facts.items()], "poolInfo": {"poolId": "p"},
    }  # fmt: skip
    door.answers.get(f"{URL}/jobs/j", json=body)
    read = Jobs(door.service, "mine").facts("j")
    assert read.sas_expiry.replace(microsecond=0) == datetime(2026, 1, 2, 2, tzinfo=timezone.utc)
    assert (read.pool_id, read.output_container, read.files_container) == ("p", "out", "files")
    assert not read.sealed


@pytest.mark.parametrize("call", ["seal", "terminate"])
def test_ending_a_job_that_has_ended_is_no_error(door, call):
    door.answers.patch(f"{URL}/jobs/j", status=409, json=error_body("JobCompleted"))
    door.answers.post(f"{URL}/jobs/j/terminate", status=409, json=error_body("JobCompleted"))
    getattr(Jobs(door.service, "mine"), call)("j")
    assert len(door.answers.calls) == 1


def test_a_job_that_outlives_what_an_identity_can_sign_is_refused_with_the_way_out():
    plan(limit=LONGEST_DELEGATION - SAS_MARGIN).check(longest_sas=LONGEST_DELEGATION)
    plan(limit=30 * 86400).check(longest_sas=None)
    plan(limit=30 * 86400, identity="/an/identity").check(longest_sas=LONGEST_DELEGATION)
    with pytest.raises(ConfigurationError, match=r"7 days at most.*account key or a managed identity"):
        plan(limit=LONGEST_DELEGATION).check(longest_sas=LONGEST_DELEGATION)


def test_ids_are_checked_before_anything_is_sent():
    for wrong in ("", "a b", "a" * 65, "é"):
        with pytest.raises(ConfigurationError):
            plan(job_id=wrong).check(longest_sas=None)
        with pytest.raises(ConfigurationError):
            PoolPlan(wrong, "size", 1).check()
    assert os.sep not in plan().job_id
