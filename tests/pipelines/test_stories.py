"""Whole stories on Azure on this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from azbatchwrap.pipelines import apply, plan
from azbatchwrap.pipelines.runlog import RunLog
from tests.pipelines.conftest import Driver

ALL = 19


def test_plan_apply_edit_invoke_destroy(local_driver: Driver) -> None:
    driver = local_driver
    first = driver.on("plan", "--detailed-exitcode", "--json")
    assert first.code == 2
    assert {each["action"] for each in first.json["changes"]} == {"create"}
    assert len(first.json["changes"]) == ALL
    driver.apply()

    unchanged = driver.on("plan", "--detailed-exitcode", "--json")
    assert unchanged.code == 0
    assert unchanged.json["counts"]["no change"] == ALL

    (driver.folder / "batch" / "data.txt").write_text("other data of two\nlines\n")
    assert driver.planned() == {"data": "update"}
    driver.edit(batch_vm_max=5)
    assert driver.planned() == {"data": "update", "compute": "update"}
    script = driver.folder / "batch" / "batch.py"
    script.write_text(script.read_text().replace('"bytes"]', '"octets"]'))
    changed = driver.on("plan", "--detailed-exitcode", "--json")
    assert changed.code == 2
    differences = {
        each["resource"]: [(one["path"], one["before"], one["after"]) for one in each["differences"]]
        for each in changed.json["changes"]
        if each["action"] != "no change"
    }
    assert list(differences) == ["compute", "data", "code", "scoring step", "pipeline", "deployment"]
    assert differences["compute"] == [("properties.properties.scaleSettings.maxNodeCount", 2, 5)]
    assert [path for path, _, _ in differences["data"]] == ["sha256.data.txt"]
    assert [path for path, _, _ in differences["code"]] == ["version"]
    assert [path for path, _, _ in differences["deployment"]] == [
        "properties.deploymentConfiguration.componentId.assetId"
    ]
    driver.apply()
    assert driver.planned() == {}

    invoked = driver.on("invoke", "--wait", "--download", str(driver.folder / "out"), "--json")
    assert invoked.code == 0, invoked.err
    assert invoked.json["success"] is True
    assert [Path(path).name for path in invoked.json["files"]] == ["Results.txt"]
    assert Path(invoked.json["files"][0]).read_text() == "file,lines,words,octets\ndata.txt,2,5,24\n"
    status = driver.on("status", "--json")
    assert status.json["job"] == invoked.json["job"]
    assert {name: status.json[name] for name in ("started", "complete", "success")} == {
        "started": True, "complete": True, "success": True,
    }  # fmt: skip

    destroyed = driver.on("destroy", "--yes", "--purge", "--json")
    assert destroyed.code == 0, destroyed.err
    assert len(destroyed.json["removed"]) == ALL
    assert destroyed.json["staying"] == []
    assert driver.resources() == {}
    assert driver.on("destroy", "--yes", "--json").json["removed"] == []


def test_a_second_apply_only_reads(driver: Driver) -> None:
    driver.apply()
    mark = driver.admin.mark()
    said = driver.apply()
    asked = driver.admin.requests(mark)
    assert driver.admin.writes(mark) == [f"POST {driver.connect().place.storage_account}/listKeys"]
    assert said.json["steps"] == []
    reads = [each["path"].lower() for each in asked if each["method"] == "GET" and "/subscriptions/" in each["path"]]
    outputs = 2  # the endpoint and the deployment, read once more after the apply
    assert len(reads) - len(set(reads)) <= outputs + 1


def test_a_plan_reads_each_resource_once(driver: Driver) -> None:
    driver.apply()
    mark = driver.admin.mark()
    assert driver.planned() == {}
    reads = [each["path"].lower() for each in driver.admin.requests(mark) if "/subscriptions/" in each["path"]]
    assert len(reads) == len(set(reads))
    assert len(reads) <= ALL


def killed_after(driver: Driver, step: str | None) -> set[str]:
    """Apply in a child that kills itself once it has made ``step`` (``None``: the first it makes).

    Returns the steps that it found made, and those that it made as far as it could say so.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _apply_and_die(driver, step, writing)
        finally:
            os._exit(7)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        said = stream.read()
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}\n{said}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return set(said.split("\n")) - {""}


