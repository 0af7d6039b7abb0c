"""OData as Azure Batch speaks it: ``$filter`` over entities or as SQL, and ``$select``."""

from __future__ import annotations

from . import properties
from .fields import (
    FILES,
    JOB_SCHEDULES,
    JOBS,
    JOBS_OF_SCHEDULE,
    NODE_AGENTS,
    NODE_COUNTS,
    NODES,
    POOLS,
    PREPARATION_STATUS,
    SUPPORTED_IMAGES,
    TASKS,
    USAGE_METRICS,
    Field,
    Fields,
)
from .filter import Column, Filter, FilterError, parse
from .select import SelectError, check, select
from .syntax import Instant, instant

__all__ = [
    "FILES",
    "JOBS",
    "JOBS_OF_SCHEDULE",
    "JOB_SCHEDULES",
    "NODES",
    "NODE_AGENTS",
    "NODE_COUNTS",
    "POOLS",
    "PREPARATION_STATUS",
    "SUPPORTED_IMAGES",
    "TASKS",
    "USAGE_METRICS",
    "Column",
    "Field",
    "Fields",
    "Filter",
    "FilterError",
    "Instant",
    "SelectError",
    "check",
    "instant",
    "parse",
    "properties",
    "select",
]
