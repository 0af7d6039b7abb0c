"""Resources of every kind: found, made, changed, listed and deleted alike. What is special about a kind, its type says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from azbatchwrap.local.arm import ids, operations
from azbatchwrap.local.arm.errors import ArmError, conflict, group_not_found, resource_not_found
from azbatchwrap.local.arm.exchange import Answer, Request, member, page
from azbatchwrap.local.arm.faults import Provisioning
from azbatchwrap.local.arm.ids import ResourceId

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

Document = dict[str, Any]
#: What a client may set of a resource, besides its properties.
_ENVELOPE = ("location", "tags", "kind", "sku", "identity", "plan", "zones", "managedBy", "extendedLocation")


def _unchanged(_arm: Arm, _rid: ResourceId, document: Document, _before: Document | None) -> Document:
    return document


def _shown(_arm: Arm, document: Document) -> Document:
    return document


def _nothing(_arm: Arm, _rid: ResourceId, _document: Document) -> None:
    return None


def _not_kept(_arm: Arm, _rid: ResourceId) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind of resource, such as ``Microsoft.Storage/storageAccounts`` (in the service's own spelling).

    ``prepare`` checks what a client wants stored and fills in what the service adds (raises ArmError);
    ``show`` is the view of what is stored; ``removed`` is told once a resource is gone (what lay below it is
    in ``_children``); ``purge`` removes for good what
    was kept of a deleted one (returns whether there was something). ``make`` makes one that is more than a document,
    as its own address does, where a template asks for it.
    """

    kind: str
    #: Making and deleting are long-running operations.
    is_slow: bool = True
    #: It lies in a region and carries tags.
    is_tracked: bool = True
    #: Containers of versions come into being with their first version.
    makes_parent: bool = False
    prepare: Callable[[Arm, ResourceId, Document, Document | None], Document] = _unchanged
    show: Callable[[Arm, Document], Document] = _shown
    removed: Callable[[Arm, ResourceId, Document], None] = _nothing
    purge: Callable[[Arm, ResourceId], bool] = _not_kept
    make: Callable[[Arm, Request], Awaitable[Answer]] | None = None


