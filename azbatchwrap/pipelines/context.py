"""What every step works on: the settings, the local files, the services, and what each step found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from azbatchwrap.config import cloud
from azbatchwrap.pipelines import assets as local_files
from azbatchwrap.pipelines.arm import Arm, Document, OneToken
from azbatchwrap.pipelines.assets import Assets
from azbatchwrap.pipelines.credentials import default_credential
from azbatchwrap.pipelines.place import Place, normal_location
from azbatchwrap.pipelines.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from azbatchwrap.pipelines.blobs import Blobs

STORAGE_VERSION = "2023-05-01"


@dataclass(slots=True)
class Context:
    """``found`` has, by step key, the document of every step that was read (``None``: absent)."""

    settings: Settings
    assets: Assets
    arm: Arm
    found: dict[str, Document | None] = field(default_factory=dict)
    _blobs: Blobs | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def place(self) -> Place:
        return Place(self.settings)

    def dependent(self, name: str) -> str:
        """The address of what the workspace rests on: its own if there is one, else the one that we make."""
        workspace = self.found.get("workspace")
        if workspace is not None:
            given = workspace["properties"].get(name)
            if given:
                return str(given)
        ours = {
            "storageAccount": self.place.storage_account,
            "keyVault": self.place.key_vault,
            "applicationInsights": self.place.insights,
            "containerRegistry": self.place.registry,
        }
        return ours[name]

    @property
    def location(self) -> str:
        """The region of what lies in the workspace: the workspace's own, once there is one."""
        workspace = self.found.get("workspace")
        return normal_location(str(workspace["location"])) if workspace is not None else self.place.location

    def blobs(self) -> Blobs:
        """The workspace's storage account, whose key is asked for once."""
        from azbatchwrap.pipelines.blobs import Blobs

        with self._lock:
            if self._blobs is None:
                self._blobs = Blobs.open(self.arm, self.dependent("storageAccount"), self.found.get("storage account"))
            return self._blobs

    def forget_blobs(self) -> None:
        """The storage account is another one now, with another key."""
        with self._lock:
            blobs, self._blobs = self._blobs, None
        if blobs is not None:
            blobs.close()

    def close(self) -> None:
        self.arm.close()
        self.forget_blobs()


def connect(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    credential: TokenCredential | None = None,
    pause: Callable[[float], object] | None = None,
) -> Context:
    """A context for ``settings``: local files hashed, the cloud found. Nothing is asked of the subscription yet."""
    assets = local_files.read(settings)
    arm = Arm(cloud.find(environment), OneToken(credential or default_credential()))
    arm.pause = pause
    return Context(settings, assets, arm)
