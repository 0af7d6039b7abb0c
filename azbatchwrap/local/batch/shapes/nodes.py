"""The bodies of requests about nodes."""

from __future__ import annotations

from azbatchwrap.local.batch.shapes.checks import Shape, boolean, choice, hidden, moment, text
from azbatchwrap.local.batch.shapes.parts import IDENTITY_REFERENCE
from azbatchwrap.local.batch.shapes.pools import DEALLOCATION

NODE_USER = Shape(
    {
        "name": text(20, shortest=1),
        "isAdmin": boolean,
        "expiryTime": moment,
        "password": hidden,
        "sshPublicKey": text(),
    },
    required=("name",),
)
NODE_USER_UPDATE = Shape({"password": hidden, "expiryTime": moment, "sshPublicKey": text()})
NODE_REBOOT = Shape({"nodeRebootOption": DEALLOCATION})
NODE_REIMAGE = Shape({"nodeReimageOption": DEALLOCATION})
NODE_DEALLOCATE = Shape({"nodeDeallocateOption": DEALLOCATION})
NODE_DISABLE = Shape({"nodeDisableSchedulingOption": choice("requeue", "terminate", "taskcompletion")})
LOGS_UPLOAD = Shape(
    {"containerUrl": text(shortest=1), "startTime": moment, "endTime": moment, "identityReference": IDENTITY_REFERENCE},
    required=("containerUrl", "startTime"),
)
