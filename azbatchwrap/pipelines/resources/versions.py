"""Code, environment and model: assets whose version is the hash of their content, so that what changed is a new version."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.assets import content_hash
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import SOURCE_STORE
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags, version_before
from azbatchwrap.pipelines.resources.workspace import ML_VERSION


class VersionStep(ArmStep):
    """A version is never changed: it is there as wanted, or it is not there."""

    version = ML_VERSION
    inside = "workspace"
    vanishes: ClassVar[bool] = True
    #: The collection in the workspace, such as ``codes``.
    collection: ClassVar[str]

    @abstractmethod
    def content(self, context: Context) -> Any:
        """What the version is the hash of."""

    @abstractmethod
    def asset(self, context: Context) -> str:
        """Its name."""

    def asset_version(self, context: Context) -> str:
        return f"h-{content_hash(self.content(context))}"

    def container(self, context: Context) -> str:
        return context.place.inside(self.collection, self.asset(context))

    def path(self, context: Context) -> str:
        return f"{self.container(context)}/versions/{self.asset_version(context)}"

    def label(self, context: Context) -> str:
        return f"{self.asset(context)}:{self.asset_version(context)}"

    def wanted(self, context: Context) -> Document:
        return {"name": self.asset_version(context)}

    def previous(self, context: Context) -> str | None:
        return version_before(context, self.container(context), self.version)

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        """All versions: each was made by an earlier apply."""
        context.arm.delete(self.container(context), self.version)


class Code(VersionStep):
    """The folder of the scoring script, uploaded to where the workspace says."""

    kind = "code"
    collection = "codes"

    def content(self, context: Context) -> Any:
        return dict(context.assets.code.hashes)

    def asset(self, context: Context) -> str:
        return f"{context.settings.pipeline_name}_code"

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        from azure.storage.blob import ContainerClient

        from azbatchwrap.pipelines.blobs import translated

        path = self.path(context)
        asked = {"pendingUploadType": "TemporaryBlobReference"}
        place = context.arm.post(f"{path}/startPendingUpload", self.version, asked)["blobReferenceForConsumption"]
        files = context.assets.code
        with (
            translated(f"upload of {files.root}"),
            ContainerClient.from_container_url(place["credential"]["sasUri"]) as container,
        ):
            for name in files.hashes:
                with files.path(name).open("rb") as stream:
                    container.upload_blob(name, stream, overwrite=True)
        properties = {
            "codeUri": place["blobUri"],
            "properties": {"hash_sha256": files.digest, "hash_version": "202208"},
            "tags": managed_tags(context),
        }
        return context.arm.put(path, self.version, {"properties": properties})


class Environment(VersionStep):
    """The base image, with or without a conda file on top."""

    kind = "environment"
    collection = "environments"

    def content(self, context: Context) -> Any:
        found: dict[str, Any] = {"image": context.settings.image, "osType": "Linux"}
        if context.assets.conda is not None:
            found["condaFile"] = context.assets.conda
        return found

    def asset(self, context: Context) -> str:
        return f"{context.settings.pipeline_name}_environment"

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        return {"properties": {**self.content(context), "tags": managed_tags(context)}}


class Model(VersionStep):
    """Refers to the model's files in the source container."""

    kind = "model"
    collection = "models"

    def content(self, context: Context) -> Any:
        assert context.assets.model is not None
        return dict(context.assets.model.hashes)

    def asset(self, context: Context) -> str:
        return context.settings.pipeline_name

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        assert context.assets.model is not None
        assert context.settings.model is not None
        below = f"models/{context.assets.model.digest}/{context.settings.model.name}"
        uri = f"azureml:/{context.place.inside('datastores', SOURCE_STORE)}/paths/{below}"
        return {"properties": {"modelType": "custom_model", "modelUri": uri, "tags": managed_tags(context)}}
