"""What the bodies of tasks, jobs and pools have in common."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.shapes.checks import (
    UNLIMITED,
    Check,
    Refused,
    Shape,
    anything,
    boolean,
    choice,
    duration,
    hidden,
    integer,
    listed,
    text,
)

AUTO_USER = {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}


def _one_source(kept: dict[str, Any]) -> None:
    if "blobSource" in kept:
        kept["httpUrl"] = kept.pop("blobSource")
    sources = [name for name in ("autoStorageContainerName", "storageContainerUrl", "httpUrl") if name in kept]
    if len(sources) != 1:
        raise Refused(sources, "Exactly one of autoStorageContainerName, storageContainerUrl and httpUrl is needed.")
    if "httpUrl" in kept and not kept.get("filePath"):
        missing = Refused(None, "The property is required with httpUrl.", "MissingRequiredProperty")
        missing.path.append("filePath")
        raise missing


def _one_identity(kept: dict[str, Any]) -> None:
    if ("autoUser" in kept) == ("username" in kept):
        raise Refused(kept, "Exactly one of username and autoUser is needed.")


IDENTITY_REFERENCE = Shape({"resourceId": text()})
METADATA = listed(Shape({"name": text(), "value": text()}, required=("name", "value")))
PACKAGES = listed(Shape({"applicationId": text(), "version": text()}, required=("applicationId",)), 10)
ENVIRONMENT = listed(Shape({"name": text(shortest=1), "value": text()}, required=("name",)))
RESOURCE_FILES = listed(
    Shape(
        {
            "autoStorageContainerName": text(),
            "storageContainerUrl": text(),
            "httpUrl": text(),
            "blobSource": text(),  # its name up to 2018
            "blobPrefix": text(),
            "filePath": text(),
            "fileMode": text(),
            "identityReference": IDENTITY_REFERENCE,
        },
        rule=_one_source,
    )
)
UPLOAD_CONDITION = choice("tasksuccess", "taskfailure", "taskcompletion")
OUTPUT_FILES = listed(
    Shape(
        {
            "filePattern": text(shortest=1),
            "destination": Shape(
                {
                    "container": Shape(
                        {
                            "path": text(),
                            "containerUrl": text(shortest=1),
                            "identityReference": IDENTITY_REFERENCE,
                            "uploadHeaders": listed(Shape({"name": text(), "value": text()}, required=("name",))),
                        },
                        required=("containerUrl",),
                    )
                },
                required=("container",),
            ),
            "uploadOptions": Shape({"uploadCondition": UPLOAD_CONDITION}, required=("uploadCondition",)),
        },
        required=("filePattern", "destination", "uploadOptions"),
    )
)
USER_IDENTITY = Shape(
    {
        "username": text(),
        "autoUser": Shape(
            {"scope": choice("task", "pool"), "elevationLevel": choice("nonadmin", "admin")},
            defaults={"scope": "pool", "elevationLevel": "nonadmin"},
        ),
    },
    rule=_one_identity,
)
REGISTRY = Shape(
    {"username": text(), "password": hidden, "registryServer": text(), "identityReference": IDENTITY_REFERENCE}
)
CONTAINER = Shape(
    {
        "containerRunOptions": text(),
        "imageName": text(shortest=1),
        "registry": REGISTRY,
        "workingDirectory": choice("taskWorkingDirectory", "containerImageDefault"),
        "containerHostBatchBindMounts": listed(
            Shape(
                {
                    "source": choice("Shared", "Startup", "VfsMounts", "Task", "JobPrep", "Applications"),
                    "isReadOnly": boolean,
                }
            )
        ),
    },
    required=("imageName",),
)
RETRIES = integer(-1)
CONSTRAINTS = Shape(
    {"maxWallClockTime": duration(), "retentionTime": duration(), "maxTaskRetryCount": RETRIES},
    defaults={"maxWallClockTime": UNLIMITED, "retentionTime": "P7D"},
)
TOKEN_SETTINGS = Shape({"access": listed(choice("job"))})
COMMAND_LINE = text(shortest=1)
#: What a whole thing as GET shows it has besides what can be given.
SHOWN_ONLY: dict[str, Check] = dict.fromkeys(
    (
        *("id", "displayName", "url", "eTag", "lastModified", "creationTime", "state", "stateTransitionTime"),
        *("previousState", "previousStateTransitionTime", "executionInfo", "stats"),
    ),
    anything,
)
MINUTE = 60 * wire.TICKS_PER_SECOND
