"""Deployments of a resource group: a template's resources are made one after the other, as their `dependsOn` asks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap.local.arm import ids, operations
from azbatchwrap.local.arm.errors import ArmError, conflict, error_record, group_not_found
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.faults import Provisioning
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.names import TENANT_ID
from azbatchwrap.local.arm.resources import Document, ResourceType
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.arm.template import Scope, evaluate, invalid, resource_id

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

DEPLOYMENT = "Microsoft.Resources/deployments"


def register(arm: Arm) -> None:
    arm.operations.effects["deployment"] = lambda _key, _succeeded: None  # its resources have operations of their own
    one = "/deployments/{}"
    routes: list[Route] = [
        ("PUT", one, _put),
        ("POST", f"{one}/validate", _validate),
        ("POST", f"{one}/cancel", _cancel),
        ("GET", f"{one}/operationStatuses/{{}}", operations.status),
        ("GET", f"{one}/operations", _operations),
        ("GET", f"{one}/operations/{{}}", _operation),
    ]
    arm.register("Microsoft.Resources", [ResourceType(DEPLOYMENT, is_tracked=False, show=_shown)], routes)
    # Clients ask for the operations of a deployment without the provider's name as well.
    arm.router.add(routes[4:], "/subscriptions/{}/resourceGroups/{}")


def _shown(arm: Arm, document: Document) -> Document:
    """A deployment goes on while one of its resources does."""
    properties = dict(document["properties"])
    properties.pop("template", None)
    steps = _steps(arm, document)
    if properties.get("error") is None and properties["provisioningState"] != "Canceled":
        properties["provisioningState"] = _state(steps)
        if properties["provisioningState"] == "Failed":
            failed = [step for step in steps if step["provisioningState"] == "Failed"]
            properties["error"] = _deployment_failed(failed)
    properties["outputResources"] = [{"id": step["targetResource"]["id"]} for step in steps]
    properties["duration"] = f"PT{max(0.0, time.time() - document['_started']):.7f}S"
    return document | {"properties": properties}


def _state(steps: list[dict[str, Any]]) -> str:
    states = {step["provisioningState"] for step in steps}
    if "Running" in states:
        return "Running"
    return "Failed" if "Failed" in states else "Succeeded"


def _deployment_failed(steps: list[dict[str, Any]]) -> dict[str, Any]:
    details = [(step["statusMessage"]["error"]["code"], step["statusMessage"]["error"]["message"]) for step in steps]
    text = "At least one resource deployment operation failed. Please list deployment operations for details."
    return error_record("DeploymentFailed", text, details)


def _steps(arm: Arm, document: Document) -> list[dict[str, Any]]:
    """What has become of each resource of the deployment."""
    found = []
    for step in document["_steps"]:
        error, state = step["error"], "Failed" if step["error"] else "Succeeded"
        operation = arm.operations.find(step["operation"]) if step["operation"] else None
        if operation is not None and operation["status"] != "Succeeded":
            state = {"InProgress": "Running"}.get(operation["status"], "Failed")
            error = operation["failure"]
        rid = ids.parse(step["id"])
        record = {
            "provisioningOperation": "Create",
            "provisioningState": state,
            "timestamp": operations.timestamp(document["_started"]),
            "duration": "PT0.1S",
            "serviceRequestId": step["number"],
            "statusCode": "OK" if state != "Failed" else "Conflict",
            "targetResource": {"id": step["id"], "resourceType": rid.kind, "resourceName": "/".join(rid.names)},
        }
        if error:
            record["statusMessage"] = {"status": "Failed", "error": error_record(error[0], error[1])}
        found.append(record)
    return found


def _target(request: Request) -> ResourceId:
    subscription, group, name = request.names[:3]
    return ResourceId(subscription, group, "Microsoft.Resources", ("deployments",), (name,))


async def _put(arm: Arm, request: Request) -> Answer:
    rid = arm.resources.spelled(_target(request))
    group = _require_group(arm, rid)
    before = arm.resources.find(rid)
    if before is not None and _shown(arm, before)["properties"]["provisioningState"] == "Running":
        raise conflict(f"The deployment '{rid.name}' is still running.", "DeploymentActive")
    properties = request.json().get("properties") or {}
    scope = _scope(arm, rid, group, properties)
    template = properties.get("template") or {}
    planned = _plan(scope, template, rid)
    document = _document(rid, scope, str(properties.get("mode") or "Incremental"))
    how = await _make_all(arm, planned, scope, document["_steps"])
    document["properties"]["outputs"] = _outputs(scope, template, document["_steps"])
    arm.resources.save(document)
    error = _shown(arm, document)["properties"]["error"]
    failure = (error["code"], error["message"]) if error else how.failure
    operation = arm.operations.begin("deployment", rid.key, Provisioning(how.seconds, failure))
    place = f"{request.base}{rid.text}/operationStatuses/{operation['id']}?api-version={request.version}"
    headers = {"azure-asyncoperation": place, "retry-after": operations.RETRY_AFTER}
    return Answer(200 if before else 201, arm.resources.show(document), headers)


def _require_group(arm: Arm, rid: ResourceId) -> Document:
    group = arm.store.load("group", ids.group_key(rid.subscription, rid.group))
    if group is None:
        raise group_not_found(rid.group)
    return group


def _document(rid: ResourceId, scope: Scope, mode: str) -> Document:
    return {
        "id": rid.text,
        "name": rid.name,
        "type": DEPLOYMENT,
        "properties": {
            "mode": mode,
            "parameters": {name: {"value": value} for name, value in scope.parameters.items()},
            "timestamp": operations.timestamp(),
            "correlationId": str(uuid.uuid4()),
            "provisioningState": "Accepted",
            "error": None,
        },
        "_started": time.time(),
        "_steps": [],
    }


async def _make_all(
    arm: Arm, planned: list[tuple[ResourceId, dict[str, Any]]], scope: Scope, steps: list[dict[str, Any]]
) -> Provisioning:
    """Make one after the other until one fails, and note each in ``steps``; returns how long it all takes."""
    longest = Provisioning()
    for target, body in planned:
        step, how = await _make(arm, target, evaluate(body, scope))
        steps.append(step)
        longest = _longer(longest, how)
        if step["error"] or (how.seconds == 0 and how.failure):
            break  # what may depend on it is not begun
    return longest


def _longer(one: Provisioning, other: Provisioning) -> Provisioning:
    if one.seconds is None or other.seconds is None:
        return Provisioning(None)
    return Provisioning(max(one.seconds, other.seconds), one.failure or other.failure)


async def _make(arm: Arm, target: ResourceId, body: dict[str, Any]) -> tuple[dict[str, Any], Provisioning]:
    """Make one resource; a refusal is the deployment's failure, not the request's."""
    step: dict[str, Any] = {"id": target.text, "number": str(uuid.uuid4()), "operation": None, "error": None}
    how = arm.faults.provisioning("PUT", target.text)
    try:
        refused = arm.faults.refusal("PUT", target.text)
        if refused is not None:
            raise refused
        make = arm.resources.type_of(target).make
        if make is not None:
            await make(arm, _as_request(arm, target, body))
            return step, Provisioning()
        document, operation = arm.resources.put(target, body, how)
        step["id"] = document["id"]
        step["operation"] = operation["id"] if operation else None
    except ArmError as error:
        step["error"] = [error.code, error.message]
        how = Provisioning()
    return step, how


def _as_request(arm: Arm, target: ResourceId, body: dict[str, Any]) -> Request:
    """What a client would send to make the resource at its own address."""
    names = (target.subscription, target.group, *target.names)
    return Request("PUT", target.text, {}, {}, arm.url, orjson.dumps(body), names)


def _scope(arm: Arm, rid: ResourceId, group: dict[str, Any], properties: Mapping[str, Any]) -> Scope:
    template = properties.get("template")
    if not isinstance(template, dict):
        raise invalid("a template is required (links are not followed).")
    declared: Mapping[str, Any] = template.get("parameters") or {}
    given: Mapping[str, Any] = properties.get("parameters") or {}
    foreign = set(given) - set(declared)
    if foreign:
        raise invalid(f"the parameters {', '.join(sorted(foreign))} are not in the template.")

    def reference(target: str) -> Any:
        text = target if target.startswith("/") else resource_id(scope, *target.split("|"))
        document = arm.resources.find(ids.parse(text))
        if document is None:
            raise invalid(f"the resource '{target}' is not found.")
        return arm.resources.show(document)["properties"]

    values: dict[str, Any] = {}
    shown_group = {name: value for name, value in group.items() if not name.startswith("_")}
    scope = Scope(
        rid.subscription, shown_group, TENANT_ID, values, template.get("variables") or {}, reference, rid.name
    )
    for name, declaration in declared.items():
        if name in given:
            values[name] = (given[name] or {}).get("value")
        elif "defaultValue" in declaration:
            values[name] = evaluate(declaration["defaultValue"], scope)
        else:
            raise invalid(f"the value for the template parameter '{name}' is not provided.")
    return scope


def _plan(scope: Scope, template: Mapping[str, Any], rid: ResourceId) -> list[tuple[ResourceId, dict[str, Any]]]:
    """The resources whose condition holds, each after those it depends on."""
    waiting: dict[str, tuple[ResourceId, dict[str, Any], list[str]]] = {}
    for body in _flat(template.get("resources") or [], scope):
        if "copy" in body:
            raise invalid("this service does not repeat resources (copy).")
        if not evaluate(body.get("condition", True), scope):
            continue
        target = _target_of(scope, body, rid)
        needs = [str(evaluate(each, scope)).lower() for each in body.get("dependsOn") or []]
        waiting[target.key] = (target, {name: body[name] for name in body if name not in _NOT_BODY}, needs)
    planned: list[tuple[ResourceId, dict[str, Any]]] = []
    while waiting:
        names = {key.rpartition("/")[2]: key for key in waiting}
        ready = [
            key
            for key, (_, _, needs) in waiting.items()
            if not any((need in waiting or need in names) and names.get(need, need) != key for need in needs)
        ]
        if not ready:
            raise invalid("the resources depend on each other in a circle.")
        for key in ready:
            target, body, _ = waiting.pop(key)
            planned.append((target, body))
    return planned


def _flat(given: Any, scope: Scope, parent: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """All resources, children behind their parent, with whole types and names."""
    for body in given.values() if isinstance(given, dict) else given:
        whole = dict(body)
        if parent is not None:
            whole["type"] = f"{parent['type']}/{body['type']}"
            whole["name"] = f"{evaluate(parent['name'], scope)}/{evaluate(body['name'], scope)}"
            whole["condition"] = evaluate(parent.get("condition", True), scope) and body.get("condition", True)
        yield whole
        yield from _flat(body.get("resources") or [], scope, whole)


#: What of a template's resource is not sent to the provider.
_NOT_BODY = frozenset(
    {
        "condition",
        "type",
        "apiVersion",
        "name",
        "dependsOn",
        "resources",
        "resourceGroup",
        "subscriptionId",
        "scope",
        "comments",
    }
)


def _target_of(scope: Scope, body: Mapping[str, Any], rid: ResourceId) -> ResourceId:
    namespace, *types = str(body["type"]).split("/")
    names = str(evaluate(body["name"], scope)).split("/")
    if len(types) != len(names) or not all(names):
        raise invalid(f"the resource name '{'/'.join(names)}' does not fit the type '{body['type']}'.")
    group = evaluate(body.get("resourceGroup", rid.group), scope)
    subscription = evaluate(body.get("subscriptionId", rid.subscription), scope)
    return ResourceId(subscription, group, namespace, tuple(types), tuple(names))


def _outputs(scope: Scope, template: Mapping[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    if any(step["error"] for step in steps):
        return {}
    return {
        name: {"type": output.get("type"), "value": evaluate(output.get("value"), scope)}
        for name, output in (template.get("outputs") or {}).items()
    }


def _validate(arm: Arm, request: Request) -> Answer:
    rid = arm.resources.spelled(_target(request))
    properties = request.json().get("properties") or {}
    scope = _scope(arm, rid, _require_group(arm, rid), properties)
    _plan(scope, properties.get("template") or {}, rid)
    return Answer(200, {"id": rid.text, "name": rid.name, "properties": {"provisioningState": "Succeeded"}})


def _cancel(arm: Arm, request: Request) -> Answer:
    document = arm.resources.require(_target(request))
    state = _shown(arm, document)["properties"]["provisioningState"]
    if state != "Running":
        raise conflict(f"The deployment '{document['name']}' is not running ({state}).", "DeploymentCannotBeCancelled")
    document["properties"]["provisioningState"] = "Canceled"
    arm.resources.save(document)
    return Answer(204)


def _listed(arm: Arm, request: Request) -> list[dict[str, Any]]:
    document = arm.resources.require(_target(request))
    records = _steps(arm, document)
    return [
        {
            "id": f"{document['id']}/operations/{record['serviceRequestId']}",
            "operationId": record["serviceRequestId"],
            "properties": record,
        }
        for record in records
    ]


def _operations(arm: Arm, request: Request) -> Answer:
    return page(request, _listed(arm, request))


def _operation(arm: Arm, request: Request) -> Answer:
    for record in _listed(arm, request):
        if record["operationId"] == request.names[-1]:
            return Answer(200, record)
    raise ArmError(404, "DeploymentOperationNotFound", f"The operation {request.names[-1]} could not be found.")
