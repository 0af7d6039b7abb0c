"""Jobs: how they come to be (put, or a batch endpoint invoked), what becomes of them, and what can be asked of them."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import uuid
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from azbatchwrap.local.aml import assets, names, plan, scorer
from azbatchwrap.local.aml.plan import Given, PlanError, Step, Wanted
from azbatchwrap.local.aml.runner import LOG_CONTAINER, LOG_FILE, LOG_FOLDER, Runner, StepFailed, Ticket
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document, ResourceType
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

log = logging.getLogger(__name__)

JOB = f"{names.WORKSPACE}/jobs"
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
        return [ResourceType(JOB, is_slow=False, is_tracked=False, show=_show)]

    def routes(self) -> list[Route]:
        one = "/workspaces/{}/jobs/{}"
        return [
            ("GET", "/workspaces/{}/jobs", _list),
            ("PUT", one, self.put),
            ("POST", f"{one}/cancel", self.cancel),
            ("DELETE", one, self.delete),
        ]

    def service_routes(self) -> list[Route]:
        """Addresses of the workspace's own services: invocation, the endpoint's jobs, the run history."""
        workspace = f"/subscriptions/{{}}/resourceGroups/{{}}/providers/{names.WORKSPACE}/{{}}"
        endpoint = f"{workspace}/batchEndpoints/{{}}/jobs"
        run = f"/history/v1.0{workspace}/runs/{{}}"
        return [
            ("POST", f"/endpoints{endpoint}", self.invoke),
            ("GET", f"/endpoints{endpoint}", _list_of_endpoint),
            ("GET", f"/mferp/managementfrontend{endpoint}", _list_of_endpoint),
            ("GET", run, self.run),
            ("GET", f"{run}/details", self.run_details),
            ("GET", f"{run}/children", self.run_children),
        ]

    async def start(self) -> None:
        """Take up the jobs that were not over."""
        await self._runner.start()
        for document in self._arm.resources.below("/subscriptions", JOB):
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

    def invoke(self, arm: Arm, request: Request) -> Answer:
        """``POST`` to a batch endpoint's scoring address."""
        subscription, group, workspace, endpoint = request.names
        space = ResourceId(subscription, group, names.NAMESPACE, ("workspaces",), (workspace,))
        wanted = request.headers.get("azureml-model-deployment")
        document = self.invoke_endpoint(space.child("batchEndpoints", endpoint), wanted, request.json())
        return Answer(201, _as_endpoint_job(document))

    def invoke_endpoint(self, endpoint: ResourceId, deployment: str | None, body: Mapping[str, Any]) -> Document:
        """Start a job of an endpoint's deployment (default: its default deployment). Raises ArmError."""
        arm = self._arm
        endpoint = arm.resources.spelled(endpoint)
        found = arm.resources.require(endpoint)
        chosen = deployment or (found["properties"].get("defaults") or {}).get("deploymentName")
        if not chosen:
            raise bad_request(f"The endpoint {endpoint.name} has no default deployment.", "NoDefaultDeployment")
        target = arm.resources.require(endpoint.child("deployments", str(chosen)))
        if target["properties"].get("provisioningState") != "Succeeded":
            raise conflict(f"The deployment {chosen} is not ready.", "DeploymentNotReady")
        given = body.get("properties") or {}
        inner = given.get("properties") or {}
        name = str(given.get("name") or f"batchjob-{uuid.uuid4()}")
        properties = {
            "displayName": name,
            "experimentName": inner.get("experimentName") or endpoint.name,
            "inputs": _given_data(given, "input"),
            "outputs": _given_data(given, "output"),
            "properties": {**inner, "azureml.endpointName": endpoint.name, "azureml.deploymentName": str(chosen)},
            "jobType": "Pipeline",
        }
        definition = {"kind": "deployment", "deployment": target["id"], "endpoint": endpoint.name}
        return self.submit(names.workspace_of(endpoint).child("jobs", name), properties, definition)

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
            "type": JOB,
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
            self._steps(document)
        except PlanError as error:
            raise bad_request(f"The job cannot run: {error}.", "UserError") from None
        arm.resources.save(document)
        self._begin(document)
        return document

    def _steps(self, document: Document) -> list[Step]:
        """What a job runs. Raises PlanError, ArmError."""
        properties, definition = document["properties"], document["_definition"]
        if definition["kind"] == "command":
            return [plan.command(properties)]
        workspace = names.workspace_of(ids.parse(document["id"]))

        def lookup(reference: str) -> Mapping[str, Any]:
            specification: Mapping[str, Any] = assets.find_version(self._arm, workspace, reference)["properties"][
                "componentSpec"
            ]
            return specification

        inputs = {name: plan.read_input(name, given) for name, given in (properties.get("inputs") or {}).items()}
        outputs = {}
        for name, given in (properties.get("outputs") or {}).items():
            wanted = plan.read_output(given)
            outputs[name] = Wanted(wanted.is_file, wanted.address, name)
        if definition["kind"] == "pipeline":
            compute = (properties.get("settings") or {}).get("default_compute")
            return plan.pipeline(properties.get("jobs") or {}, inputs, outputs, compute, lookup)
        target = self._arm.resources.find_key(definition["deployment"].lower())
        if target is None:
            raise PlanError("its deployment is gone")
        configuration = target["properties"].get("deploymentConfiguration")
        if not configuration:
            return [_scoring_step(target["properties"], inputs, outputs)]
        specification = lookup(configuration["componentId"]["assetId"])
        unknown = sorted(set(outputs) - set(specification.get("outputs") or {}))
        if unknown:
            raise PlanError(f"unknown outputs: {', '.join(unknown)}")
        inputs = plan.defaulted(specification.get("inputs") or {}, inputs)
        compute = (configuration.get("settings") or {}).get("default_compute")
        if specification.get("type") == "pipeline":
            return plan.pipeline(specification.get("jobs") or {}, inputs, outputs, compute, lookup)
        node = {
            "step": {
                "componentId": configuration["componentId"]["assetId"],
                "inputs": {name: {"value": f"${{{{parent.inputs.{name}}}}}"} for name in inputs},
                "outputs": {
                    name: {"value": f"${{{{parent.outputs.{name}}}}}"} for name in specification.get("outputs") or {}
                },
            }
        }
        return plan.pipeline(node, inputs, outputs, compute, lookup)

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
            steps = self._steps(document)
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
        goes_on = self._continues(document)
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

    def _continues(self, document: Document) -> bool:
        deployment = self._arm.resources.find_key(str(document["_definition"].get("deployment", "")).lower())
        settings = document["properties"].get("settings") or {}
        if deployment is not None:
            settings = (deployment["properties"].get("deploymentConfiguration") or {}).get("settings") or {}
        return str(settings.get("continue_on_step_failure", "")).lower() == "true"

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

    def _require_run(self, request: Request) -> Document:
        subscription, group, workspace, name = request.names
        space = ResourceId(subscription, group, names.NAMESPACE, ("workspaces",), (workspace,))
        return self._arm.resources.require(space.child("jobs", name))

    def run(self, _arm: Arm, request: Request) -> Answer:
        return Answer(200, _run_record(self._require_run(request)))

    async def run_details(self, _arm: Arm, request: Request) -> Answer:
        """A run with the addresses of its logs, signed for reading: its own, or those of its steps."""
        document = self._require_run(request)
        children = self._children(document)
        wanted = {each["name"]: f"{each['_step']}/" for each in children} or {document["name"]: ""}

        def sign() -> dict[str, str]:
            client = self._runner.blobs.ensure(LOG_CONTAINER)
            found = {}
            for child, prefix in wanted.items():
                blob = f"{LOG_FOLDER.format(child)}/{LOG_FILE}"
                if client.get_blob_client(blob).exists():
                    found[f"user_logs/{prefix}{LOG_FILE}"] = self._runner.blobs.signed(LOG_CONTAINER, blob)
            return found

        record = _run_record(document) | {
            "logFiles": await asyncio.to_thread(sign),
            "runDefinition": {},
            "warnings": [],
        }
        return Answer(200, record)

    def run_children(self, _arm: Arm, request: Request) -> Answer:
        return page(request, [_run_record(each) for each in self._children(self._require_run(request))])

    def _children(self, document: Document) -> list[Document]:
        prefix = str(document["id"]).rpartition("/")[0]
        return [each for each in self._arm.resources.below(prefix, JOB) if each.get("_parent") == document["name"]]


