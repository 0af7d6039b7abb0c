"""Subscriptions, providers and resource groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm import ids, operations
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict, group_not_found
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.names import SUBSCRIPTION, TENANT_ID
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

LOCATIONS = (
    "eastus",
    "eastus2",
    "northeurope",
    "southcentralus",
    "uksouth",
    "westeurope",
    "westus",
    "westus2",
    "local",
)
_SUBSCRIPTION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_GROUP_NAME = re.compile(r"[-\w.()]{0,89}[-\w()]\Z")
#: One comparison of a ``$filter``.
_COMPARISON = re.compile(r"\s*(\w+)\s+eq\s+'((?:[^']|'')*)'\s*\Z", re.IGNORECASE)


def check_subscription(path: str) -> None:
    """Raises ArmError when the address names a subscription by something that is no id of one."""
    parts = path.strip("/").split("/")
    if len(parts) > 1 and parts[0].lower() == "subscriptions" and not _SUBSCRIPTION_ID.match(parts[1]):
        raise bad_request(
            f"The provided subscription identifier '{parts[1]}' is malformed or invalid.", "InvalidSubscriptionId"
        )


def _subscription(number: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{number}",
        "subscriptionId": number,
        "tenantId": TENANT_ID,
        "displayName": "Azure on this machine",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
    }


def subscriptions(arm: Arm, request: Request) -> Answer:
    used = {document["_subscription"] for _, document in arm.store.below("group", "/subscriptions/")}
    return page(request, [_subscription(number) for number in sorted({SUBSCRIPTION, *used})])


def subscription(_arm: Arm, request: Request) -> Answer:
    return Answer(200, _subscription(request.names[0]))


def tenants(_arm: Arm, request: Request) -> Answer:
    return page(request, [{"id": f"/tenants/{TENANT_ID}", "tenantId": TENANT_ID}])


def locations(_arm: Arm, request: Request) -> Answer:
    number = request.names[0]
    found = [
        {"id": f"/subscriptions/{number}/locations/{name}", "name": name, "displayName": name} for name in LOCATIONS
    ]
    return page(request, found)


def _provider(arm: Arm, number: str, namespace: str) -> dict[str, Any]:
    types = [
        {"resourceType": kind.kind.partition("/")[2], "locations": list(LOCATIONS)}
        for kind in arm.resources.types(namespace)
    ]
    return {
        "id": f"/subscriptions/{number}/providers/{namespace}",
        "namespace": namespace,
        "registrationState": "Registered",
        "resourceTypes": types,
    }


def providers(arm: Arm, request: Request) -> Answer:
    return page(request, [_provider(arm, request.names[0], namespace) for namespace in arm.namespaces.values()])


def provider(arm: Arm, request: Request) -> Answer:
    """Every namespace counts as registered: registering is a matter of permission, which `forbidden` faults show."""
    namespace = arm.namespaces.get(request.names[1].lower(), request.names[1])
    return Answer(200, _provider(arm, request.names[0], namespace))


# Resource groups


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if not name.startswith("_")}


def _find(arm: Arm, request: Request) -> dict[str, Any]:
    """Raises ArmError ResourceGroupNotFound."""
    key = ids.group_key(*request.names[:2])
    document = arm.store.load("group", key)
    if document is not None and "_operation" in document:
        arm.operations.find(document["_operation"])
        document = arm.store.load("group", key)
    if document is None:
        raise group_not_found(request.names[1])
    return document


def list_groups(arm: Arm, request: Request) -> Answer:
    """The groups of a subscription; ``$filter`` knows ``name``, ``location``, ``tagName`` and ``tagValue``."""
    wanted = _comparisons(request)
    found = arm.store.below("group", f"/subscriptions/{request.names[0]}/resourceGroups/".lower())
    return page(request, [_shown(document) for _, document in found if _fits(document, wanted)])


def _comparisons(request: Request) -> dict[str, str]:
    """What ``$filter`` asks for: comparisons with ``eq``, joined by ``and``. Raises ArmError for any other."""
    text = request.query.get("$filter", "")
    found = {}
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE) if text else ():
        match = _COMPARISON.match(part)
        if match is None or match[1].lower() not in {*_COMPARED, "tagname", "tagvalue"}:
            raise bad_request(f"Invalid $filter '{text}' specified in the query string.", "InvalidFilterInQueryString")
        found[match[1].lower()] = match[2].replace("''", "'").lower()
    return found


#: What else than tags can be compared -> how it is found in a resource or group.
_COMPARED: dict[str, Callable[[dict[str, Any]], str]] = {
    "name": lambda document: str(document["name"]),
    "location": lambda document: str(document.get("location") or ""),
    "resourcetype": lambda document: str(document["type"]),
    "resourcegroup": lambda document: ids.parse(str(document["id"])).group,
}


def _fits(document: dict[str, Any], wanted: Mapping[str, str]) -> bool:
    if any(_COMPARED[name](document).lower() != value for name, value in wanted.items() if name in _COMPARED):
        return False
    tags = {name.lower(): str(value).lower() for name, value in (document.get("tags") or {}).items()}
    name, value = wanted.get("tagname"), wanted.get("tagvalue")
    if name is None:
        return value is None or value in tags.values()
    return name in tags and value in (None, tags[name])


def get_group(arm: Arm, request: Request) -> Answer:
    document = _find(arm, request)
    return Answer(204) if request.method == "HEAD" else Answer(200, _shown(document))


def put_group(arm: Arm, request: Request) -> Answer:
    number, name = request.names[:2]
    body = request.json()
    key = ids.group_key(number, name)
    before = arm.store.load("group", key)
    if not _GROUP_NAME.match(name):
        raise bad_request(f"The provided resource group name '{name}' is not allowed.", "InvalidResourceGroupName")
    location = str(body.get("location") or "").lower().replace(" ", "")
    if not location:
        raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
    if before is not None and before["location"] != location:
        raise conflict(
            f"Invalid resource group location '{location}'. The resource group already exists in location "
            f"'{before['location']}'.",
            "InvalidResourceGroupLocation",
        )
    if before is not None and "_operation" in before:
        raise conflict(f"The resource group '{name}' is being deleted.", "ResourceGroupBeingDeleted")
    document = {
        "id": f"/subscriptions/{number}/resourceGroups/{before['name'] if before else name}",
        "name": before["name"] if before else name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": location,
        "tags": body.get("tags") or {},
        "properties": {"provisioningState": "Succeeded"},
        "_subscription": number.lower(),
    }
    arm.store.save("group", key, document)
    return Answer(200 if before else 201, _shown(document))


def patch_group(arm: Arm, request: Request) -> Answer:
    document = _find(arm, request)
    document["tags"] = request.json().get("tags", document["tags"]) or {}
    arm.store.save("group", ids.group_key(*request.names[:2]), document)
    return Answer(200, _shown(document))


def delete_group(arm: Arm, request: Request) -> Answer:
    document = _find(arm, request)
    key = ids.group_key(*request.names[:2])
    document["properties"]["provisioningState"] = "Deleting"
    arm.store.save("group", key, document)
    operation = arm.operations.begin("delete-group", key, arm.faults.provisioning("DELETE", document["id"]))
    if operation["status"] == "InProgress":
        arm.store.save("group", key, document | {"_operation": operation["id"]})
    return Answer(202, None, operations.headers(request, operation, with_location=True))


def dropped(arm: Arm, key: str, succeeded: bool) -> None:
    """A group's deletion is over."""
    document = arm.store.load("group", key)
    if document is None:
        return
    if succeeded:
        arm.resources.drop_below(key)
        arm.store.drop("group", key)
    else:
        document.pop("_operation", None)
        document["properties"]["provisioningState"] = "Succeeded"
        arm.store.save("group", key, document)


