"""Schedules."""

from __future__ import annotations

from azbatchwrap.local.aml.names import WORKSPACE
from azbatchwrap.local.arm.resources import ResourceType


def types() -> list[ResourceType]:
    return [ResourceType(f"{WORKSPACE}/schedules", is_slow=False, is_tracked=False)]
