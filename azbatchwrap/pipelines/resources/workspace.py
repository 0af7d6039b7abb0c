"""The Azure Machine Learning workspace. A deleted one keeps its name: it is looked for before a new one is made."""

from __future__ import annotations

from typing import ClassVar

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.dependents import needs_registry
from azbatchwrap.pipelines.resources.step import ArmStep, deleted_ones, managed_tags

ML_VERSION = "2024-10-01"


class Workspace(ArmStep):
    """Made by a PUT of its own, with the ids of dependents that exist already: nothing of it is named at random."""

    kind = "workspace"
    version = ML_VERSION
    provider = "Microsoft.MachineLearningServices"
    wave: ClassVar[int] = 0
    immutable = frozenset({"location", "properties.storageAccount", "properties.keyVault"})

    def path(self, context: Context) -> str:
        return context.place.workspace

    def wanted(self, context: Context) -> Document:
        place = context.place
        properties = {name: context.dependent(name) for name in ("storageAccount", "keyVault", "applicationInsights")}
        if needs_registry(context):
            properties["containerRegistry"] = context.dependent("containerRegistry")
        return {
            "location": place.location,
            "identity": {"type": "SystemAssigned"},
            "tags": managed_tags(context),
            "properties": properties,
        }

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        if there is not None:
            kept = ("friendlyName", "description", "containerRegistry", "publicNetworkAccess", "hbiWorkspace")
            known = {name: there["properties"][name] for name in kept if there["properties"].get(name) is not None}
            return {**wanted, "properties": {**known, **wanted["properties"]}}
        extra: Document = {"friendlyName": context.settings.workspace}
        if self._deleted(context):
            extra |= self._answer_to_deleted(context)
        return {**wanted, "properties": {**wanted["properties"], **extra}}

    def note(self, context: Context) -> str:
        if not self._deleted(context):
            return ""
        words = {
            "recover": "recovers the deleted workspace of this name",
            "purge": "purges the deleted workspace of this name first",
        }
        return words.get(context.settings.soft_deleted, "a deleted workspace has this name, and soft_deleted is refuse")

    def _answer_to_deleted(self, context: Context) -> Document:
        choice = context.settings.soft_deleted
        if choice == "recover":
            return {"allowRecoverSoftDeletedWorkspace": True}
        if choice == "refuse":
            raise ConfigurationError(
                f"a deleted workspace has the name {context.settings.workspace}: set soft_deleted to recover or purge, "
                f"or choose another name"
            )
        context.arm.delete(self.path(context), self.version, forceToPurge="true")
        return {}

    def _deleted(self, context: Context) -> bool:
        path = f"/subscriptions/{context.settings.subid}/providers/Microsoft.MachineLearningServices/deletedWorkspaces"
        found = deleted_ones(context, path, self.version)
        return any(_place_of(each) == self.path(context).lower() for each in found)

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        context.arm.delete(self.path(context), self.version, **({"forceToPurge": "true"} if purge else {}))


def _place_of(deleted: Document) -> str:
    """Where a deleted workspace was."""
    properties = deleted.get("properties") or {}
    return str(properties.get("workspaceArmId") or deleted.get("id") or "").lower()
