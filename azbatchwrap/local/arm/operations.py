"""Long-running operations. Nothing runs meanwhile: an operation is over when it is looked at after its time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm.errors import ArmError, error_record
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.faults import Provisioning

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm
    from azbatchwrap.local.arm.store import Store

#: How long clients wait between two looks (whole seconds: some of them read nothing else, and take 0 for 30).
RETRY_AFTER = "1"


def timestamp(seconds: float | None = None) -> str:
    """``2026-11-20T07:00:00.123456Z``; now by default."""
    moment = time.time() if seconds is None else seconds
    fraction = f"{moment % 1:.6f}"[1:]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + fraction.replace(".000000", "") + "Z"


class Operations:
    """Every operation: what it is about, when it ends and how."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Verb -> what happens to the target (its key) once the operation is over; told whether it succeeded.
        self.effects: dict[str, Callable[[str, bool], None]] = {}

    def begin(self, verb: str, target: str, how: Provisioning) -> dict[str, Any]:
        """Begin, and end at once what takes no time."""
        now = time.time()
        operation: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "verb": verb,
            "target": target,
            "status": "InProgress",
            "started": now,
            "due": None if how.seconds is None else now + how.seconds,
            "failure": how.failure,
        }
        if how.seconds == 0:
            return self._end(operation)
        self._store.save("operation", operation["id"], operation)
        return operation

    def find(self, number: str) -> dict[str, Any] | None:
        """The operation as it stands now."""
        operation = self._store.load("operation", number)
        if operation is None or operation["status"] != "InProgress":
            return operation
        if operation["due"] is None or operation["due"] > time.time():
            return operation
        return self._end(operation)

    def _end(self, operation: dict[str, Any]) -> dict[str, Any]:
        operation["status"] = "Failed" if operation["failure"] else "Succeeded"
        operation["ended"] = time.time()
        self._store.save("operation", operation["id"], operation)
        self.effects[operation["verb"]](operation["target"], not operation["failure"])
        return operation


def headers(request: Request, operation: dict[str, Any], *, with_location: bool = False) -> dict[str, str]:
    """Where a client looks how the operation goes."""
    subscription = next(iter(request.names), "")
    place = f"{request.base}/subscriptions/{subscription}/providers/Microsoft.Resources/locations/local"
    found = {
        "azure-asyncoperation": f"{place}/operationStatuses/{operation['id']}?api-version={request.version}",
        "retry-after": RETRY_AFTER,
    }
    if with_location:
        found["location"] = f"{place}/operationResults/{operation['id']}?api-version={request.version}"
    return found


def status(arm: Arm, request: Request) -> Answer:
    """``GET …/operationStatuses/ID``."""
    operation = _require(arm, request)
    answer: dict[str, Any] = {
        "id": request.path,
        "name": operation["id"],
        "status": operation["status"],
        "startTime": timestamp(operation["started"]),
    }
    if operation["status"] == "InProgress":
        return Answer(200, answer, {"retry-after": RETRY_AFTER})
    answer["endTime"] = timestamp(operation["ended"])
    if operation["failure"]:
        answer["error"] = error_record(*operation["failure"])
    else:
        answer["percentComplete"] = 100.0
    return Answer(200, answer)


def result(arm: Arm, request: Request) -> Answer:
    """``GET …/operationResults/ID``: 202 while it goes on, then nothing or the error."""
    operation = _require(arm, request)
    if operation["status"] == "InProgress":
        return Answer(202, None, {"retry-after": RETRY_AFTER, "location": f"{request.base}{request.path}"})
    if operation["failure"]:
        code, message = operation["failure"][:2]
        raise ArmError(409, code, message)
    return Answer(204)


def _require(arm: Arm, request: Request) -> dict[str, Any]:
    operation = arm.operations.find(request.names[-1])
    if operation is None:
        raise ArmError(404, "OperationNotFound", f"The operation {request.names[-1]} does not exist.")
    return operation
