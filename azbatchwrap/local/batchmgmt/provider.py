"""What `Microsoft.Batch` offers, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azbatchwrap.local.arm.resources import ResourceType
from azbatchwrap.local.batchmgmt import applications, locations
from azbatchwrap.local.batchmgmt.account import Accounts
from azbatchwrap.local.batchmgmt.applications import Applications
from azbatchwrap.local.batchmgmt.names import ACCOUNT, APPLICATION, NAMESPACE, PACKAGE
from azbatchwrap.local.batchmgmt.pools import Pools
from azbatchwrap.local.batchmgmt.service import BatchService

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


def register(arm: Arm) -> None:
    """Hang Azure Batch into the management plane, if the instance has a Batch service."""
    if arm.settings.batch is None:
        return
    service = BatchService(arm.settings.batch)
    account, packages, pools = Accounts(service), Applications(service, arm.settings.storage), Pools(service)
    arm.register(
        NAMESPACE,
        [
            ResourceType(ACCOUNT, is_slow=False, prepare=account.prepare, show=account.show),
            ResourceType(
                APPLICATION, is_slow=False, is_tracked=False, show=applications.show_application, make=packages.put
            ),
            ResourceType(
                PACKAGE, is_slow=False, is_tracked=False, show=packages.show_package, make=packages.put_package
            ),
            ResourceType(f"{ACCOUNT}/pools", is_slow=False, is_tracked=False, make=pools.put),
        ],
        [*account.routes(), *packages.routes(), *pools.routes()],
        [*locations.ROUTES, ("POST", "/locations/{}/checkNameAvailability", account.name_availability)],
    )

    async def provide() -> None:
        account.provide(arm)

    arm.on_start.append(provide)
