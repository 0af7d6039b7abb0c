"""Bad days: refusals at each step, operations that fail or take their time, lost answers, things others made or broke."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.errors import WaitTimeout
from azbatchwrap.pipelines import apply, jobs, plan, scheduler
from azbatchwrap.pipelines.runlog import RunLog
from tests.pipelines.conftest import Driver

#: Step -> what its write looks like (a regular expression of the address).
WRITES = {
    "resource group": r"/resourceGroups/[^/]+$",
    "storage account": r"storageAccounts/[^/]+$",
    "key vault": r"/vaults/[^/]+$",
    "log analytics": r"OperationalInsights/workspaces/[^/]+$",
    "application insights": r"Insights/components/[^/]+$",
    "workspace": r"MachineLearningServices/workspaces/[^/]+$",
    "compute": r"/computes/[^/]+$",
    "datastore inputdata": r"/datastores/inputdata$",
    "datastore outputdata": r"/datastores/outputdata$",
    "code": r"/startPendingUpload$",
    "environment": r"/environments/[^/]+/versions/[^/]+$",
    "scoring step": r"/components/simple_pipeline_score/versions/[^/]+$",
    "pipeline": r"/components/simple_pipeline/versions/[^/]+$",
    "endpoint": r"/batchEndpoints/[^/]+$",
    "deployment": r"/deployments/scoring$",
}


def test_no_permission_at_each_step_in_turn(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step after the other may not be written; each apply goes on from where the last one stopped."""
    monkeypatch.setattr(scheduler, "WORKERS", 1)
    for step, path in WRITES.items():
        driver.admin.fault("forbidden", path)
        said = driver.on("apply", "--yes")
        driver.admin.clear_faults()
        assert said.code == 1, step
        assert re.search(rf"^  create    {step} \(.*\): failed", said.err, re.MULTILINE), step
        assert "403 AuthorizationFailed" in said.err
        assert "Contributor" in said.err
    driver.apply()
    assert driver.planned() == {}


def test_a_refused_read_is_an_error_and_no_absence(deployed: Driver) -> None:
    deployed.admin.fault("forbidden", r"/workspaces/[^/]+$", methods=["GET"])
    mark = deployed.admin.mark()
    said = deployed.on("apply", "--yes")
    assert said.code == 1
    assert "the workspace cannot be read" in said.err
    assert deployed.admin.writes(mark) == []


def test_a_failed_operation_is_said_and_made_good(deployed: Driver) -> None:
    deployed.edit(batch_compute_name="fails")
    deployed.admin.fault("fail", r"/computes/", code="AllocationFailed", message="no machines left")
    said = deployed.on("apply", "--yes")
    assert said.code == 1
    assert "AllocationFailed" in said.err or "no machines left" in said.err
    deployed.admin.clear_faults()
    planned = deployed.on("plan", "--json").json["changes"]
    compute = next(each for each in planned if each["resource"] == "compute")
    assert compute["action"] == "update"
    assert compute["differences"] == [
        {"path": "properties.provisioningState", "before": "Failed", "after": "Succeeded"}
    ]
    deployed.apply()
    assert deployed.planned() == {}


def test_quota_is_explained(deployed: Driver) -> None:
    deployed.edit(batch_vm_max=5000)
    said = deployed.on("apply", "--yes")
    assert said.code == 1
    assert "ClusterCoreQuotaReached" in said.err
    assert "ask for more cores" in said.err


def test_throttling_is_waited_out(deployed: Driver) -> None:
    deployed.edit(batch_vm_max=3, image="python:3.12")
    deployed.admin.fault("throttled", r"/computes/", methods=["GET"], times=1)
    deployed.admin.fault("unavailable", r"/environments/", times=1)
    deployed.apply()


def test_an_operation_that_never_ends_is_given_up_and_taken_up_again(deployed: Driver) -> None:
    deployed.edit(batch_compute_name="slow")
    deployed.admin.fault("slow", r"/computes/", seconds=1.5, times=1)
    said = deployed.on("apply", "--yes", "--timeout", "0.5")
    assert said.code == 1
    assert "goes on by itself" in said.err
    deployed.apply()
    assert deployed.planned() == {}