class Resources:
    """All resources, whatever their kind."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._types: dict[str, ResourceType] = {}
        arm.operations.effects["put"] = self._made
        arm.operations.effects["delete"] = self._deleted

    # Types

    def add_type(self, kind: ResourceType) -> None:
        self._types[kind.kind.lower()] = kind

    def types(self, namespace: str) -> list[ResourceType]:
        start = f"{namespace.lower()}/"
        return [kind for key, kind in self._types.items() if key.startswith(start)]

    def type_of(self, rid: ResourceId) -> ResourceType:
        return self._types.get(rid.kind.lower()) or ResourceType(rid.kind)

    def spelled(self, rid: ResourceId) -> ResourceId:
        """The id in the service's spelling of namespace and types, and in the group's own."""
        namespace, *types = self.type_of(rid).kind.split("/")
        group = self._arm.store.load("group", ids.group_key(rid.subscription, rid.group)) if rid.group else None
        return ResourceId(rid.subscription, group["name"] if group else rid.group, namespace, tuple(types), rid.names)

    # Reading

    def find(self, rid: ResourceId) -> Document | None:
        return self.find_key(rid.key)

    def find_key(self, key: str) -> Document | None:
        """The resource as it stands now: an operation whose time is over has had its effect."""
        document = self._arm.store.load("resource", key)
        if document is None or "_operation" not in document:
            return document
        operation = self._arm.operations.find(document["_operation"])
        if operation is None or operation["status"] == "InProgress":
            return document
        return self._arm.store.load("resource", key)

    def require(self, rid: ResourceId) -> Document:
        """Raises ArmError ResourceGroupNotFound, ParentResourceNotFound or ResourceNotFound."""
        self._require_group(rid)
        document = self.find(rid)
        if document is None:
            self._require_parent(rid)
            raise resource_not_found(rid.kind, "/".join(rid.names), rid.group)
        return document

    def below(self, prefix: str, kind: str | None = None) -> list[Document]:
        """Resources whose id lies below ``prefix``, of one kind or of all."""
        wanted = kind.lower() if kind else None
        keys = self._arm.store.keys("resource", prefix.lower().rstrip("/") + "/")
        if wanted is not None:
            last = f"/{wanted.rpartition('/')[2]}/"
            keys = [key for key in keys if last in key]
        found = (self.find_key(key) for key in keys)
        return [each for each in found if each is not None and wanted in {None, str(each["type"]).lower()}]

    def show(self, document: Document) -> Document:
        """What a client sees."""
        rid = ids.parse(str(document["id"]))
        view = self.type_of(rid).show(self._arm, document)
        return {name: value for name, value in view.items() if not name.startswith("_")}

    # Changing

    def put(self, rid: ResourceId, body: Document, how: Provisioning | None = None) -> tuple[Document, Document | None]:
        """Make or replace a resource; returns it and the operation (``None`` when that took no operation)."""
        _check(body)
        rid = self.spelled(rid)
        self._require_group(rid)
        kind = self.type_of(rid)
        before = self.find(rid)
        _refuse_while_busy(before)
        if before is None:
            self._require_parent(rid, make=kind.makes_parent)
        document = kind.prepare(self._arm, rid, self._envelope(kind, rid, body, before), before)
        if how is None:
            how = self._arm.faults.provisioning("PUT", rid.text) if kind.is_slow else Provisioning()
        return self._provision(rid, document, how, "Updating" if before else "Creating", is_slow=kind.is_slow)

    def patch(self, rid: ResourceId, body: Document) -> tuple[Document, Document | None]:
        """Merge into a resource: objects key by key, tags as a whole."""
        _check(body)
        document = self.require(rid)
        _refuse_while_busy(document)
        rid = self.spelled(rid)
        kind = self.type_of(rid)
        changes = {name: body[name] for name in (*_ENVELOPE, "properties") if name in body}
        merged = _merge(document, changes) | ({"tags": body["tags"]} if body.get("tags") is not None else {})
        merged = kind.prepare(self._arm, rid, merged, document)
        merged["systemData"] = self._system_data(document)
        how = self._arm.faults.provisioning("PATCH", rid.text) if kind.is_slow else Provisioning()
        return self._provision(rid, merged, how, "Updating", is_slow=kind.is_slow and how.seconds != 0)

    def save(self, document: Document) -> None:
        """Write a resource as it is."""
        self._arm.store.save("resource", str(document["id"]).lower(), document)

    def delete(self, rid: ResourceId, *, purge: bool = False) -> Document | None:
        """Delete a resource with all that lies below it; the operation, or ``None`` when that was done at once."""
        document = self.require(rid)
        rid = self.spelled(rid)
        kind = self.type_of(rid)
        if not kind.is_slow:
            self._drop(rid, document)
            return None
        document["_purge"] = purge
        how = self._arm.faults.provisioning("DELETE", rid.text)
        return self._provision(rid, document, how, "Deleting", is_slow=True, verb="delete")[1]

    def drop_below(self, prefix: str) -> None:
        """Everything below ``prefix`` is gone at once."""
        for document in self.below(prefix):
            rid = ids.parse(str(document["id"]))
            if len(rid.types) == 1:
                self._drop(rid, document)

    # How

    def _envelope(self, kind: ResourceType, rid: ResourceId, body: Document, before: Document | None) -> Document:
        document: Document = {"id": rid.text, "name": rid.name, "type": kind.kind}
        document |= {name: body[name] for name in _ENVELOPE if body.get(name) is not None}
        document["properties"] = dict(body.get("properties") or {})
        if kind.is_tracked:
            if before is not None:
                document.setdefault("location", before.get("location"))
            if not document.get("location"):
                raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
            document["location"] = str(document["location"]).lower().replace(" ", "")
            if before is not None and before.get("location") != document["location"]:
                raise conflict(
                    f"The resource '{rid.name}' already exists in location '{before.get('location')}' in resource group "
                    f"'{rid.group}'. A resource with the same name cannot be created in location "
                    f"'{document['location']}'.",
                    "InvalidResourceLocation",
                )
            document.setdefault("tags", {})
        document["systemData"] = self._system_data(before)
        return document

    @staticmethod
    def _system_data(before: Document | None) -> Document:
        now = operations.timestamp()
        data = dict((before or {}).get("systemData") or {"createdAt": now, "createdBy": "local"})
        return data | {"createdByType": "Application", "lastModifiedAt": now, "lastModifiedBy": "local"}

    def _provision(
        self,
        rid: ResourceId,
        document: Document,
        how: Provisioning,
        state: Literal["Creating", "Updating", "Deleting"],
        *,
        is_slow: bool,
        verb: str = "put",
    ) -> tuple[Document, Document | None]:
        if not is_slow:
            document["properties"]["provisioningState"] = "Succeeded"
            self.save(document)
            return document, None
        document["properties"]["provisioningState"] = state
        self.save(document)
        operation = self._arm.operations.begin(verb, rid.key, how)
        if operation["status"] == "InProgress":
            document["_operation"] = operation["id"]
            self.save(document)
            return document, operation
        return self._arm.store.load("resource", rid.key) or document, operation

    def _made(self, key: str, succeeded: bool) -> None:
        document = self._arm.store.load("resource", key)
        if document is not None:
            document.pop("_operation", None)
            document["properties"]["provisioningState"] = "Succeeded" if succeeded else "Failed"
            self.save(document)

    def _deleted(self, key: str, succeeded: bool) -> None:
        document = self._arm.store.load("resource", key)
        if document is None:
            return
        if succeeded:
            self._drop(ids.parse(str(document["id"])), document)
        else:
            self._made(key, False)

    def _drop(self, rid: ResourceId, document: Document) -> None:
        children = self.below(rid.key)
        for child in children:
            inner = ids.parse(str(child["id"]))
            self._arm.store.drop("resource", inner.key)
            self.type_of(inner).removed(self._arm, inner, child)
        self._arm.store.drop("resource", rid.key)
        self.type_of(rid).removed(self._arm, rid, document | {"_children": children})

    def _require_group(self, rid: ResourceId) -> None:
        if rid.group and self._arm.store.load("group", ids.group_key(rid.subscription, rid.group)) is None:
            raise group_not_found(rid.group)

    def _require_parent(self, rid: ResourceId, *, make: bool = False) -> None:
        parent = rid.parent
        if parent is None or self.find(parent) is not None:
            return
        if make:
            self.put(parent, {"properties": {}})
            return
        self._require_parent(parent)
        raise ArmError(
            404, "ParentResourceNotFound", f"Failed to perform the operation because '{parent.text}' was not found."
        )


def _check(body: Document) -> None:
    """Raises ArmError unless what is an object in every resource is one here."""
    for name in ("properties", "tags"):
        member(body, name)


def _refuse_while_busy(document: Document | None) -> None:
    if document is not None and "_operation" in document:
        state = document["properties"].get("provisioningState")
        raise conflict(
            f"Another operation is in progress on '{document['id']}' ({state}).", "AnotherOperationInProgress"
        )


def _merge(old: Any, new: Any) -> Any:
    """``new`` over ``old``, objects key by key."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: _merge(old.get(name), value) for name, value in new.items()}}


