"""Which properties each list may be filtered by, and how.

Source: the reference page of the Batch REST API on OData filters (one table per list operation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: ``id`` and ``enum`` compare without regard to ASCII case, as the service's ids and enum words do.
Kind: TypeAlias = Literal["id", "text", "enum", "time", "number", "boolean"]

EQUALITY: Final = frozenset({"eq", "ne"})
ORDER: Final = EQUALITY | {"ge", "gt", "le", "lt"}


@dataclass(frozen=True, slots=True)
class Field:
    """A property to filter by: the kind of its values and the operators the service documents for it."""

    kind: Kind
    operators: frozenset[str]


@dataclass(frozen=True, eq=False)
class Fields:
    """The properties of one list. Compared and hashed by identity: parsed filters are cached per list."""

    by_path: Mapping[str, Field]


ID: Final = Field("id", ORDER | {"startswith"})
SAME_ID: Final = Field("id", EQUALITY)
STATE: Final = Field("enum", EQUALITY)
TIME: Final = Field("time", ORDER)
NUMBER: Final = Field("number", ORDER)
FLAG: Final = Field("boolean", EQUALITY)
WORD: Final = Field("enum", EQUALITY)
FILE_NAME: Final = Field("text", frozenset({"startswith"}))


def _execution(prefix: str) -> dict[str, Field]:
    return {
        f"{prefix}/state": STATE,
        f"{prefix}/result": WORD,
        f"{prefix}/exitCode": NUMBER,
        f"{prefix}/startTime": TIME,
        f"{prefix}/endTime": TIME,
    }


_LIFE: Final = {"state": STATE, "stateTransitionTime": TIME, "creationTime": TIME, "lastModified": TIME}
_JOB: Final = {
    **_LIFE,
    "executionInfo/startTime": TIME,
    "executionInfo/endTime": TIME,
    "executionInfo/poolId": ID,
}

POOLS: Final = Fields(
    {
        "id": ID,
        **_LIFE,
        "allocationState": STATE,
        "allocationStateTransitionTime": TIME,
        "enableAutoScale": FLAG,
        "enableInterNodeCommunication": FLAG,
        "vmSize": WORD,
    }
)
JOBS: Final = Fields({"id": ID, **_JOB})
#: The documentation names no ``id`` here, clients send it all the same.
JOBS_OF_SCHEDULE: Final = Fields({"id": ID, **_JOB})
JOB_SCHEDULES: Final = Fields(
    {
        "id": ID,
        **_LIFE,
        "executionInfo/endTime": TIME,
        "schedule/doNotRunUntil": TIME,
        "schedule/doNotRunAfter": TIME,
    }
)
TASKS: Final = Fields(
    {
        "id": ID,
        **_LIFE,
        "executionInfo/startTime": TIME,
        "executionInfo/endTime": TIME,
        "executionInfo/exitCode": NUMBER,
        "executionInfo/result": WORD,
    }
)
NODES: Final = Fields(
    {
        "id": ID,
        "state": STATE,
        "stateTransitionTime": TIME,
        "lastBootTime": TIME,
        "allocationTime": TIME,
        **_execution("startTaskInfo"),
    }
)
NODE_COUNTS: Final = Fields({"poolId": SAME_ID})
FILES: Final = Fields({"name": FILE_NAME})
SUPPORTED_IMAGES: Final = Fields({"osType": WORD, "verificationType": WORD, "nodeAgentSKUId": WORD})
NODE_AGENTS: Final = Fields({"osType": WORD})
PREPARATION_STATUS: Final = Fields(
    {
        "poolId": SAME_ID,
        "nodeId": SAME_ID,
        **_execution("jobPreparationTaskExecutionInfo"),
        **_execution("jobReleaseTaskExecutionInfo"),
    }
)
USAGE_METRICS: Final = Fields({"poolId": ID})
