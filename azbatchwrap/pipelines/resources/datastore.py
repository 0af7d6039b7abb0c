"""Datastores: the workspace's names for the two containers (the data references of the first batchcreate)."""

from __future__ import annotations

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import last_word
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags
from azbatchwrap.pipelines.resources.workspace import ML_VERSION


class Datastore(ArmStep):
    """The account's key is added when it is written, and never part of what is compared, shown or logged."""

    kind = "datastore"
    inside = "workspace"
    version = ML_VERSION
    immutable = frozenset({"properties.accountName", "properties.containerName"})

    def __init__(self, name: str, container: str, needs: tuple[str, ...]) -> None:
        super().__init__(name, needs)
        self.container = container

    def path(self, context: Context) -> str:
        return context.place.inside("datastores", self.name)

    def wanted(self, context: Context) -> Document:
        return {
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": last_word(context.dependent("storageAccount")),
                "containerName": self.container,
                "endpoint": context.arm.cloud.storage_suffix,
                "protocol": "https",
                "tags": managed_tags(context),
            }
        }

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        secrets = {"secretsType": "AccountKey", "key": context.blobs().key.reveal()}
        credentials = {"credentialsType": "AccountKey", "secrets": secrets}
        return {"properties": {**wanted["properties"], "credentials": credentials}}
