"""The schedule: invokes the endpoint, so that it runs what is deployed, or nothing at all."""

from __future__ import annotations

from typing import Any

from azbatchwrap.errors import ServiceError
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.compare import Difference, differences
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.invocation import configured_input
from azbatchwrap.pipelines.place import INPUT, RESULT_STORE
from azbatchwrap.pipelines.resources.components import PipelineComponent
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags

#: Schedules that invoke an endpoint are known to preview versions of the API alone.
SCHEDULE_VERSION = "2024-10-01-preview"
INVOCATION, JOB = "InvokeBatchEndpoint", "CreateJob"
#: How the service says that it does not know the action.
_NOT_OFFERED = 400


class Schedule(ArmStep):
    """Wanted where schedule_frequency is given; one of ours that is no longer wanted is removed.

    ``actions`` are the ways to say it, the better first: what lies there is compared with the one that it is.
    """

    kind = "schedule"
    inside = "workspace"
    version = SCHEDULE_VERSION

    def path(self, context: Context) -> str:
        return context.place.inside("schedules", context.place.schedule)

    def wanted(self, context: Context) -> Document | None:
        settings = context.settings
        if settings.schedule_frequency is None:
            return None
        actions = [_invocation(context)]
        if settings.model is None:
            actions.append(_job(context))
        properties = {
            "displayName": context.place.schedule,
            "isEnabled": True,
            "tags": managed_tags(context),
            "trigger": {
                "triggerType": "Recurrence",
                "frequency": settings.schedule_frequency,
                "interval": settings.schedule_interval,
                "timeZone": "UTC",
            },
        }
        return {"properties": properties, "actions": actions}

    def compare(self, wanted: Document, there: Document) -> tuple[Difference, ...]:
        kind = (there["properties"].get("action") or {}).get("actionType")
        action = next((each for each in wanted["actions"] if each["actionType"] == kind), wanted["actions"][0])
        return differences({"properties": {**wanted["properties"], "action": action}}, there)

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        """Invoke the endpoint where the service offers that, else run the same version of the pipeline."""
        kind = (there["properties"].get("action") or {}).get("actionType") if there else None
        actions = [each for each in wanted["actions"] if each["actionType"] == kind] or wanted["actions"]
        for action in actions[:-1]:
            try:
                return super().write(context, _with(wanted, action), there)
            except ServiceError as error:
                if error.status != _NOT_OFFERED:
                    raise
        return super().write(context, _with(wanted, actions[-1]), there)


def _with(wanted: Document, action: dict[str, Any]) -> Document:
    return {"properties": {**wanted["properties"], "action": action}}


def _invocation(context: Context) -> dict[str, Any]:
    """Results go where the deployment says: the result datastore."""
    return {
        "actionType": INVOCATION,
        "endpointInvocationDefinition": {
            "endpointName": context.place.endpoint,
            "deploymentName": context.settings.deployment_name,
            "properties": {
                "inputData": {INPUT: configured_input(context)},
                "properties": {"experimentName": context.settings.experiment},
            },
        },
    }


def _job(context: Context) -> dict[str, Any]:
    return {
        "actionType": JOB,
        "jobDefinition": {
            "jobType": "Pipeline",
            "displayName": context.place.schedule,
            "experimentName": context.settings.experiment,
            "componentId": PipelineComponent().path(context),
            "inputs": {INPUT: configured_input(context)},
            "settings": {"default_compute": context.settings.batch_compute_name, "default_datastore": RESULT_STORE},
        },
    }
