"""Which virtual machine image a pool gets: looked up in what the service supports today, never hard-wired."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from azbatchwrap.errors import PoolError

_UBUNTU = re.compile(r"batch\.node\.ubuntu (\d+)\.04\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """An image reference of the service and the node agent that goes with it."""

    publisher: str
    offer: str
    sku: str
    node_agent: str
    end_of_life: datetime | None = None

    def __str__(self) -> str:
        return f"{self.publisher} {self.offer} {self.sku}"

    @property
    def ubuntu_lts(self) -> int | None:
        """The year of an Ubuntu with long-term support (every second April), else ``None``."""
        match = _UBUNTU.match(self.node_agent)
        year = int(match[1]) if match else 1
        return year if year % 2 == 0 else None

    def wire(self) -> dict[str, Any]:
        """The ``virtualMachineConfiguration`` of a pool."""
        reference = {"publisher": self.publisher, "offer": self.offer, "sku": self.sku, "version": "latest"}
        return {"imageReference": reference, "nodeAgentSKUId": self.node_agent}


def choose(
    supported: Iterable[Mapping[str, Any]],
    publisher: str,
    offer: str,
    sku: str,
    *,
    capabilities: Collection[str] = (),
    now: datetime | None = None,
) -> tuple[Image, str]:
    """The verified image of this publisher and offer whose sku starts with ``sku``; else the newest Ubuntu LTS.

    ``supported`` is the service's own list; only images with all the ``capabilities`` count. The second value says what was replaced and why; it is empty when nothing
    was. Raises PoolError when the service supports no usable Linux image at all.
    """
    today = now or datetime.now(timezone.utc)
    able = (item for item in supported if set(capabilities) <= set(item.get("capabilities") or ()))
    images = [image for image in map(_verified_linux, able) if image is not None]
    living = [image for image in images if image.end_of_life is None or image.end_of_life > today]
    wanted = (publisher.lower(), offer.lower())
    named = [
        image for image in living if (image.publisher, image.offer) == wanted and image.sku.startswith(sku.lower())
    ]
    if named:
        return min(named, key=_plainest), ""
    ubuntu = [image for image in living if image.ubuntu_lts is not None]
    if not ubuntu:
        raise PoolError(
            f"the account supports neither the image {publisher} {offer} {sku} nor any Ubuntu LTS image"
            + (f" that is {', '.join(sorted(capabilities))}" if capabilities else "")
        )
    newest = max(image.ubuntu_lts or 0 for image in ubuntu)
    substitute = min((image for image in ubuntu if image.ubuntu_lts == newest), key=_plainest)
    why = f"is not {', '.join(sorted(capabilities))}" if capabilities else "is not supported (any more)"
    return substitute, f"the image {publisher} {offer} {sku} {why}; {substitute} takes its place"


def _plainest(image: Image) -> tuple[int, str]:
    """Among the skus of one offer the shortest is the plain one: ``server`` before ``server-gen1``, ``-arm64``."""
    return len(image.sku), image.sku


def _verified_linux(item: Mapping[str, Any]) -> Image | None:
    if item.get("osType", "linux").lower() != "linux" or item.get("verificationType", "verified").lower() != "verified":
        return None
    reference = item.get("imageReference") or {}
    ends = item.get("batchSupportEndOfLife")
    return Image(
        str(reference.get("publisher", "")).lower(),
        str(reference.get("offer", "")).lower(),
        str(reference.get("sku", "")).lower(),
        str(item.get("nodeAgentSKUId", "")),
        datetime.fromisoformat(ends.replace("Z", "+00:00")) if ends else None,
    )
