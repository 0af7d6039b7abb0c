"""The batch endpoint, its deployment, and which deployment is the default."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from azbatchwrap.errors import ServiceError
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import RESULT_STORE
from azbatchwrap.pipelines.resources.components import PipelineComponent
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags
from azbatchwrap.pipelines.resources.versions import Code, Environment, Model
from azbatchwrap.pipelines.resources.workspace import ML_VERSION

#: Deployments of pipeline components are known to preview versions of the API alone.
DEPLOYMENT_VERSION = "2024-10-01-preview"
#: What the scoring of a model is called, and how its results are named.
PREDICTIONS = "predictions.csv"


class Endpoint(ArmStep):
    kind = "endpoint"
    inside = "workspace"
    version = ML_VERSION
    immutable = frozenset({"location", "properties.authMode"})

    def path(self, context: Context) -> str:
        return context.place.inside("batchEndpoints", context.place.endpoint)

    def wanted(self, context: Context) -> Document:
        return {
            "location": context.location,
            "tags": managed_tags(context),
            "properties": {"authMode": "AADToken", "description": "made by batchcreate"},
        }

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        body = {**wanted, "identity": {"type": "SystemAssigned"}}
        if there is None:
            return body
        # A PUT without the default deployment would take it away.
        defaults = {"defaults": there["properties"].get("defaults") or {}}
        return {**body, "properties": {**wanted["properties"], **defaults}}


class _Deployment(ArmStep):
    kind = "deployment"
    inside = "endpoint"
    version = DEPLOYMENT_VERSION

    def path(self, context: Context) -> str:
        return f"{Endpoint().path(context)}/deployments/{context.settings.deployment_name}"

    def wanted(self, context: Context) -> Document:
        return {
            "location": context.location,
            "tags": managed_tags(context),
            "properties": self.properties(context),
        }

    @abstractmethod
    def properties(self, context: Context) -> dict[str, Any]:
        """What is deployed, and how it runs."""


class PipelineDeployment(_Deployment):
    """Runs the pipeline component of exactly this version."""

    def properties(self, context: Context) -> dict[str, Any]:
        return {
            "deploymentConfiguration": {
                "deploymentConfigurationType": "PipelineComponent",
                "componentId": {"referenceType": "Id", "assetId": PipelineComponent().path(context)},
                "settings": {
                    "default_compute": context.settings.batch_compute_name,
                    "default_datastore": RESULT_STORE,
                    "continue_on_step_failure": "False",
                },
            }
        }


class ModelDeployment(_Deployment):
    """Gives the scoring script's run() the data in mini-batches, on every machine of the cluster."""

    def properties(self, context: Context) -> dict[str, Any]:
        settings = context.settings
        return {
            "compute": context.place.inside("computes", settings.batch_compute_name),
            "model": {"referenceType": "Id", "assetId": Model().path(context)},
            "environmentId": Environment().path(context),
            "codeConfiguration": {"codeId": Code().path(context), "scoringScript": settings.score_script.name},
            "resources": {"instanceCount": max(1, settings.batch_vm_max)},
            "miniBatchSize": settings.mini_batch_size,
            "maxConcurrencyPerInstance": 1,
            # The first file that cannot be scored fails the job: half a result is none.
            "errorThreshold": 0,
            "retrySettings": {"maxRetries": 3, "timeout": "PT300S"},
            "outputAction": "AppendRow",
            "outputFileName": PREDICTIONS,
            "loggingLevel": "Info",
        }


class DefaultDeployment(ArmStep):
    """The deployment that an invocation without a name gets: written, then read back, since it may be dropped."""

    kind = "default deployment"
    inside = "endpoint"
    version = ML_VERSION

    def path(self, context: Context) -> str:
        return Endpoint().path(context)

    def label(self, context: Context) -> str:
        return f"{context.place.endpoint} -> {context.settings.deployment_name}"

    def wanted(self, context: Context) -> Document:
        return {"properties": {"defaults": {"deploymentName": context.settings.deployment_name}}}

    def read(self, context: Context) -> Document | None:
        """A property of the endpoint, which was read already."""
        endpoint = context.found.get("endpoint")
        if endpoint is None or not (endpoint["properties"].get("defaults") or {}).get("deploymentName"):
            return None
        return endpoint

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        endpoint = Endpoint()
        now = endpoint.settle(context)
        if now is None:
            raise ServiceError(f"the endpoint {context.place.endpoint} was removed in the meantime: apply again")
        body = endpoint.body(context, endpoint.wanted(context), now)
        body["properties"] = {**body["properties"], **wanted["properties"]}
        body["tags"] = {**(now.get("tags") or {}), **body["tags"]}
        context.arm.put(self.path(context), self.version, body)
        after = context.arm.get(self.path(context), self.version)
        chosen = (after["properties"].get("defaults") or {}).get("deploymentName")
        if chosen != context.settings.deployment_name:
            raise ServiceError(
                f"the service took {context.settings.deployment_name} as the default deployment of "
                f"{context.place.endpoint} without an error, and shows {chosen!r}: apply again",
                code="DefaultDeploymentNotSet",
            )
        return after

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        """A deployment that is the default cannot be removed."""
        endpoint = Endpoint()
        body = endpoint.body(context, endpoint.wanted(context), there)
        body["properties"] = {**body["properties"], "defaults": {"deploymentName": None}}
        body["tags"] = {**(there.get("tags") or {}), **body["tags"]}
        context.arm.put(self.path(context), self.version, body)
