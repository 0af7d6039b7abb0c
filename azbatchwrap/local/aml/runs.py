"""What can be asked of jobs: as jobs, as jobs of an endpoint, and as runs of the run history with their logs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names
from azbatchwrap.local.aml.runner import LOG_CONTAINER, LOG_FILE, LOG_FOLDER
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


def show(_arm: Arm, document: Document) -> Document:
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


def as_endpoint_job(document: Document) -> dict[str, Any]:
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
    found = [each for each in arm.resources.below(workspace.key, names.JOB) if not each.get("_parent")]
    return found[::-1]


def list_jobs(arm: Arm, request: Request) -> Answer:
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
    return page(request, [as_endpoint_job(each) for each in found])


def _require(arm: Arm, request: Request) -> Document:
    subscription, group, workspace, name = request.names
    space = ResourceId(subscription, group, names.NAMESPACE, ("workspaces",), (workspace,))
    return arm.resources.require(space.child("jobs", name))


def _run(arm: Arm, request: Request) -> Answer:
    return Answer(200, _run_record(_require(arm, request)))


async def _details(arm: Arm, request: Request) -> Answer:
    """A run with the addresses of its logs, signed for reading: its own, or those of its steps."""
    document = _require(arm, request)
    children = _children(arm, document)
    wanted = {each["name"]: f"{each['_step']}/" for each in children} or {document["name"]: ""}

    def sign() -> dict[str, str]:
        client = arm.blobs.ensure(LOG_CONTAINER)
        found = {}
        for child, prefix in wanted.items():
            blob = f"{LOG_FOLDER.format(child)}/{LOG_FILE}"
            if client.get_blob_client(blob).exists():
                found[f"user_logs/{prefix}{LOG_FILE}"] = arm.blobs.signed(LOG_CONTAINER, blob)
        return found

    record = _run_record(document) | {
        "logFiles": await asyncio.to_thread(sign),
        "runDefinition": {},
        "warnings": [],
    }
    return Answer(200, record)


def _run_children(arm: Arm, request: Request) -> Answer:
    return page(request, [_run_record(each) for each in _children(arm, _require(arm, request))])


def _children(arm: Arm, document: Document) -> list[Document]:
    prefix = str(document["id"]).rpartition("/")[0]
    return [each for each in arm.resources.below(prefix, names.JOB) if each.get("_parent") == document["name"]]


_RUN = f"/history/v1.0{names.WORKSPACE_ADDRESS}/runs/{{}}"
_OF_ENDPOINT = f"{names.WORKSPACE_ADDRESS}/batchEndpoints/{{}}/jobs"
SERVICE_ROUTES: list[Route] = [
    ("GET", f"/endpoints{_OF_ENDPOINT}", _list_of_endpoint),
    ("GET", f"/mferp/managementfrontend{_OF_ENDPOINT}", _list_of_endpoint),
    ("GET", _RUN, _run),
    ("GET", f"{_RUN}/details", _details),
    ("GET", f"{_RUN}/children", _run_children),
]
