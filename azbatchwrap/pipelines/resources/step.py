"""What every kind of resource has in common: a desired state that is read, compared, written and removed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from azbatchwrap.errors import AccessDenied, Conflict, NotFound, WaitTimeout
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.compare import Difference, differences
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import MANAGED_TAG, MANAGED_VALUE

#: States of a resource in which the service is at work on it.
BUSY = frozenset(
    {"creating", "updating", "deleting", "accepted", "resolvingdns", "provisioning", "inprogress", "running"}
)
#: How often a write meets an operation of somebody else's before it gives up.
PATIENCE = 5


class Step(ABC):
    """One resource. ``key`` names it in plans; ``needs`` are the keys of what has to be there first."""

    #: What it is, in the words of plans; also the key where there is only one of a kind.
    kind: ClassVar[str]
    #: Properties (dotted paths) that only a new resource can change.
    immutable: ClassVar[frozenset[str]] = frozenset()
    #: 0: read at once; 1: its address depends on the workspace; 2: read with the storage account's key.
    wave: ClassVar[int] = 1
    #: Kind of the resource that it lies in and goes away with.
    inside: ClassVar[str] = "resource group"
    #: It vanishes without a trace with what it lies in, and need not be removed before.
    vanishes: ClassVar[bool] = False

    def __init__(self, name: str = "", needs: tuple[str, ...] = ()) -> None:
        self.name = name
        self.needs = needs

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind

    @abstractmethod
    def wanted(self, context: Context) -> Document | None:
        """What is to be there; ``None``: nothing. Never holds a secret."""

    @abstractmethod
    def read(self, context: Context) -> Document | None:
        """What is there. Only an answer of 404 means nothing is."""

    @abstractmethod
    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        """Make or change it; returns what is there then."""

    @abstractmethod
    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        """Remove it; ``purge``: for good, where the service would keep it for a while."""

    def label(self, context: Context) -> str:
        """The name that the resource has in Azure."""
        return self.name

    def compare(self, wanted: Document, there: Document) -> tuple[Difference, ...]:
        return differences(wanted, there, self.immutable)

    def is_ours(self, there: Document) -> bool:
        return tags_of(there).get(MANAGED_TAG) == MANAGED_VALUE

    def previous(self, context: Context) -> str | None:
        """The version before, of what has versions."""
        return None

    def settle(self, context: Context) -> Document | None:
        """Wait while the service is at work on it; what is there then."""
        return self.read(context)

    def note(self, context: Context) -> str:
        """What a person should know before this is made."""
        return ""


class ArmStep(Step):
    """A resource that ARM documents: ``GET``, ``PUT`` and ``DELETE`` of one address."""

    version: ClassVar[str]
    #: Namespace that has to be registered before the first resource of it is made.
    provider: ClassVar[str] = ""

    @abstractmethod
    def path(self, context: Context) -> str:
        """Its address."""

    def label(self, context: Context) -> str:
        return self.path(context).rpartition("/")[2]

    def read(self, context: Context) -> Document | None:
        return context.arm.find(self.path(context), self.version)

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        """What is sent: what is wanted, and what else has to be said at that moment."""
        return wanted

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        body = with_tags_kept(self.body(context, wanted, there), there)
        for attempt in range(PATIENCE):
            try:
                return context.arm.put(self.path(context), self.version, body)
            except Conflict as error:
                # A run that was killed left an operation behind, or the service is still at work on its own.
                if attempt == PATIENCE - 1 or "inprogress" not in error.code.lower():
                    raise
            self.settle(context)
        raise AssertionError("the last attempt returned or raised")

    def settle(self, context: Context) -> Document | None:
        """Wait while the service is at work on it; what is there then."""
        deadline = time.monotonic() + context.arm.operation_timeout
        there = self.read(context)
        while there is not None and is_busy(there):
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"the service is still at work on the {self.key} ({state_of(there)}): apply again later"
                )
            context.arm.sleep(1.0)
            there = self.read(context)
        return there

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        context.arm.delete(self.path(context), self.version)


def managed_tags(context: Context) -> dict[str, str]:
    """Tags of everything that batchcreate makes."""
    return {**context.settings.tags, MANAGED_TAG: MANAGED_VALUE}


def tags_of(there: Document) -> Mapping[str, str]:
    """Tags lie on the resource, or in its properties where it lies in no region."""
    properties = there.get("properties")
    inner = properties.get("tags") if isinstance(properties, Mapping) else None
    return {**(inner or {}), **(there.get("tags") or {})}


def with_tags_kept(body: Document, there: Document | None) -> Document:
    """Tags that others have put on a resource stay when it is written again."""
    if there is None or "tags" not in body:
        return body
    return {**body, "tags": {**(there.get("tags") or {}), **body["tags"]}}


def state_of(there: Document) -> str:
    properties = there.get("properties")
    return str(properties.get("provisioningState") or "").lower() if isinstance(properties, Mapping) else ""


def is_busy(there: Document) -> bool:
    return state_of(there) in BUSY


def version_before(context: Context, container: str, version: str) -> str | None:
    """The latest version of an asset whose wanted version is not there yet."""
    try:
        found = context.arm.get(container, version)
    except NotFound:
        return None
    return str((found.get("properties") or {}).get("latestVersion") or "an earlier version")


def deleted_ones(context: Context, path: str, version: str) -> list[Document]:
    """What the subscription keeps of deleted resources.

    Who may use one group alone cannot look there, and a provider that is not registered yet keeps nothing: the creation
    itself says then that the name is still taken.
    """
    try:
        return list(context.arm.pages(path, version))
    except (AccessDenied, Conflict, NotFound):
        return []
