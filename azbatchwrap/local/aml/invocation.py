"""Invocations of batch endpoints: what a client posts becomes a job of one of the endpoint's deployments."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from azbatchwrap.local.aml import names
from azbatchwrap.local.aml.jobs import Jobs
from azbatchwrap.local.aml.runs import as_endpoint_job
from azbatchwrap.local.arm.errors import bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


#: What one invocation may want otherwise than its model deployment says.
OVERRIDES = ("miniBatchSize", "errorThreshold", "retrySettings", "outputFileName")


def routes(jobs: Jobs) -> list[Route]:
    """The scoring addresses."""

    def post(arm: Arm, request: Request) -> Answer:
        subscription, group, workspace, endpoint = request.names
        space = ResourceId(subscription, group, names.NAMESPACE, ("workspaces",), (workspace,))
        wanted = request.headers.get("azureml-model-deployment")
        return Answer(
            201, as_endpoint_job(invoke(arm, jobs, space.child("batchEndpoints", endpoint), wanted, request.json()))
        )

    return [("POST", f"/endpoints{names.WORKSPACE_ADDRESS}/batchEndpoints/{{}}/jobs", post)]


def invoke(arm: Arm, jobs: Jobs, endpoint: ResourceId, deployment: str | None, body: Mapping[str, Any]) -> Document:
    """Start a job of an endpoint's deployment (default: its default deployment). Raises ArmError."""
    endpoint = arm.resources.spelled(endpoint)
    found = arm.resources.require(endpoint)
    chosen = deployment or (found["properties"].get("defaults") or {}).get("deploymentName")
    if not chosen:
        raise bad_request(f"The endpoint {endpoint.name} has no default deployment.", "NoDefaultDeployment")
    target = arm.resources.require(endpoint.child("deployments", str(chosen)))
    if target["properties"].get("provisioningState") != "Succeeded":
        raise conflict(f"The deployment {chosen} is not ready.", "DeploymentNotReady")
    given = _object(_camel(body), "properties")
    inner = _object(given, "properties")
    name = str(given.get("name") or f"batchjob-{uuid.uuid4()}")
    properties = {
        "displayName": name,
        "experimentName": inner.get("experimentName") or endpoint.name,
        "inputs": _given_data(given, "input"),
        "outputs": _given_data(given, "output") or _given_dataset(given),
        "properties": {**inner, "azureml.endpointName": endpoint.name, "azureml.deploymentName": str(chosen)},
        "jobType": "Pipeline",
    }
    overrides = {name: given[name] for name in OVERRIDES if given.get(name) is not None}
    definition = {"kind": "deployment", "deployment": target["id"], "endpoint": endpoint.name, "overrides": overrides}
    return jobs.submit(names.workspace_of(endpoint).child("jobs", name), properties, definition)


def _camel(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with keys as we know them: Microsoft's own examples write ``InputData``, its clients ``inputData``."""
    return {name[:1].lower() + name[1:]: value for name, value in given.items()}


def _object(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name) or {}
    if not isinstance(value, Mapping):
        raise bad_request(f"{name} must be an object.", "BadArgument")
    return _camel(value)


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
        known = _camel(value)
        kind = str(known.get(key) or "").replace("_", "").lower()
        found[name] = {**known, key: _TYPES.get(kind, kind)}
    return found


def _given_dataset(given: Mapping[str, Any]) -> dict[str, Any]:
    """The output as older clients write it: a datastore and a folder in it."""
    dataset = _object(given, "outputDataset")
    store = str(dataset.get("datastoreId") or "").rpartition("/")[2]
    if not store:
        return {}
    address = f"azureml://datastores/{store}/paths/{str(dataset.get('path') or '').strip('/')}"
    return {"score": {"jobOutputType": "uri_folder", "uri": address}}
