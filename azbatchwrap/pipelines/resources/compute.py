"""The compute cluster (AmlCompute)."""

from __future__ import annotations

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags
from azbatchwrap.pipelines.resources.workspace import ML_VERSION


class Compute(ArmStep):
    """Written whole by a PUT: the SDK's second create of a cluster with public addresses dies of its empty network."""

    kind = "compute"
    inside = "workspace"
    version = ML_VERSION
    immutable = frozenset({"location", "properties.properties.vmSize", "properties.properties.vmPriority"})

    def path(self, context: Context) -> str:
        return context.place.inside("computes", context.settings.batch_compute_name)

    def wanted(self, context: Context) -> Document:
        settings = context.settings
        return {
            "location": context.location,
            "tags": managed_tags(context),
            "properties": {
                "computeType": "AmlCompute",
                "properties": {
                    "vmSize": settings.batch_vm_size,
                    "vmPriority": settings.batch_vm_priority,
                    "scaleSettings": {
                        "minNodeCount": settings.batch_vm_min,
                        "maxNodeCount": settings.batch_vm_max,
                        "nodeIdleTimeBeforeScaleDown": f"PT{settings.batch_vm_idle}S",
                    },
                },
            },
        }

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        """What can be set only once is said again as it is, so that a PUT of the rest does not reset it."""
        if there is None:
            return wanted
        once = (
            "subnet",
            "enableNodePublicIp",
            "isolatedNetwork",
            "osType",
            "userAccountCredentials",
            "remoteLoginPortPublicAccess",
        )
        inner = there["properties"].get("properties") or {}
        kept = {name: inner[name] for name in once if inner.get(name) is not None}
        properties = {**wanted["properties"], "properties": {**kept, **wanted["properties"]["properties"]}}
        body = {**wanted, "properties": properties}
        return {**body, "identity": there["identity"]} if there.get("identity") else body
