"""Schedules: a job, or the invocation of a batch endpoint, whenever a trigger says so."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names
from azbatchwrap.local.aml.invocation import invoke
from azbatchwrap.local.aml.jobs import Jobs
from azbatchwrap.local.aml.triggers import BadTrigger, next_due
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document, ResourceType

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

log = logging.getLogger(__name__)

SCHEDULE = f"{names.WORKSPACE}/schedules"
#: How often the schedules are looked at (seconds): they are due at full minutes.
INTERVAL_SECONDS = 5.0


class Schedules:
    """Starts what is due. What fell due while the service was down is started once, after the next start."""

    def __init__(self, arm: Arm, jobs: Jobs) -> None:
        self._arm = arm
        self._jobs = jobs
        self._watch: asyncio.Task[None] | None = None

    def types(self) -> list[ResourceType]:
        return [ResourceType(SCHEDULE, is_slow=False, is_tracked=False, prepare=_prepare)]

    async def start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._for_ever())

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _for_ever(self) -> None:
        while True:
            try:
                self.start_due(dt.datetime.now(dt.timezone.utc))
            except Exception:
                log.exception("the schedules could not be looked at")
                self._arm.store.roll_back()
            await asyncio.sleep(INTERVAL_SECONDS)

    def start_due(self, now: dt.datetime) -> None:
        """Start what is due at ``now``, each schedule once."""
        for document in self._arm.resources.below("/subscriptions", SCHEDULE):
            properties = document["properties"]
            due = _read(document.get("_due"))
            if due is None or due > now or not properties["isEnabled"]:
                continue
            document["_due"] = _write(next_due(properties["trigger"], now, _made(document)))
            self._arm.resources.save(document)
            self._arm.store.commit()
            try:
                self._start(ids.parse(document["id"]), properties["action"])
            except ArmError as error:
                log.warning("the schedule %s could not start its work: %s", document["id"], error)
            self._arm.store.commit()

    def _start(self, rid: ResourceId, action: dict[str, Any]) -> None:
        workspace = names.workspace_of(rid)
        if action["actionType"] == "CreateJob":
            definition = dict(action["jobDefinition"])
            tags = {**(definition.get("tags") or {}), "azureml.schedule": rid.name}
            job = workspace.child("jobs", names.scheduled_job(rid.name))
            kind = str(definition["jobType"]).lower()
            self._jobs.submit(job, definition | {"tags": tags}, {"kind": kind})
            return
        given = action["endpointInvocationDefinition"]
        endpoint = workspace.child("batchEndpoints", str(given["endpointName"]))
        body = {"properties": {"name": names.scheduled_job(rid.name), **(given.get("properties") or given)}}
        invoke(self._arm, self._jobs, endpoint, given.get("deploymentName"), body)


def _prepare(_arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    names.check(rid)
    properties = document["properties"]
    action, trigger = properties.get("action") or {}, properties.get("trigger") or {}
    wanted = {"CreateJob": "jobDefinition", "InvokeBatchEndpoint": "endpointInvocationDefinition"}
    key = wanted.get(str(action.get("actionType")))
    if key is None or not isinstance(action.get(key), dict):
        raise bad_request(f"The action of the schedule {rid.name} is none of {', '.join(wanted)}.", "BadArgument")
    if key == "endpointInvocationDefinition" and not action[key].get("endpointName"):
        raise bad_request(f"The schedule {rid.name} does not say which endpoint (endpointName).", "BadArgument")
    made = _made(before or document)
    try:
        due = next_due(trigger, dt.datetime.now(dt.timezone.utc), made)
    except BadTrigger as error:
        raise bad_request(f"The trigger of the schedule {rid.name}: {error}.", "BadArgument") from None
    properties.setdefault("isEnabled", True)
    for name in ("tags", "properties"):
        if properties.get(name) is None:
            properties[name] = {}
    document["_due"] = _write(due)
    return document


def _made(document: Document) -> dt.datetime:
    return dt.datetime.fromisoformat(str(document["systemData"]["createdAt"]).replace("Z", "+00:00"))


def _read(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None


def _write(moment: dt.datetime | None) -> str | None:
    return moment.isoformat() if moment else None