def _apply_and_die(driver: Driver, step: str | None, writing: int) -> None:
    context = driver.connect()
    made = plan.make(context)
    found = [change.key for change in made.changes if not change.action.is_change]
    os.write(writing, "".join(f"{key}\n" for key in found).encode())
    log = RunLog("apply", {})
    lock = threading.Lock()

    class Last(list):  # type: ignore[type-arg]
        def append(self, entry: dict[str, str]) -> None:
            with lock:
                os.write(writing, f"{entry['step']}\n".encode())
                if step in {None, entry["step"]}:
                    os.kill(os.getpid(), signal.SIGKILL)
                    time.sleep(60)

    log.steps = Last()
    apply.apply(context, made, log)


def state(driver: Driver) -> dict[str, object]:
    """What is there, without what differs from one making to the next."""
    context = driver.connect()
    try:
        plan.make(context)
        found = {key: _stable(document) for key, document in context.found.items()}
        versions = {}
        for collection in ("codes", "components", "environments", "computes", "datastores", "batchEndpoints"):
            listed = context.arm.pages(f"{driver.workspace}/{collection}", "2024-10-01")
            versions[collection] = sorted(str(each["name"]) for each in listed)
        return {"found": found, "inside": versions}
    finally:
        context.close()


def _stable(document: object) -> object:
    unstable = {
        "systemData", "createdOn", "modifiedOn", "creationTime", "InstrumentationKey", "AppId", "ConnectionString",
        "customerId", "workspaceId", "principalId", "allocationStateTransitionTime", "mlFlowTrackingUri", "codeUri",
        "client_component_hash",
    }  # fmt: skip
    if isinstance(document, dict):
        return {name: _stable(value) for name, value in document.items() if name not in unstable}
    return document


def test_killed_after_each_step_then_applied_again(driver: Driver) -> None:
    steps = [each["resource"] for each in driver.on("plan", "--json").json["changes"]]
    made: set[str] = set()
    kills = 0
    while len(made) < len(steps):
        # The child dies right after the first step that it makes, so that every step is somebody's last.
        made |= killed_after(driver, None)
        kills += 1
    assert kills > len(steps) / 4
    driver.apply()
    assert driver.planned() == {}
    again = state(driver)
    kinds = sorted(driver.resources().values())
    assert kinds == sorted(set(kinds)), "something was made twice"
    driver.on("destroy", "--yes", "--purge")
    driver.apply()
    assert state(driver) == again


def test_the_first_configuration_file_through_the_first_form(driver: Driver) -> None:
    token = driver.values()["workspace"]
    original = {
        "subid": driver.values()["subid"],
        "resourceGroup": f"first-{token}",
        "region": "eastus",
        "workspace": token,
        "experiment": "simple_experiment",
        "batch_compute_name": "dummybatch",
        "batch_vm_size": "Standard_D2",
        "batch_vm_min": 2,
        "batch_vm_max": 2,
        "source_container": f"{token}-source",
        "result_container": f"{token}-result",
        "pipeline_name": "simple_pipeline",
        "schedule_frequency": "Hour",
        "schedule_interval": 1,
    }
    driver.file.write_text(json.dumps(original))
    said = driver.run("-config", str(driver.file))
    assert said.code == 0, said.err
    assert "20 create" in said.out
    assert driver.run("-config", str(driver.file)).out.startswith("plan: 20 no change")
    invoked = driver.on("invoke", "--wait", "--json")
    assert invoked.code == 0, invoked.err
    schedule = driver.connect().arm.get(f"{driver.workspace}/schedules/simple_pipeline_sched", "2024-10-01-preview")
    assert schedule["properties"]["action"]["actionType"] == "InvokeBatchEndpoint"
    # One key more, over the file; and no schedule any more.
    assert driver.run("-config", str(driver.file), "-batch_vm_max", "3").code == 0
    driver.edit(schedule_frequency=None, batch_vm_max=3)
    assert driver.planned() == {"schedule": "delete"}
    driver.apply()
    assert driver.planned() == {}
    assert driver.on("destroy", "--yes", "--purge").code == 0
