"""Names that Azure Machine Learning's resources may have, and where its parts lie."""

from __future__ import annotations

import hashlib
import re
import uuid

from azbatchwrap.local.arm.errors import bad_request
from azbatchwrap.local.arm.ids import ResourceId

NAMESPACE = "Microsoft.MachineLearningServices"
WORKSPACE = f"{NAMESPACE}/workspaces"
JOB = f"{WORKSPACE}/jobs"
#: A workspace within an address, as the router takes it.
WORKSPACE_ADDRESS = f"/subscriptions/{{}}/resourceGroups/{{}}/providers/{WORKSPACE}/{{}}"

_NAMES = {
    "workspaces": re.compile(r"[A-Za-z0-9][\w-]{2,32}\Z", re.ASCII),
    "computes": re.compile(r"(?=.{3,32}\Z)[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?\Z"),
    "datastores": re.compile(r"\w{1,255}\Z", re.ASCII),
    "batchEndpoints": re.compile(r"(?=.{3,32}\Z)[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?\Z"),
    "deployments": re.compile(r"(?=.{3,32}\Z)[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?\Z"),
}


def check(rid: ResourceId) -> None:
    """Raises ArmError for a name that the service refuses."""
    pattern = _NAMES.get(rid.types[-1])
    if pattern is not None and not pattern.match(rid.name):
        raise bad_request(
            f"'{rid.name}' is not a valid name of {rid.kind} (it must match {pattern.pattern}).", "BadArgument"
        )


def workspace_of(rid: ResourceId) -> ResourceId:
    """The workspace that ``rid`` is, or lies in."""
    return ResourceId(rid.subscription, rid.group, rid.namespace, rid.types[:1], rid.names[:1])


def child_job(job: str, step: str) -> str:
    """The name of a pipeline's step as a job: the same again when the job runs again."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"{job}/{step}".encode()).digest()[:16], version=4))


def scheduled_job(schedule: str) -> str:
    """A new name for a job that a schedule starts."""
    return f"{schedule}-{uuid.uuid4().hex[:12]}"
