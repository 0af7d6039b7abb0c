"""Jobs: how they come to be, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names, runs
from azbatchwrap.local.aml.definition import goes_on_after_failures, steps_of
from azbatchwrap.local.aml.plan import PlanError, Step
from azbatchwrap.local.aml.runner import Runner, StepFailed, Ticket
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document, ResourceType
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

log = logging.getLogger(__name__)

FINAL = frozenset({"Completed", "Failed", "Canceled"})
_JOB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}\Z", re.ASCII)


class Jobs:
    """All jobs. A job that runs when the service dies runs again after the next start."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._runner = Runner(arm)
        self._running: dict[str, asyncio.Task[None]] = {}

    @staticmethod
    def types() -> list[ResourceType]:
        return [ResourceType(names.JOB, is_slow=False, is_tracked=False, show=runs.show)]

    def routes(self) -> list[Route]:
        one = "/workspaces/{}/jobs/{}"
        return [
            ("GET", "/workspaces/{}/jobs", runs.list_jobs),
            ("PUT", one, self.put),
            ("POST", f"{one}/cancel", self.cancel),
            ("DELETE", one, self.delete),
        ]

    async def start(self) -> None:
        """Take up the jobs that were not over."""
        await self._runner.start()
        for document in self._arm.resources.below("/subscriptions", names.JOB):
            if document["properties"]["status"] not in FINAL and not document.get("_parent"):
                self._begin(document)

    async def stop(self) -> None:
        for work in self._running.values():
            work.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._runner.stop()

    # How jobs come to be

    def put(self, arm: Arm, request: Request) -> Answer:
        """A command or pipeline job as a client defines it; of one that exists, tags and the like change."""
        rid = arm.resources.spelled(ids.parse(request.path))
        arm.resources.require(names.workspace_of(rid))
        properties = request.json().get("properties") or {}
        before = arm.resources.find(rid)
        if before is not None:
            changes = {name: properties[name] for name in ("tags", "displayName", "isArchived") if name in properties}
            before["properties"] |= changes
            arm.resources.save(before)
            return Answer(200, arm.resources.show(before))
        if str(properties.get("jobType")).lower() not in {"command", "pipeline"}:
            raise bad_request(f"Jobs of type {properties.get('jobType')} do not run here.", "UnsupportedJobType")
        document = self.submit(rid, properties, {"kind": str(properties["jobType"]).lower()})
        return Answer(201, arm.resources.show(document))

    def submit(self, rid: ResourceId, properties: dict[str, Any], definition: dict[str, Any]) -> Document:
        """Keep a job and begin to run it. Raises ArmError when it cannot run as it is defined."""
        arm = self._arm
        if not _JOB_NAME.match(rid.name):
            raise bad_request(f"'{rid.name}' is not a valid name of a job.", "BadArgument")
        if arm.resources.find(rid) is not None:
            raise conflict(f"A job with the name {rid.name} already exists.", "JobNameAlreadyExists")
        now = timestamp()
        document: Document = {
            "id": rid.text,
            "name": rid.name,
            "type": names.JOB,
            "properties": {
                "tags": {},
                "isArchived": False,
                "experimentName": "Default",
                "displayName": rid.name,
                "services": _services(arm, rid),
                **{name: value for name, value in properties.items() if value is not None},
                "status": "NotStarted",
            },
            "systemData": {"createdAt": now, "createdBy": "local", "createdByType": "Application"},
            "_definition": definition,
        }
        try:
            steps_of(self._arm, document)
        except PlanError as error:
            raise bad_request(f"The job cannot run: {error}.", "UserError") from None
        arm.resources.save(document)
        self._begin(document)
        return document

    # How they run

    def _begin(self, document: Document) -> None:
        key = str(document["id"]).lower()
        self._running[key] = asyncio.get_running_loop().create_task(self._guarded(key, self._run(key)))
        self._running[key].add_done_callback(lambda _: self._running.pop(key, None))

    async def _guarded(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """An error of our own ends the job, and is logged."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the job %s met an error of this service", key)
            self._set(key, "Failed", error=("SystemError", "The service met an error of its own; see its log."))

    async def _run(self, key: str) -> None:
        document = self._arm.resources.find_key(key)
        if document is None:
            return
        how = self._arm.faults.provisioning("PUT", document["id"])
        self._set(key, "Queued" if how.seconds != 0 else "Preparing")
        if how.seconds is None:
            await asyncio.Event().wait()
        await asyncio.sleep(how.seconds or 0)
        if how.failure is not None:
            self._set(key, "Failed", error=how.failure)
            return
        try:
            steps = steps_of(self._arm, document)
        except (PlanError, ArmError) as error:
            self._set(key, "Failed", error=("UserError", str(error)))
            return
        self._set(key, "Running")
        failures = await self._run_steps(key, document, steps)
        if failures:
            text = "; ".join(f"{name}: {error}" for name, error in failures.items())
            self._set(key, "Failed", error=("UserError", text))
        else:
            self._set(key, "Completed")

    async def _run_steps(self, key: str, document: Document, steps: list[Step]) -> dict[str, str]:
        """Run steps as soon as those they need are done; returns what failed. After a failure nothing more begins,
        unless the deployment says so (`continue_on_step_failure`)."""
        waiting, done = list(steps), set[str]()
        made: dict[tuple[str, str], str] = {}
        failures: dict[str, str] = {}
        running: dict[asyncio.Task[dict[str, str]], Step] = {}
        goes_on = goes_on_after_failures(self._arm, document)
        try:
            while True:
                if goes_on or not failures:
                    for step in [each for each in waiting if each.needs <= done]:
                        waiting.remove(step)
                        running[asyncio.create_task(self._run_step(document, step, made))] = step
                if not running:
                    return failures
                for task in (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0]:
                    step = running.pop(task)
                    try:
                        stored = task.result()
                    except StepFailed as error:
                        failures[step.name] = str(error)
                        continue
                    done.add(step.name)
                    made.update({(step.name, output): address for output, address in stored.items()})
                    self._record_outputs(key, step, stored)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_step(self, document: Document, step: Step, made: dict[tuple[str, str], str]) -> dict[str, str]:
        rid = ids.parse(document["id"])
        child = (
            rid
            if step.name == "command"
            else names.workspace_of(rid).child("jobs", names.child_job(rid.name, step.name))
        )
        experiment = str(document["properties"]["experimentName"])
        if child != rid:
            self._arm.resources.save(_child_document(self._arm, document, child, step))
            self._arm.store.commit()
        ticket = Ticket(names.workspace_of(rid), rid.name, child.name, experiment, dict(made))
        if child == rid:
            return await self._runner.run(step, ticket)
        try:
            self._set(child.key, "Running")
            stored = await self._runner.run(step, ticket)
        except StepFailed as error:
            self._set(child.key, "Failed", error=(error.code, str(error)))
            raise
        except asyncio.CancelledError:
            self._set(child.key, "Canceled")
            raise
        self._set(child.key, "Completed")
        return stored

    def _record_outputs(self, key: str, step: Step, stored: Mapping[str, str]) -> None:
        """Say where the job's own outputs lie."""
        document = self._arm.resources.find_key(key)
        if document is None:
            return
        outputs = document["properties"].setdefault("outputs", {})
        for name, address in stored.items():
            wanted = step.outputs[name]
            if wanted.parent_output is not None:
                kind = "uri_file" if wanted.is_file else "uri_folder"
                outputs[wanted.parent_output] = {"jobOutputType": kind, "uri": address, "mode": "ReadWriteMount"}
        self._arm.resources.save(document)
        self._arm.store.commit()

    def _set(self, key: str, status: str, *, error: tuple[str, str] | None = None) -> None:
        document = self._arm.resources.find_key(key)
        if document is None or document["properties"]["status"] in FINAL:
            return
        document["properties"]["status"] = status
        if status == "Running":
            document.setdefault("_started", timestamp())
        if status in FINAL:
            document["_ended"] = timestamp()
        if error is not None:
            document["_error"] = {"code": error[0], "message": error[1]}
        self._arm.resources.save(document)
        self._arm.store.commit()

    # What can be asked

    def cancel(self, arm: Arm, request: Request) -> Answer:
        document = arm.resources.require(ids.parse(request.path.rpartition("/")[0]))
        if document["properties"]["status"] in FINAL:
            raise conflict(f"The job {document['name']} is over.", "JobInTerminalState")
        self._end(document)
        return Answer(200)

    def _end(self, document: Document) -> None:
        key = str(document["id"]).lower()
        work = self._running.get(key)
        if work is not None:
            work.cancel()
        self._set(key, "Canceled")

    def delete(self, arm: Arm, request: Request) -> Answer:
        rid = ids.parse(request.path)
        document = arm.resources.find(rid)
        if document is None:
            return Answer(204)
        if document["properties"]["status"] not in FINAL:
            self._end(document)
        arm.store.drop("resource", rid.key)
        return Answer(200)


def _services(arm: Arm, rid: ResourceId) -> dict[str, Any]:
    return {
        "Tracking": {"jobServiceType": "Tracking", "endpoint": f"{arm.url}/mlflow", "port": None},
        "Studio": {"jobServiceType": "Studio", "endpoint": f"{arm.url}/studio/runs/{rid.name}", "port": None},
    }


def _child_document(arm: Arm, parent: Document, rid: ResourceId, step: Step) -> Document:
    return {
        "id": rid.text,
        "name": rid.name,
        "type": names.JOB,
        "properties": {
            "jobType": "Command",
            "displayName": step.name,
            "experimentName": parent["properties"]["experimentName"],
            "command": step.command,
            "codeId": step.code,
            "environmentId": step.environment,
            "computeId": step.compute,
            "environmentVariables": dict(step.variables),
            "tags": {},
            "properties": {"azureml.rootrunid": parent["name"]},
            "services": _services(arm, rid),
            "isArchived": False,
            "status": "Queued",
        },
        "systemData": dict(parent["systemData"]),
        "_definition": {"kind": "step"},
        "_parent": parent["name"],
        "_step": step.name,
    }
