"""What a workspace rests on: storage account, key vault, Log Analytics, Application Insights, container registry."""

from __future__ import annotations

from typing import ClassVar

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import STORAGE_VERSION, Context
from azbatchwrap.pipelines.place import MANAGED_TAG, MANAGED_VALUE, last_word, normal_location
from azbatchwrap.pipelines.resources.step import ArmStep, deleted_ones, managed_tags, tags_of

VAULT_VERSION = "2023-07-01"
#: Days that logs are kept: the shortest that costs nothing.
LOG_DAYS = 30


class StorageAccount(ArmStep):
    kind = "storage account"
    version = STORAGE_VERSION
    provider = "Microsoft.Storage"
    immutable = frozenset({"location", "kind"})

    def path(self, context: Context) -> str:
        return context.dependent("storageAccount")

    def wanted(self, context: Context) -> Document:
        return {
            "location": context.place.location,
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "tags": managed_tags(context),
            "properties": {
                "allowBlobPublicAccess": False,
                "minimumTlsVersion": "TLS1_2",
                "supportsHttpsTrafficOnly": True,
            },
        }


class KeyVault(ArmStep):
    """A deleted vault keeps its name for weeks: it is looked for before a new one is made."""

    kind = "key vault"
    version = VAULT_VERSION
    provider = "Microsoft.KeyVault"
    immutable = frozenset({"location"})

    def path(self, context: Context) -> str:
        return context.dependent("keyVault")

    def wanted(self, context: Context) -> Document:
        return {
            "location": context.place.location,
            "tags": managed_tags(context),
            "properties": {"sku": {"family": "A", "name": "standard"}},
        }

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        if there is not None:
            kept = {
                name: there["properties"][name]
                for name in ("tenantId", "accessPolicies")
                if name in there["properties"]
            }
            return {**wanted, "properties": {**kept, **wanted["properties"]}}
        group = context.arm.get(f"/subscriptions/{context.settings.subid}", "2022-12-01")
        properties = {**wanted["properties"], "tenantId": group["tenantId"], "accessPolicies": []}
        deleted = self._deleted(context)
        if deleted is not None:
            properties |= self._answer_to_deleted(context, deleted)
        return {**wanted, "properties": properties}

    def note(self, context: Context) -> str:
        if self._deleted(context) is None:
            return ""
        words = {
            "recover": "recovers the deleted vault of this name",
            "purge": "purges the deleted vault of this name first",
        }
        return words.get(context.settings.soft_deleted, "a deleted vault has this name, and soft_deleted is refuse")

    def _answer_to_deleted(self, context: Context, deleted: Document) -> Document:
        choice, name = context.settings.soft_deleted, self.label(context)
        where = normal_location(str(deleted["properties"]["location"]))
        if choice == "purge":
            self._purge(context, deleted)
            return {}
        if choice == "refuse" or where != context.place.location:
            raise ConfigurationError(
                f"a deleted key vault in {where} has the name {name}: set soft_deleted to "
                f"{'purge' if choice == 'recover' else 'recover or purge'}, or choose another workspace name"
            )
        return {"createMode": "recover"}

    def _purge(self, context: Context, deleted: Document) -> None:
        context.arm.post(f"{deleted['id']}/purge", VAULT_VERSION)
        while self._deleted(context) is not None:
            context.arm.sleep(1.0)

    def _deleted(self, context: Context) -> Document | None:
        """The deleted vault of our name, in whatever region."""
        path = f"/subscriptions/{context.settings.subid}/providers/Microsoft.KeyVault/deletedVaults"
        name = self.label(context).lower()
        found = deleted_ones(context, path, VAULT_VERSION)
        return next((each for each in found if str(each["name"]).lower() == name), None)

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        super().remove(context, there)
        deleted = self._deleted(context) if purge else None
        if deleted is not None:
            self._purge(context, deleted)


class LogWorkspace(ArmStep):
    """Read after Application Insights, which says where its logs are."""

    kind = "log analytics"
    wave: ClassVar[int] = 2
    version = "2022-10-01"
    provider = "Microsoft.OperationalInsights"
    immutable = frozenset({"location"})

    def path(self, context: Context) -> str:
        insights = context.found.get("application insights")
        linked = (insights or {}).get("properties", {}).get("WorkspaceResourceId")
        return str(linked) if linked else context.place.log_workspace

    def wanted(self, context: Context) -> Document | None:
        if not is_wanted(context, "applicationInsights"):
            return None
        return {
            "location": context.place.location,
            "tags": managed_tags(context),
            "properties": {"sku": {"name": "PerGB2018"}, "retentionInDays": LOG_DAYS},
        }

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        """``force`` frees the name at once; otherwise it is kept for a recovery of two weeks."""
        context.arm.delete(self.path(context), self.version, **({"force": "true"} if purge else {}))


class Insights(ArmStep):
    """Classic components are retired: one rests on a Log Analytics workspace."""

    kind = "application insights"
    version = "2020-02-02"
    provider = "Microsoft.Insights"
    immutable = frozenset({"location", "kind", "properties.Application_Type"})

    def path(self, context: Context) -> str:
        return context.dependent("applicationInsights")

    def wanted(self, context: Context) -> Document | None:
        if not is_wanted(context, "applicationInsights"):
            return None
        return {
            "location": context.place.location,
            "kind": "web",
            "tags": managed_tags(context),
            "properties": {"Application_Type": "web", "WorkspaceResourceId": LogWorkspace().path(context)},
        }


class Registry(ArmStep):
    """Azure Machine Learning builds images into it, and signs in there as the registry's admin."""

    kind = "container registry"
    version = "2023-07-01"
    provider = "Microsoft.ContainerRegistry"
    immutable = frozenset({"location"})

    def path(self, context: Context) -> str:
        return context.dependent("containerRegistry")

    def wanted(self, context: Context) -> Document | None:
        if not is_wanted(context, "containerRegistry"):
            return None
        return {
            "location": context.place.location,
            "sku": {"name": "Basic"},
            "tags": managed_tags(context),
            "properties": {"adminUserEnabled": True},
        }

    def label(self, context: Context) -> str:
        return last_word(self.path(context))


def needs_registry(context: Context) -> bool:
    """An environment with a conda file is built into an image; one without is the base image as it is."""
    choice = context.settings.container_registry
    return choice == "yes" or (choice == "auto" and context.assets.conda is not None)


def is_wanted(context: Context, name: str) -> bool:
    """A workspace of somebody else's is used with what it has: nothing is made beside it."""
    workspace = context.found.get("workspace")
    if workspace is None or tags_of(workspace).get(MANAGED_TAG) == MANAGED_VALUE:
        return True
    return bool(workspace["properties"].get(name))
