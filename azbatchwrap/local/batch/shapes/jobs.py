"""The bodies of requests about jobs and job schedules."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.shapes.checks import (
    UNLIMITED,
    Check,
    Shape,
    anything,
    boolean,
    choice,
    duration,
    identifier,
    integer,
    moment,
    pool_prefix,
    text,
)
from azbatchwrap.local.batch.shapes.parts import (
    AUTO_USER,
    COMMAND_LINE,
    CONSTRAINTS,
    CONTAINER,
    ENVIRONMENT,
    METADATA,
    MINUTE,
    OUTPUT_FILES,
    PACKAGES,
    RESOURCE_FILES,
    RETRIES,
    SHOWN_ONLY,
    TOKEN_SETTINGS,
    USER_IDENTITY,
)
from azbatchwrap.local.batch.shapes.pools import POOL_SPECIFICATION

JOB_CONSTRAINTS = Shape(
    {"maxWallClockTime": duration(), "maxTaskRetryCount": RETRIES},
    defaults={"maxWallClockTime": UNLIMITED, "maxTaskRetryCount": 0},
)
JOB_MANAGER = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "outputFiles": OUTPUT_FILES,
        "environmentSettings": ENVIRONMENT,
        "constraints": CONSTRAINTS,
        "requiredSlots": integer(1, 256),
        "killJobOnCompletion": boolean,
        "userIdentity": USER_IDENTITY,
        "runExclusive": boolean,
        "applicationPackageReferences": PACKAGES,
        "authenticationTokenSettings": TOKEN_SETTINGS,
        "allowLowPriorityNode": boolean,
    },
    required=("id", "commandLine"),
    defaults={
        "constraints": {"maxWallClockTime": UNLIMITED, "retentionTime": "P7D"},
        "requiredSlots": 1,
        "killJobOnCompletion": True,
        "userIdentity": AUTO_USER,
        "runExclusive": True,
        "allowLowPriorityNode": True,
    },
)
JOB_PREPARATION = Shape(
    {
        "id": identifier,
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "environmentSettings": ENVIRONMENT,
        "constraints": Shape(
            {"maxWallClockTime": duration(), "retentionTime": duration(), "maxTaskRetryCount": RETRIES},
            defaults={"maxWallClockTime": UNLIMITED, "retentionTime": "P7D", "maxTaskRetryCount": 0},
        ),
        "waitForSuccess": boolean,
        "userIdentity": USER_IDENTITY,
        "rerunOnNodeRebootAfterSuccess": boolean,
    },
    required=("commandLine",),
    defaults={
        "id": "jobpreparation",
        "constraints": {"maxWallClockTime": UNLIMITED, "retentionTime": "P7D", "maxTaskRetryCount": 0},
        "waitForSuccess": True,
        "userIdentity": AUTO_USER,
        "rerunOnNodeRebootAfterSuccess": True,
    },
)
JOB_RELEASE = Shape(
    {
        "id": identifier,
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "environmentSettings": ENVIRONMENT,
        "maxWallClockTime": duration(0, 15 * 60 * wire.TICKS_PER_SECOND),
        "retentionTime": duration(),
        "userIdentity": USER_IDENTITY,
    },
    required=("commandLine",),
    defaults={"id": "jobrelease", "maxWallClockTime": "PT15M", "retentionTime": "P7D", "userIdentity": AUTO_USER},
)
POOL_INFO = Shape(
    {
        "poolId": text(64),
        "autoPoolSpecification": Shape(
            {
                "autoPoolIdPrefix": pool_prefix,
                "poolLifetimeOption": choice("jobschedule", "job"),
                "keepAlive": boolean,
                "pool": POOL_SPECIFICATION,
            },
            required=("poolLifetimeOption", "pool"),
            defaults={"keepAlive": False},
        ),
    }
)
PRIORITY = integer(-1000, 1000)
PARALLEL = integer(-1)
COMPLETE_MODE = choice("noaction", "terminatejob")
FAILURE_MODE = choice("noaction", "performexitoptionsjobaction")
JOB_NETWORK = Shape({"subnetId": text(), "skipWithdrawFromVNet": boolean}, required=("subnetId",))
_JOB_FIELDS: dict[str, Check] = {
    "displayName": text(1024),
    "priority": PRIORITY,
    "maxParallelTasks": PARALLEL,
    "usesTaskDependencies": boolean,
    "allowTaskPreemption": boolean,
    "constraints": JOB_CONSTRAINTS,
    "jobManagerTask": JOB_MANAGER,
    "jobPreparationTask": JOB_PREPARATION,
    "jobReleaseTask": JOB_RELEASE,
    "commonEnvironmentSettings": ENVIRONMENT,
    "poolInfo": POOL_INFO,
    "metadata": METADATA,
    "onAllTasksComplete": COMPLETE_MODE,
    "onTaskFailure": FAILURE_MODE,
    "networkConfiguration": JOB_NETWORK,
}
_JOB_DEFAULTS: dict[str, Any] = {
    "priority": 0,
    "maxParallelTasks": -1,
    "usesTaskDependencies": False,
    "allowTaskPreemption": False,
    "constraints": {"maxWallClockTime": UNLIMITED, "maxTaskRetryCount": 0},
    "onAllTasksComplete": "noaction",
    "onTaskFailure": "noaction",
}
JOB_SPECIFICATION = Shape(_JOB_FIELDS, required=("poolInfo",), defaults=_JOB_DEFAULTS)
JOB = Shape({"id": identifier, **_JOB_FIELDS}, required=("id", "poolInfo"), defaults=_JOB_DEFAULTS)
_JOB_CHANGES = (
    "priority",
    "maxParallelTasks",
    "allowTaskPreemption",
    "constraints",
    "poolInfo",
    "onAllTasksComplete",
    "metadata",
    "networkConfiguration",
)
JOB_UPDATE = Shape({name: _JOB_FIELDS[name] for name in _JOB_CHANGES})
JOB_REPLACE = Shape(
    {
        **SHOWN_ONLY,
        **{name: anything for name in _JOB_FIELDS if name not in _JOB_CHANGES},
        **{name: _JOB_FIELDS[name] for name in _JOB_CHANGES},
    },
    required=("poolInfo",),
)
JOB_DISABLE = Shape({"disableTasks": choice("requeue", "terminate", "wait")}, required=("disableTasks",))
JOB_TERMINATE = Shape({"terminateReason": text()})
SCHEDULE_TIMES = Shape(
    {
        "doNotRunUntil": moment,
        "doNotRunAfter": moment,
        "startWindow": duration(MINUTE),
        "recurrenceInterval": duration(MINUTE),
    }
)
SCHEDULE = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "schedule": SCHEDULE_TIMES,
        "jobSpecification": JOB_SPECIFICATION,
        "metadata": METADATA,
    },
    required=("id", "schedule", "jobSpecification"),
)
SCHEDULE_UPDATE = Shape({"schedule": SCHEDULE_TIMES, "jobSpecification": JOB_SPECIFICATION, "metadata": METADATA})
SCHEDULE_REPLACE = Shape(
    {**SHOWN_ONLY, "schedule": SCHEDULE_TIMES, "jobSpecification": JOB_SPECIFICATION, "metadata": METADATA},
    required=("jobSpecification",),
)