def _scoring_step(deployment: Mapping[str, Any], inputs: Mapping[str, Given], outputs: Mapping[str, Wanted]) -> Step:
    """The one step of a model deployment: our scorer runs its script over the one input's files. Raises PlanError."""
    files = [name for name, given in inputs.items() if given.is_file]
    if len(files) != 1:
        raise PlanError(f"a model deployment takes one input of files, not {len(files)}")
    configuration = deployment.get("codeConfiguration") or {}
    model = (deployment.get("model") or {}).get("assetId")
    if not configuration.get("codeId") or not model:
        raise PlanError("its deployment has no scoring script or no model")
    words = {
        "script": configuration["scoringScript"],
        "input": "${{inputs.data}}",
        "output": "${{outputs.score}}",
        "output-file": deployment.get("outputFileName") or "predictions.csv",
        "output-action": deployment.get("outputAction") or "AppendRow",
        "mini-batch-size": deployment.get("miniBatchSize") or 10,
        "error-threshold": deployment["errorThreshold"] if deployment.get("errorThreshold") is not None else -1,
        "max-retries": (deployment.get("retrySettings") or {}).get("maxRetries") or 0,
    }
    flags = " ".join(
        f"--{name} {value if '{{' in str(value) else shlex.quote(str(value))}" for name, value in words.items()
    )
    wanted = next(iter(outputs.values()), Wanted())
    return Step(
        name="batchscoring",
        command=f"exec python {shlex.quote(str(Path(scorer.__file__)))} {flags}",
        code=configuration["codeId"],
        environment=deployment.get("environmentId"),
        inputs={"data": inputs[files[0]], "model": Given(f"azureml:{model}", is_file=True)},
        outputs={"score": Wanted(address=wanted.address, parent_output="score")},
        variables={**(deployment.get("environmentVariables") or {}), "AZUREML_MODEL_DIR": "${{inputs.model}}"},
        compute=deployment.get("compute"),
    )


