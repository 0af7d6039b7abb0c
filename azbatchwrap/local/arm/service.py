"""The management plane as a whole: its state, its settings, and what the providers of namespaces have hung into it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError

from azbatchwrap.local.arm import groups, operations, resources, signin
from azbatchwrap.local.arm.blobs import Blobs
from azbatchwrap.local.arm.faults import Faults
from azbatchwrap.local.arm.journal import Journal
from azbatchwrap.local.arm.operations import Operations
from azbatchwrap.local.arm.resources import Resources, ResourceType
from azbatchwrap.local.arm.router import Route, Router
from azbatchwrap.local.arm.store import Store
from azbatchwrap.local.arm.tokens import Tokens

log = logging.getLogger(__name__)

#: The scope of everything in a resource group.
GROUP = "/subscriptions/{}/resourceGroups/{}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's configuration file."""

    data_dir: Path
    #: What users of the instance sign in with.
    client_secret: str = field(repr=False)
    #: Connection string of the one account behind every storage account that is made here.
    storage: str = field(repr=False)
    #: Where the certificate lies (default: in ``data_dir``).
    certificates: Path | None = None
    port: int = 0
    #: Faults in force from the start, in place of those of the last run (``None``: those stay).
    faults: tuple[dict[str, Any], ...] | None = None
    #: Jobs' processes at a time.
    max_processes: int = 2
    #: The instance's Batch service (account, key, url, tls_port), whose management side is here.
    batch: dict[str, Any] | None = field(default=None, repr=False)


class Arm:
    """Handlers work on it from the event loop's thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.data_dir / "state.sqlite3")
        self.tokens = Tokens(settings.client_secret)
        self.faults = Faults(self.store)
        self.operations = Operations(self.store)
        self.operations.effects["delete-group"] = lambda key, succeeded: groups.dropped(self, key, succeeded)
        self.resources = Resources(self)
        self.router = Router()
        self.journal = Journal()
        self.blobs = Blobs(settings.storage)
        self._sweeping = asyncio.Lock()
        self.namespaces: dict[str, str] = {}
        self.on_start: list[Callable[[], Awaitable[None]]] = []
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self.router.add(signin.ROUTES)
        self.router.add(groups.ROUTES)
        self.router.add(
            [
                ("GET", "/subscriptions/{}/providers/{}/locations/{}/operationStatuses/{}", operations.status),
                ("GET", "/subscriptions/{}/providers/{}/locations/{}/operationResults/{}", operations.result),
            ]
        )
        self.router.add(_any_resource("/subscriptions/{}/resourceGroups/{}/providers/{*}"))
        self.router.add(_any_resource("/subscriptions/{}/providers/{*}"))
        if settings.faults is not None:
            self.faults.replace(settings.faults)
        self.store.commit()

    @property
    def url(self) -> str:
        """Our address, as in the certificate."""
        return f"https://127.0.0.1:{self.settings.port}"

    def register(
        self,
        namespace: str,
        types: Iterable[ResourceType] = (),
        group_routes: Iterable[Route] = (),
        subscription_routes: Iterable[Route] = (),
    ) -> None:
        """Hang a provider in. Its resources can then be found, made, changed, listed and deleted as their types say.

        Routes are for what else it offers (actions, other lists); addresses count from the namespace on
        (``/workspaces/{}/listKeys``), and their names begin with the subscription and the group.
        """
        self.namespaces[namespace.lower()] = namespace
        for kind in types:
            self.resources.add_type(kind)
        self.router.add(group_routes, f"{GROUP}/providers/{namespace}")
        self.router.add(subscription_routes, f"/subscriptions/{{}}/providers/{namespace}")

    async def sweep(self) -> None:
        """Remove the containers of storage accounts that are gone, and make those that a workspace starts with.

        An answer waits for it: a new account is empty. What cannot be done now is tried again with the next request.
        """
        await self._settle("doomed-container", self.blobs.remove)
        await self._settle("wanted-container", self.blobs.ensure)

    async def _settle(self, kind: str, change: Callable[[str], object]) -> None:
        if not any(self.store.below(kind, "")):
            return
        async with self._sweeping:
            for container, _ in list(self.store.below(kind, "")):
                try:
                    await asyncio.to_thread(change, container)
                except AzureError as error:
                    log.warning("the %s %s cannot be dealt with: %s", kind, container, error)
                    return
                self.store.drop(kind, container)
                self.store.commit()

    async def start(self) -> None:
        await self.sweep()
        for step in self.on_start:
            await step()

    async def stop(self) -> None:
        for step in self.on_stop:
            await step()
        self.store.close()


def _any_resource(address: str) -> list[Route]:
    return [
        ("GET HEAD", address, resources.get),
        ("PUT", address, resources.put),
        ("PATCH", address, resources.patch),
        ("DELETE", address, resources.delete),
    ]
