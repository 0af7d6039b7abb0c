"""Operations on nodes."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from azbatchwrap.local.batch import odata, wire
from azbatchwrap.local.batch.allocation import boot, node_view_image, vacate
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response, done, entity
from azbatchwrap.local.batch.lists import answer, selected
from azbatchwrap.local.batch.model import TASK_STATES, Node
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import nodes as shapes

#: Public port of the first node's ssh, as load balancers give them out.
FIRST_SSH_PORT = 50_000
AGENT_VERSION = "1.12.39"


def view(node: Node, request: Request) -> dict[str, Any]:
    """A node as the service shows it."""
    shown: dict[str, Any] = {
        "id": node.id,
        "url": f"{request.base}/pools/{node.pool.id}/nodes/{node.id}",
        "state": node.state,
        "schedulingState": node.scheduling,
        "stateTransitionTime": wire.format_ticks(node.since),
    }
    if node.booted is not None:
        shown["lastBootTime"] = wire.format_ticks(node.booted)
    shown |= {
        "allocationTime": wire.format_ticks(node.allocated),
        "ipAddress": node.ip_address,
        "affinityId": f"TVM:{node.id}",
        "vmSize": node.pool.spec["vmSize"],
        "totalTasksRun": node.total_run,
        "totalTasksSucceeded": node.total_succeeded,
        "runningTasksCount": len(node.runs),
        "runningTaskSlotsCount": node.required,
    }
    if recent := _recent(node, request):
        shown["recentTasks"] = recent
    if node.start_task is not None:
        shown["startTask"] = node.start_task
    if node.start_info is not None:
        shown["startTaskInfo"] = node.start_info
    if node.errors:
        shown["errors"] = node.errors
    shown["isDedicated"] = node.is_dedicated
    if endpoints := _endpoints(node):
        shown["endpointConfiguration"] = {"inboundEndpoints": endpoints}
    if node.booted is not None:
        shown["nodeAgentInfo"] = {"lastUpdateTime": wire.format_ticks(node.booted), "version": AGENT_VERSION}
    shown["virtualMachineInfo"] = node_view_image(node.pool)
    return shown


def _recent(node: Node, request: Request) -> list[dict[str, Any]]:
    running = [(run.job.id, run.row.id, run.state, orjson.dumps(run.execution)) for run in node.runs.values()]
    return [
        {
            "taskUrl": f"{request.base}/jobs/{job_id}/tasks/{task_id}",
            "jobId": job_id,
            "taskId": task_id,
            "taskState": TASK_STATES[state],
            "executionInfo": orjson.loads(execution),
        }
        for job_id, task_id, state, execution in [*node.recent, *running]
    ]


def _endpoints(node: Node) -> list[dict[str, Any]]:
    network = node.pool.spec.get("networkConfiguration", {}).get("endpointConfiguration", {})
    return [
        {
            "name": f"{pool['name']}.{node.address}",
            "protocol": pool["protocol"],
            "publicIPAddress": "127.0.0.1",
            "publicFQDN": "localhost",
            "frontendPort": pool["frontendPortRangeStart"] + node.address,
            "backendPort": pool["backendPort"],
        }
        for pool in network.get("inboundNATPools", ())
    ]


def _found(service: Service, request: Request) -> Node:
    return service.node(request.path[0], request.path[1])


def find(service: Service, request: Request) -> Response:
    node = _found(service, request)
    shown = view(node, request)
    kept = selected(request, shown, odata.properties.NODE)
    if kept is not shown:
        kept["virtualMachineInfo"] = shown["virtualMachineInfo"]  # the service shows it whatever is selected
    return entity(request, "nodes", kept)


def list_all(service: Service, request: Request) -> Response:
    pool = service.pool(request.path[0])
    return answer(
        request,
        "nodes",
        pool.nodes.values(),
        lambda node: node.id,
        view=lambda node: view(node, request),
        fields=odata.NODES,
        properties=odata.properties.NODE,
    )


async def reboot(service: Service, request: Request) -> Response:
    """The tasks end as asked, the start task runs again; files stay."""
    body = request.read_optional(shapes.NODE_REBOOT)
    node = _startable(service, request)
    return await _restart(service, request, node, "rebooting", body.get("nodeRebootOption", "requeue"))


async def reimage(service: Service, request: Request) -> Response:
    """As a reboot, with all files gone."""
    body = request.read_optional(shapes.NODE_REIMAGE)
    node = _startable(service, request)
    return await _restart(service, request, node, "reimaging", body.get("nodeReimageOption", "requeue"))


def _startable(service: Service, request: Request) -> Node:
    node = _found(service, request)
    if node.state not in {"idle", "running", "starttaskfailed", "unusable", "waitingforstarttask", "unknown"}:
        raise BatchError("OperationInvalidForCurrentState", [("Reason", f"The node is {node.state}.")])
    return node


async def _restart(service: Service, request: Request, node: Node, state: str, option: str) -> Response:
    node.enter(state)
    service.save_node(node)

    async def restart() -> None:
        await vacate(service, node, option)
        for number, preparation in list(node.preparations.items()):
            job = next((job for job in service.jobs.values() if job.number == number), None)
            again = job is None or job.preparation is None or job.preparation["rerunOnNodeRebootAfterSuccess"]
            if state == "reimaging" or again or preparation.is_ready is not True:
                del node.preparations[number]
                service.store.drop("preparation", f"{number}/{node.key}")
        if state == "reimaging":
            node.folders.remove()
        node.errors = []
        boot(service, node)

    await service.settle(service.spawn(restart(), f"{state} of {node.id}"))
    return done(request, 202)


async def deallocate(service: Service, request: Request) -> Response:
    body = request.read_optional(shapes.NODE_DEALLOCATE)
    node = _startable(service, request)
    option = body.get("nodeDeallocateOption", "requeue")
    since = node.since
    node.enter("deallocating")
    node.scheduling = "disabled"
    service.save_node(node)

    async def leave() -> None:
        await vacate(service, node, option)
        node.enter("deallocated")
        node.since = since  # the service leaves the time alone here
        service.save_node(node)

    await service.settle(service.spawn(leave(), f"deallocation of {node.id}"))
    return done(request, 202)


def start(service: Service, request: Request) -> Response:
    node = _found(service, request)
    if node.state != "deallocated":
        raise BatchError("OperationInvalidForCurrentState", [("Reason", "Only a deallocated node can be started.")])
    node.enter("starting")
    node.scheduling = "enabled"
    boot(service, node)
    return done(request, 202)


async def disable_scheduling(service: Service, request: Request) -> Response:
    body = request.read_optional(shapes.NODE_DISABLE)
    node = _found(service, request)
    if node.scheduling == "disabled":
        raise BatchError("NodeAlreadyInTargetSchedulingState")
    node.scheduling = "disabled"
    service.save_node(node)
    option = body.get("nodeDisableSchedulingOption", "requeue")
    if option != "taskcompletion":
        for run in list(node.runs.values()):
            service.scheduler.stop(run, option)
    return done(request, 200)


def enable_scheduling(service: Service, request: Request) -> Response:
    node = _found(service, request)
    if node.scheduling == "enabled":
        raise BatchError("NodeAlreadyInTargetSchedulingState")
    node.scheduling = "enabled"
    service.save_node(node)
    service.scheduler.wake(node.pool)
    return done(request, 200)


def remote_login(service: Service, request: Request) -> Response:
    """Where ssh would be: this machine, which runs none for the node."""
    node = _found(service, request)
    body = {
        "odata.metadata": f"{request.base}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.RemoteLoginSettings",
        "remoteLoginIPAddress": "127.0.0.1",
        "remoteLoginPort": FIRST_SSH_PORT + node.address,
    }
    return Response(200, orjson.dumps(body), ((b"dataserviceid", request.url.encode()),))


def create_user(service: Service, request: Request) -> Response:
    node = _found(service, request)
    body = request.read(shapes.NODE_USER)
    name = body["name"].lower()
    if name in node.users:
        raise BatchError("NodeUserExists")
    node.users[name] = body
    service.save_node(node)
    place = f"{request.url}/{body['name']}".encode()
    return Response(201, b"", ((b"dataserviceid", place), (b"location", place)))


def _user(node: Node, request: Request) -> str:
    name = request.path[2].lower()
    if name not in node.users:
        raise BatchError("NodeUserNotFound")
    return name


def replace_user(service: Service, request: Request) -> Response:
    node = _found(service, request)
    name = _user(node, request)
    body = request.read(shapes.NODE_USER_UPDATE)
    kept: dict[str, Any] = {key: node.users[name][key] for key in ("name", "isAdmin") if key in node.users[name]}
    node.users[name] = {**kept, **body}
    service.save_node(node)
    return done(request, 200)


def delete_user(service: Service, request: Request) -> Response:
    node = _found(service, request)
    del node.users[_user(node, request)]
    service.save_node(node)
    return Response(200)


def _extensions(node: Node) -> list[dict[str, Any]]:
    own = {
        "name": "batchNodeExtension",
        "publisher": "Microsoft.Azure.Extensions",
        "type": "BatchNodeExtension",
        "typeHandlerVersion": "1.0",
        "autoUpgradeMinorVersion": True,
    }
    machine = node.pool.spec.get("virtualMachineConfiguration") or {}
    return [
        {
            "provisioningState": "Succeeded",
            "vmExtension": extension,
            "instanceView": {
                "name": extension["name"],
                "statuses": [
                    {
                        "code": "ProvisioningState/succeeded",
                        "level": 0,
                        "displayStatus": "Provisioning succeeded",
                        "message": "Kept with the pool; nothing is installed on this machine.",
                    }
                ],
            },
        }
        for extension in [own, *machine.get("extensions", ())]
    ]


def list_extensions(service: Service, request: Request) -> Response:
    node = _found(service, request)
    return answer(
        request,
        "extensions",
        _extensions(node),
        lambda extension: extension["vmExtension"]["name"].lower(),
        view=lambda extension: extension,
        properties=odata.properties.NODE_EXTENSION,
    )


def find_extension(service: Service, request: Request) -> Response:
    node = _found(service, request)
    for extension in _extensions(node):
        if extension["vmExtension"]["name"].lower() == request.path[2].lower():
            return entity(request, "extensions", selected(request, extension, odata.properties.NODE_EXTENSION))
    raise BatchError("ResourceNotFound")


async def upload_logs(service: Service, request: Request) -> Response:
    """Upload what is known of the node. The answer comes before the end, and says nothing of what goes wrong."""
    node = _found(service, request)
    body = request.read(shapes.LOGS_UPLOAD)
    account = service.settings.account
    digest = hashlib.sha256(account.encode()).hexdigest()[:16]
    folder = f"{account}-{digest}/{node.pool.id.lower()}/{node.id}/{request.request_id}"
    times = {"startTime", "endTime"}
    container = {name: value for name, value in body.items() if name not in times} | {"path": folder}
    await service.settle(service.spawn(service.upload_node_logs(node, container), f"upload of {node.id}'s log"))
    answered = {
        "odata.metadata": (
            f"{request.base}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.UploadBatchServiceLogsResult"
        ),
        "virtualDirectoryName": folder,
        "numberOfFilesUploaded": 1,
    }
    return Response(200, orjson.dumps(answered), ((b"dataserviceid", request.url.encode()),))