# Handlers


def _target(request: Request) -> ResourceId:
    return ids.parse(request.path)


def get(arm: Arm, request: Request) -> Answer:
    """``GET``/``HEAD`` of one resource; with an address that ends in a type, the list of that type."""
    path = request.path.strip("/")
    inner = path[path.lower().rindex("/providers/") + len("/providers/") :].split("/")
    if len(inner) % 2 == 0:
        return _list(arm, request)
    if request.method == "HEAD":
        arm.resources.require(_target(request))
        return Answer(204)
    return Answer(200, arm.resources.show(arm.resources.require(_target(request))))


def _list(arm: Arm, request: Request) -> Answer:
    """Those of one type below a parent, or in a group, or in the whole subscription."""
    sample = ids.parse(f"{request.path.rstrip('/')}/-")
    parent = sample.parent
    if parent is not None:
        arm.resources.require(parent)
        prefix = parent.key
    else:
        prefix = f"/subscriptions/{sample.subscription}" + (f"/resourceGroups/{sample.group}" if sample.group else "")
    found = arm.resources.below(prefix, sample.kind)
    return page(request, [arm.resources.show(each) for each in found])


def put(arm: Arm, request: Request) -> Answer:
    rid = _target(request)
    was_there = arm.resources.find(rid) is not None
    document, operation = arm.resources.put(rid, request.json())
    headers = operations.headers(request, operation) if operation is not None else {}
    return Answer(200 if was_there else 201, arm.resources.show(document), headers)


def patch(arm: Arm, request: Request) -> Answer:
    document, operation = arm.resources.patch(_target(request), request.json())
    if operation is None:
        return Answer(200, arm.resources.show(document))
    return Answer(202, None, operations.headers(request, operation, with_location=True))


def delete(arm: Arm, request: Request) -> Answer:
    rid = _target(request)
    purge = request.query.get("forcetopurge", "").lower() == "true"
    if arm.resources.find(rid) is None:
        if purge:
            arm.resources.type_of(rid).purge(arm, rid)
        return Answer(204)
    operation = arm.resources.delete(rid, purge=purge)
    if operation is None:
        return Answer(200)
    return Answer(202, None, operations.headers(request, operation, with_location=True))
