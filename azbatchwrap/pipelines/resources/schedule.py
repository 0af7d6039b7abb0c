"""The schedule: invokes the endpoint (so that it runs what is deployed), or nothing at all."""

from __future__ import annotations

from typing import Any

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.invocation import definition
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags

#: Schedules that invoke an endpoint are known to preview versions of the API alone.
SCHEDULE_VERSION = "2024-10-01-preview"


class Schedule(ArmStep):
    """Wanted where schedule_frequency is given; one of ours that is no longer wanted is removed."""

    kind = "schedule"
    inside = "workspace"
    version = SCHEDULE_VERSION
    #: A schedule's action cannot be exchanged for one of another type.
    immutable = frozenset({"properties.action.actionType"})

    def path(self, context: Context) -> str:
        return context.place.inside("schedules", context.place.schedule)

    def wanted(self, context: Context) -> Document | None:
        settings = context.settings
        if settings.schedule_frequency is None:
            return None
        trigger: dict[str, Any] = {
            "triggerType": "Recurrence",
            "frequency": settings.schedule_frequency,
            "interval": settings.schedule_interval,
            "timeZone": "UTC",
        }
        action = {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": definition(context)}
        return {
            "properties": {
                "displayName": context.place.schedule,
                "isEnabled": True,
                "tags": managed_tags(context),
                "trigger": trigger,
                "action": action,
            }
        }
