"""Whatever property a model of azure-batch has: it is taken, kept, and shown as it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from azure.batch import BatchClient, models

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.local.batch.conftest import new_id
from tests.local.batch.test_protocol import JAMMY
from tests.local.every_property import Filler, lost

NETWORKS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/virtualNetworks"
COMPUTE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute"
POOL = {"poolId": "no-such-pool"}
MACHINE = {"imageReference": JAMMY, "nodeAgentSKUId": "batch.node.ubuntu 22.04"}
#: Rounds enough for every word of every enumeration here.
ROUNDS = 6
OWN: dict[str, Any] = {
    "virtualMachineConfiguration.imageReference": [
        {**JAMMY, "version": "1.2.3"},
        {"virtualMachineImageId": f"{COMPUTE}/galleries/g/images/i/versions/1.0.0"},
        {"sharedGalleryImageId": "/sharedGalleries/g/images/i"},
        {"communityGalleryImageId": "/communityGalleries/g/images/i/versions/latest"},
    ],
    "nodeAgentSKUId": MACHINE["nodeAgentSKUId"],
    "targetDedicatedNodes": 0,
    "targetLowPriorityNodes": 0,
    "enableAutoScale": [False, True],
    "autoScaleFormula": [None, "$TargetDedicatedNodes = 0;"],
    "autoScaleEvaluationInterval": [None, "PT20M"],
    "subnetId": f"{NETWORKS}/v/subnets/s",
    "applicationPackageReferences": None,
    "userIdentity": [{"autoUser": {"scope": "task", "elevationLevel": "admin"}}, {"username": "joe"}],
    "esourceFiles": [
        [{"httpUrl": "http://127.0.0.1:9/x", "filePath": "a", "fileMode": "0755"}],
        [{"storageContainerUrl": "http://127.0.0.1:9/c", "blobPrefix": "p", "filePath": "a"}],
    ],
    "inboundNATPools.frontendPortRangeStart": 3000,
    "inboundNATPools.frontendPortRangeEnd": 4000,
    "networkSecurityGroupRules.priority": 200,
    "maxBatchInstancePercent": 20,
    "maxUnhealthyInstancePercent": 20,
    "userAccounts.name": "joe",
    "taskIdRanges.start": 1,
    "exitCodeRanges.start": 1,
    "allowTaskPreemption": False,
    "maxParallelTasks": -1,
    "usesTaskDependencies": True,
    "jobReleaseTask.maxWallClockTime": "PT10M",
    "startWindow": "PT30M",
    "mountConfiguration": None,
}
FILLER = Filler(models, OWN)


def _kept(
    model: type, create: Callable[[Any], object], find: Callable[[str], Any], number: int, **fixed: Any
) -> list[str]:
    body = FILLER.body(model, number) | {"id": new_id("whole"), **fixed}
    create(model(body))  # type: ignore[call-arg]
    return list(lost(body, json.loads(json.dumps(find(body["id"]).as_dict()))))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_is_created(client: BatchClient, number: int) -> None:
    assert _kept(models.BatchPoolCreateOptions, client.create_pool, client.get_pool, number) == []
    automatic = {"autoPoolSpecification": FILLER.body(models.BatchAutoPoolSpecification, number)}
    for info in (POOL, automatic):
        assert _kept(models.BatchJobCreateOptions, client.create_job, client.get_job, number, poolInfo=info) == []
    job_id = new_id("job")
    client.create_job(models.BatchJobCreateOptions({"id": job_id, "poolInfo": POOL, "usesTaskDependencies": True}))
    tasks = (lambda task: client.create_task(job_id, task), lambda task_id: client.get_task(job_id, task_id))
    assert _kept(models.BatchTaskCreateOptions, *tasks, number, requiredSlots=1) == []
    specification = FILLER.body(models.BatchJobSpecification, number) | {"poolInfo": POOL}
    schedules = (client.create_job_schedule, client.get_job_schedule)
    options = models.BatchJobScheduleCreateOptions
    assert _kept(options, *schedules, number, jobSpecification=specification) == []


@pytest.mark.parametrize("kind", list(Filler(models, {}).body(models.MountConfiguration, 0)))
def test_every_kind_of_mount(client: BatchClient, kind: str) -> None:
    mount = {kind: FILLER.body(models.MountConfiguration, 0)[kind]}
    fixed = {"virtualMachineConfiguration": MACHINE, "mountConfiguration": [mount]}
    assert _kept(models.BatchPoolCreateOptions, client.create_pool, client.get_pool, 0, **fixed) == []


def test_what_is_updated(client: BatchClient) -> None:
    pool_id, job_id, schedule_id = new_id("pool"), new_id("job"), new_id("schedule")
    find_schedule = client.get_job_schedule
    client.create_pool(
        models.BatchPoolCreateOptions({"id": pool_id, "vmSize": "small", "virtualMachineConfiguration": MACHINE})
    )
    client.create_job(models.BatchJobCreateOptions({"id": job_id, "poolInfo": POOL}))
    client.create_job_schedule(
        models.BatchJobScheduleCreateOptions(
            {"id": schedule_id, "schedule": {}, "jobSpecification": {"poolInfo": POOL}}
        )
    )
    fixed = {"poolInfo": POOL, "onAllTasksComplete": "noaction"}
    specification = {"jobSpecification": FILLER.body(models.BatchJobSpecification, 1) | {"poolInfo": POOL}}
    changes: list[tuple[Callable[..., object], Callable[[str], Any], str, Any, dict[str, Any]]] = [
        (client.update_pool, client.get_pool, pool_id, models.BatchPoolUpdateOptions, {}),
        (client.update_job, client.get_job, job_id, models.BatchJobUpdateOptions, fixed),
        (client.replace_job, client.get_job, job_id, models.BatchJob, fixed),
        (client.update_job_schedule, find_schedule, schedule_id, models.BatchJobScheduleUpdateOptions, specification),
        (client.replace_job_schedule, find_schedule, schedule_id, models.BatchJobSchedule, specification),
    ]
    for change, find, own_id, model, given in changes:
        body = FILLER.body(model, 1) | given
        change(own_id, model(body))
        assert list(lost(body, json.loads(json.dumps(find(own_id).as_dict())))) == [], model