def list_resources(arm: Arm, request: Request) -> Answer:
    """Every top-level resource of a group, or of a subscription; ``$filter`` as of groups, and by type and group.

    Resources below others are listed where their type is asked for.
    """
    if len(request.names) > 1:
        _find(arm, request)
        prefix = ids.group_key(*request.names[:2])
    else:
        prefix = f"/subscriptions/{request.names[0]}/resourceGroups"
    wanted = _comparisons(request)
    kind = wanted.get("resourcetype")
    found = [document for document in arm.resources.below(prefix, kind) if _fits(document, wanted)]
    top = [document for document in found if kind or _is_top_level(document)]
    keep = ("id", "name", "type", "location", "tags", "kind", "sku", "identity")
    return page(request, [{name: document[name] for name in keep if name in document} for document in top])


def _is_top_level(document: dict[str, Any]) -> bool:
    kind = str(document["type"])
    return kind.count("/") == 1 and not kind.startswith("Microsoft.Resources/")


GROUP = "/subscriptions/{}/resourceGroups/{}"
ROUTES: list[Route] = [
    ("GET", "/tenants", tenants),
    ("GET", "/subscriptions", subscriptions),
    ("GET", "/subscriptions/{}", subscription),
    ("GET", "/subscriptions/{}/locations", locations),
    ("GET", "/subscriptions/{}/providers", providers),
    ("GET", "/subscriptions/{}/providers/{}", provider),
    ("POST", "/subscriptions/{}/providers/{}/register", provider),
    ("POST", "/subscriptions/{}/providers/{}/unregister", provider),
    ("GET", "/subscriptions/{}/resources", list_resources),
    ("GET", "/subscriptions/{}/resourceGroups", list_groups),
    ("GET HEAD", GROUP, get_group),
    ("PUT", GROUP, put_group),
    ("PATCH", GROUP, patch_group),
    ("DELETE", GROUP, delete_group),
    ("GET", f"{GROUP}/resources", list_resources),
]
