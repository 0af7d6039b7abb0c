"""The framework: work items go to many endpoints, with retries, and each ends in one recorded result.

Implement `WorkItemRequest`, `WorkItemProcessor` and `BatchRequest` (and the others where their defaults do not do),
then call `run`, or `Dispatcher` from a program of your own.
"""

from __future__ import annotations

from azbatchwrap.endpoints import Answer, Endpoint, EndpointSpec, EndpointStatusChecker, in_process

from .client import RunReport, run
from .dispatch import Dispatcher
from .options import Mode, RunOptions, ServerOptions
from .types import (
    BatchConfig,
    BatchRequest,
    BatchRunSummarizer,
    Counts,
    Isolation,
    ItemRecord,
    WorkItemProcessor,
    WorkItemRequest,
    WorkItemResult,
    file_fingerprint,
    file_stats,
    is_retryable,
)

__all__ = [  # noqa: RUF022 (grouped by what a reader looks for)
    # what a consumer implements
    "WorkItemRequest",
    "WorkItemResult",
    "WorkItemProcessor",
    "BatchRequest",
    "BatchConfig",
    "BatchRunSummarizer",
    "EndpointStatusChecker",
    # what it is given
    "Answer",
    "Counts",
    "Endpoint",
    "EndpointSpec",
    "Isolation",
    "ItemRecord",
    # how it is run
    "run",
    "RunOptions",
    "RunReport",
    "ServerOptions",
    "Mode",
    "Dispatcher",
    # what helps to implement it
    "file_fingerprint",
    "file_stats",
    "in_process",
    "is_retryable",
]
