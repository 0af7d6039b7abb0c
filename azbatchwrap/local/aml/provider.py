"""What `Microsoft.MachineLearningServices` offers, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azbatchwrap.local.aml import assets, computes, datastores, endpoints, invocation, runs, workspaces
from azbatchwrap.local.aml.jobs import Jobs
from azbatchwrap.local.aml.names import NAMESPACE, WORKSPACE
from azbatchwrap.local.aml.schedules import Schedules
from azbatchwrap.local.arm.resources import ResourceType

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


def register(arm: Arm) -> None:
    """Hang Azure Machine Learning into the management plane."""
    jobs = Jobs(arm)
    schedules = Schedules(arm, jobs)
    arm.on_start += [jobs.start, schedules.start]
    arm.on_stop += [schedules.stop, jobs.stop]
    arm.register(
        NAMESPACE,
        [
            ResourceType(
                WORKSPACE,
                prepare=workspaces.prepare,
                show=workspaces.show,
                removed=workspaces.removed,
                purge=workspaces.purge,
            ),
            ResourceType(f"{WORKSPACE}/computes", prepare=computes.prepare),
            ResourceType(
                f"{WORKSPACE}/datastores",
                is_slow=False,
                is_tracked=False,
                prepare=datastores.prepare,
                show=datastores.show,
            ),
            ResourceType(f"{WORKSPACE}/batchEndpoints", prepare=endpoints.prepare, show=endpoints.show),
            ResourceType(f"{WORKSPACE}/batchEndpoints/deployments", prepare=endpoints.prepare_deployment),
            *schedules.types(),
            *assets.types(),
            *jobs.types(),
        ],
        [*workspaces.ROUTES, *datastores.ROUTES, *assets.ROUTES, *jobs.routes()],
        [*workspaces.SUBSCRIPTION_ROUTES, *computes.SUBSCRIPTION_ROUTES],
    )
    arm.router.add(workspaces.DISCOVERY)
    arm.router.add([*invocation.routes(jobs), *runs.SERVICE_ROUTES])
