"""Assets with versions: codes, components, environments, models, data."""

from __future__ import annotations

from azbatchwrap.local.aml.names import WORKSPACE
from azbatchwrap.local.arm.resources import ResourceType
from azbatchwrap.local.arm.router import Route

KINDS = ("codes", "components", "environments", "models", "data")


def types() -> list[ResourceType]:
    found = []
    for kind in KINDS:
        found.append(ResourceType(f"{WORKSPACE}/{kind}", is_slow=False, is_tracked=False))
        found.append(ResourceType(f"{WORKSPACE}/{kind}/versions", is_slow=False, is_tracked=False, makes_parent=True))
    return found


ROUTES: list[Route] = []