#: The types of inputs and outputs as invocations spell them -> as jobs do.
_TYPES = {
    "urifile": "uri_file",
    "urifolder": "uri_folder",
    "mlflowmodel": "mlflow_model",
    "custommodel": "custom_model",
    "tritonmodel": "triton_model",
}


def _given_data(given: Mapping[str, Any], which: Literal["input", "output"]) -> dict[str, Any]:
    """An invocation's inputs or outputs as a job writes them. Raises ArmError."""
    data = given.get(f"{which}Data") or {}
    if not isinstance(data, Mapping) or not all(isinstance(value, Mapping) for value in data.values()):
        raise bad_request(f"{which}Data must be an object of objects.", "BadArgument")
    key = f"job{which.capitalize()}Type"
    found = {}
    for name, value in data.items():
        kind = str(value.get(key) or "").replace("_", "").lower()
        found[name] = {**value, key: _TYPES.get(kind, kind)}
    return found


def _services(arm: Arm, rid: ResourceId) -> dict[str, Any]:
    return {
        "Tracking": {"jobServiceType": "Tracking", "endpoint": f"{arm.url}/mlflow", "port": None},
        "Studio": {"jobServiceType": "Studio", "endpoint": f"{arm.url}/studio/runs/{rid.name}", "port": None},
    }


def _child_document(arm: Arm, parent: Document, rid: ResourceId, step: Step) -> Document:
    return {
        "id": rid.text,
        "name": rid.name,
        "type": JOB,
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


def _show(_arm: Arm, document: Document) -> Document:
    """As clients see it: with its times and its error among the properties."""
    extra = {"StartTimeUtc": document.get("_started"), "EndTimeUtc": document.get("_ended")}
    properties = dict(document["properties"])
    inner = {**(properties.get("properties") or {}), **{name: value for name, value in extra.items() if value}}
    if "_error" in document:
        inner["azureml.errorCode"] = document["_error"]["code"]
        inner["azureml.errorMessage"] = document["_error"]["message"]
    return document | {"properties": properties | {"properties": inner}}


def _run_record(document: Document) -> dict[str, Any]:
    """A run as the run history tells it."""
    properties = document["properties"]
    record = {
        "runId": document["name"],
        "rootRunId": document.get("_parent") or document["name"],
        "parentRunId": document.get("_parent"),
        "displayName": properties["displayName"],
        "experimentName": properties["experimentName"],
        "runType": "azureml.PipelineRun" if properties["jobType"] == "Pipeline" else "azureml.scriptrun",
        "status": properties["status"],
        "createdUtc": document["systemData"]["createdAt"],
        "startTimeUtc": document.get("_started"),
        "endTimeUtc": document.get("_ended"),
        "properties": properties.get("properties") or {},
        "tags": properties.get("tags") or {},
        "target": properties.get("computeId"),
    }
    if "_error" in document:
        record["error"] = {"error": document["_error"]}
    return record


def _as_endpoint_job(document: Document) -> dict[str, Any]:
    rid = ids.parse(document["id"])
    endpoint = document["_definition"]["endpoint"]
    return {
        "id": names.workspace_of(rid).child("batchEndpoints", endpoint).child("jobs", rid.name).text,
        "name": rid.name,
        "type": f"{names.WORKSPACE}/batchEndpoints/jobs",
        "properties": {
            "name": rid.name,
            "displayName": document["properties"]["displayName"],
            "experimentName": document["properties"]["experimentName"],
            "status": document["properties"]["status"],
            "inputData": document["properties"]["inputs"],
            "outputData": document["properties"]["outputs"],
            "interactionEndpoints": document["properties"]["services"],
            "properties": document["properties"]["properties"],
            "tags": document["properties"]["tags"],
        },
        "systemData": document["systemData"],
    }


def _top_level(arm: Arm, workspace: ResourceId) -> list[Document]:
    """A workspace's jobs without the steps of others, newest first."""
    found = [each for each in arm.resources.below(workspace.key, JOB) if not each.get("_parent")]
    return found[::-1]


def _list(arm: Arm, request: Request) -> Answer:
    workspace = ids.parse(request.path.rpartition("/")[0])
    arm.resources.require(workspace)
    return page(request, [arm.resources.show(each) for each in _top_level(arm, workspace)])


def _list_of_endpoint(arm: Arm, request: Request) -> Answer:
    subscription, group, workspace, endpoint = request.names
    space = ResourceId(subscription, group, names.NAMESPACE, ("workspaces",), (workspace,))
    arm.resources.require(space.child("batchEndpoints", endpoint))
    found = [
        each for each in _top_level(arm, space) if each["_definition"].get("endpoint", "").lower() == endpoint.lower()
    ]
    return page(request, [_as_endpoint_job(each) for each in found])
