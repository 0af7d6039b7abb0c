"""The bodies of requests about tasks."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch.shapes.checks import (
    Refused,
    Shape,
    anything,
    choice,
    identifier,
    integer,
    listed,
    text,
)
from azbatchwrap.local.batch.shapes.parts import (
    AUTO_USER,
    COMMAND_LINE,
    CONSTRAINTS,
    CONTAINER,
    ENVIRONMENT,
    OUTPUT_FILES,
    PACKAGES,
    RESOURCE_FILES,
    SHOWN_ONLY,
    TOKEN_SETTINGS,
    USER_IDENTITY,
)


def _range(kept: dict[str, Any]) -> None:
    if kept["end"] < kept["start"]:
        raise Refused(kept, "The end lies before the start.")


JOB_ACTION = choice("none", "disable", "terminate")
EXIT_OPTIONS = Shape({"jobAction": JOB_ACTION, "dependencyAction": choice("satisfy", "block")})
EXIT_CONDITIONS = Shape(
    {
        "exitCodes": listed(Shape({"code": integer(), "exitOptions": EXIT_OPTIONS}, required=("code", "exitOptions"))),
        "exitCodeRanges": listed(
            Shape(
                {"start": integer(), "end": integer(), "exitOptions": EXIT_OPTIONS},
                required=("start", "end", "exitOptions"),
                rule=_range,
            )
        ),
        "preProcessingError": EXIT_OPTIONS,
        "fileUploadError": EXIT_OPTIONS,
        "default": EXIT_OPTIONS,
    }
)
DEPENDS_ON = Shape(
    {
        "taskIds": listed(identifier),
        "taskIdRanges": listed(Shape({"start": integer(0), "end": integer(0)}, required=("start", "end"), rule=_range)),
    }
)
TASK = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "exitConditions": EXIT_CONDITIONS,
        "resourceFiles": RESOURCE_FILES,
        "outputFiles": OUTPUT_FILES,
        "environmentSettings": ENVIRONMENT,
        "affinityInfo": Shape({"affinityId": text()}, required=("affinityId",)),
        "applicationPackageReferences": PACKAGES,
        "userIdentity": USER_IDENTITY,
        "multiInstanceSettings": Shape(
            {
                "numberOfInstances": integer(1),
                "coordinationCommandLine": COMMAND_LINE,
                "commonResourceFiles": RESOURCE_FILES,
            },
            required=("coordinationCommandLine",),
            defaults={"numberOfInstances": 1},
        ),
        "dependsOn": DEPENDS_ON,
        "authenticationTokenSettings": TOKEN_SETTINGS,
        "constraints": CONSTRAINTS,
        "requiredSlots": integer(1, 256),
    },
    required=("id", "commandLine"),
    defaults={"userIdentity": AUTO_USER, "requiredSlots": 1},
    is_ordered=True,
)
TASK_COLLECTION = Shape({"value": anything}, required=("value",))
#: PUT may carry the whole thing as GET showed it; what cannot change is read and left alone.
TASK_UPDATE = Shape(
    {
        **SHOWN_ONLY,
        **dict.fromkeys(TASK.checks, anything),
        "nodeInfo": anything,
        "constraints": CONSTRAINTS,
    }
)