def test_lost_answers_to_writes_change_nothing(deployed: Driver) -> None:
    deployed.edit(batch_compute_name="lost", deployment_name="another")
    deployed.admin.fault("lost", r"/(computes|batchEndpoints)/[^/]+$", times=1)
    deployed.admin.fault("lost", r"/components/simple_pipeline/", times=1)
    deployed.apply()
    assert deployed.planned() == {}


def interrupted(driver: Driver, verb: str) -> str:
    """What a command says that gets Ctrl-C once it has written to the workspace."""
    command = [sys.executable, "-m", "azbatchwrap.cli.batchcreate", verb, "--config", str(driver.file), "--yes"]
    mark = driver.admin.mark()
    process = subprocess.Popen(
        command, env=driver.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 30
    while not any(each.endswith(driver.workspace) for each in driver.admin.writes(mark)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    return said


def test_ctrl_c_then_destroy_finishes(deployed: Driver) -> None:
    deployed.admin.fault("slow", r"workspaces/[^/]+$", seconds=1.5, times=1, methods=["DELETE"])
    assert "interrupted: nothing is lost, `batchcreate destroy` goes on" in interrupted(deployed, "destroy")
    assert deployed.on("destroy", "--yes", "--purge").code == 0
    assert set(deployed.planned().values()) == {"create"}


def test_ctrl_c_then_apply_converges(driver: Driver) -> None:
    driver.admin.fault("slow", r"workspaces/[^/]+$", seconds=1.5, times=1)
    assert "interrupted: nothing is lost, `batchcreate apply` goes on" in interrupted(driver, "apply")
    log = next((driver.folder / "home" / "batchcreate").glob("*-apply.json")).read_text()
    assert '"outcome": "interrupted"' in log
    driver.apply()
    assert driver.planned() == {}


def test_an_invocation_whose_answer_is_lost_is_found_by_its_name(deployed: Driver) -> None:
    deployed.admin.fault("lost", r"^/endpoints/", times=1)
    mark = deployed.admin.mark()
    said = deployed.on("invoke", "--wait", "--json")
    assert said.code == 0, said.err
    assert len([each for each in deployed.admin.writes(mark) if each.startswith("POST /endpoints/")]) == 1
    context = deployed.connect()
    listed = [each["name"] for each in context.arm.pages(f"{deployed.workspace}/jobs", "2024-10-01")]
    assert [name for name in listed if ":" not in name and name.startswith("score-")].count(said.json["job"]) == 1
    context.close()


def test_an_invocation_that_was_not_taken_is_not_repeated(deployed: Driver) -> None:
    deployed.admin.fault("unavailable", r"^/endpoints/")
    mark = deployed.admin.mark()
    context = deployed.connect()
    with pytest.raises(jobs.Throttled, match="it was not sent again"):
        jobs.invoke(context)
    context.close()
    assert len([each for each in deployed.admin.writes(mark) if each.startswith("POST /endpoints/")]) == 1


def test_a_script_that_fails_fails_the_job_with_its_log(deployed: Driver) -> None:
    (deployed.folder / "batch" / "batch.py").write_text(
        "import sys\nprint('looking')\nsys.exit('no such column: age')\n"
    )
    deployed.apply()
    said = deployed.on("invoke", "--wait", "--download", str(deployed.folder / "out"))
    assert said.code == 1
    assert "no such column: age" in said.err
    assert "exited with status code 1" in said.err
    assert "Failed" in said.out
    status = deployed.on("status", "--json")
    assert status.code == 1
    assert (status.json["complete"], status.json["success"]) == (True, False)


def test_other_inputs(deployed: Driver) -> None:
    other = deployed.folder / "with blank é.txt"
    other.write_text("one two\n")
    said = deployed.on("invoke", "--input", str(other), "--wait", "--download", str(deployed.folder / "out"), "--json")
    assert said.code == 0, said.err
    assert "with blank é.txt,1,2,8" in Path(said.json["files"][0]).read_text()
    for wrong in ("azureml://datastores/inputdata/paths/", "azureml:data", str(deployed.folder), "nowhere.txt"):
        said = deployed.on("invoke", "--input", wrong)
        assert said.code == 1, wrong
        assert "input" in said.err


class TestOthers:
    """Resources that batchcreate did not make, or that others changed."""

    def test_an_existing_workspace_is_used_and_survives(self, driver: Driver) -> None:
        driver.apply()
        context = driver.connect()
        there = context.arm.get(driver.workspace, "2024-10-01")
        owned = context.arm.get(driver.group, "2022-09-01")
        kept = {"location": there["location"], "identity": {"type": "SystemAssigned"}, "tags": {"team": "others"}}
        names = ("storageAccount", "keyVault", "applicationInsights")
        properties = {name: there["properties"][name] for name in names}
        context.arm.put(driver.workspace, "2024-10-01", {**kept, "properties": properties})
        context.arm.put(driver.group, "2022-09-01", {"location": owned["location"], "tags": {}})
        context.close()
        driver.edit(region="westus")
        assert "workspace" not in driver.planned()
        assert "not made by batchcreate" in driver.on("plan").out
        destroyed = driver.on(
            "destroy",
            "--yes",
            "--keep",
            "storage account",
            "--keep",
            "application insights",
            "--keep",
            "key vault",
            "--json",
        )
        staying = {each["resource"]: each["reason"] for each in destroyed.json["staying"]}
        assert staying["workspace"] == "not made by batchcreate"
        assert staying["key vault"] == "kept as asked"
        assert any(address.endswith(driver.workspace.lower()) for address in driver.resources())
        assert driver.planned("--adopt")["workspace"] in {"update", "replace"}

    def test_drift_shows_what_others_changed_and_not_local_edits(self, driver: Driver) -> None:
        assert driver.on("drift").code == 1
        driver.apply()
        assert driver.on("drift", "--detailed-exitcode").code == 0
        context = driver.connect()
        compute = context.arm.get(f"{driver.workspace}/computes/batchscoring", "2024-10-01")
        compute["properties"]["properties"]["scaleSettings"]["maxNodeCount"] = 7
        context.arm.put(f"{driver.workspace}/computes/batchscoring", "2024-10-01", compute)
        context.arm.delete(f"{driver.workspace}/datastores/outputdata", "2024-10-01")
        context.close()
        (driver.folder / "batch" / "data.txt").write_text("a local edit")
        driver.edit(batch_vm_idle=300)
        said = driver.on("drift", "--detailed-exitcode", "--json")
        assert said.code == 2
        drifted = {each["resource"]: each["action"] for each in said.json["changes"] if each["action"] != "no change"}
        assert drifted == {"compute": "update", "datastore outputdata": "create"}

    def test_what_is_deleted_softly_is_recovered(self, driver: Driver) -> None:
        driver.apply()
        assert driver.on("destroy", "--yes").code == 0
        notes = {each["resource"]: each["note"] for each in driver.on("plan", "--json").json["changes"]}
        assert notes["workspace"] == "recovers the deleted workspace of this name"
        assert notes["key vault"] == "recovers the deleted vault of this name"
        driver.edit(soft_deleted="refuse")
        refused = driver.on("apply", "--yes")
        assert refused.code == 1
        assert "set soft_deleted to recover or purge" in refused.err
        driver.edit(soft_deleted="recover")
        driver.apply()
        assert driver.planned() == {}

    def test_an_endpoint_name_that_somebody_has_is_refused(self, deployed: Driver) -> None:
        taken = deployed.connect().place.endpoint
        first = deployed.values()
        deployed.edit(
            resourceGroup=f"{first['resourceGroup']}-2", workspace=f"{first['workspace']}2", endpoint_name=taken
        )
        said = deployed.on("apply", "--yes")
        assert said.code == 1
        assert "choose an endpoint_name" in said.err

    def test_replacements_have_to_be_allowed(self, deployed: Driver) -> None:
        deployed.edit(batch_vm_size="Standard_F4s_v2")
        assert deployed.planned() == {"compute": "replace"}
        mark = deployed.admin.mark()
        said = deployed.on("apply", "--yes")
        assert said.code == 1
        assert "--allow-replace" in said.err
        assert [each for each in deployed.admin.writes(mark) if not each.endswith("/listKeys")] == []
        deployed.apply("--allow-replace")
        assert deployed.planned() == {}

    def test_another_region_makes_everything_again(self, driver: Driver) -> None:
        driver.apply()
        driver.edit(region="westeurope")
        assert driver.planned()["deployment"] == "replace"
        driver.apply("--allow-replace")
        assert driver.planned() == {}
        assert driver.on("invoke", "--wait").code == 0


class TestHazards:
    """What azure-ai-ml does to its callers, and does not do to ours."""

    def test_random_numbers_and_environment_stay_as_they_are(
        self, driver: Driver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seeds: list[Any] = []
        monkeypatch.setattr(random, "seed", lambda *given, **_: seeds.append(given))
        variables = dict(os.environ)
        said = driver.apply()
        assert seeds == []
        assert {name: os.environ[name] for name in variables} == variables
        assert "AZUREML_CURRENT_CLOUD" not in os.environ
        assert "experimental" not in said.err

    def test_a_cluster_with_public_addresses_is_written_again(self, deployed: Driver) -> None:
        context = deployed.connect()
        there = context.arm.get(f"{deployed.workspace}/computes/batchscoring", "2024-10-01")
        assert there["properties"]["properties"]["enableNodePublicIp"] is True
        context.close()
        deployed.edit(batch_vm_min=1)
        deployed.apply()
        assert deployed.planned() == {}

    def test_names_do_not_change_after_a_failure(self, driver: Driver) -> None:
        driver.admin.fault("forbidden", WRITES["workspace"])
        assert driver.on("apply", "--yes").code == 1
        first = driver.resources()
        assert driver.on("apply", "--yes").code == 1
        assert driver.resources() == first
        driver.admin.clear_faults()

    def test_the_invoke_header_of_the_sdk_is_left_alone(self, deployed: Driver) -> None:
        from azure.ai.ml.constants._endpoint import EndpointInvokeFields

        before = dict(EndpointInvokeFields.DEFAULT_HEADER)
        assert deployed.on("invoke").code == 0
        assert dict(EndpointInvokeFields.DEFAULT_HEADER) == before

    def test_the_default_deployment_is_kept_when_the_endpoint_is_written(self, deployed: Driver) -> None:
        deployed.edit(tags={"team": "a"})
        deployed.apply()
        endpoint = deployed.on("outputs", "--json").json
        assert endpoint["default_deployment"] == "scoring"
        assert deployed.planned() == {}


def test_a_run_that_is_stopped_gives_up_its_waits(driver: Driver) -> None:
    context = driver.connect()
    made = plan.make(context)
    context.arm.pause = lambda _: context.arm.stop()
    driver.admin.fault("hang", WRITES["storage account"], times=1)
    with pytest.raises(WaitTimeout, match="stopped"):
        apply.apply(context, made, RunLog("apply", {}))
    context.close()


def test_saved_plans_are_applied_as_they_are_or_not_at_all(deployed: Driver) -> None:
    saved: Any = deployed.folder / "plan.json"
    deployed.edit(tags={"saved": "plan"})
    assert deployed.on("plan", "--out", str(saved)).code == 0
    data = deployed.folder / "batch" / "data.txt"
    content = data.read_text()
    data.write_text("edited since")
    stale = deployed.run("apply", str(saved))
    assert (stale.code, "stale: local files" in stale.err) == (1, True)
    data.write_text(content)
    assert deployed.run("apply", str(saved)).code == 0
    stale = deployed.run("apply", str(saved))
    assert (stale.code, "changed in Azure" in stale.err) == (1, True)
    saved.write_text("{}")
    assert "is not a plan" in deployed.run("apply", str(saved)).err
