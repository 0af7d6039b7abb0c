"""Durable queues behind one interface, opened by URL."""

from __future__ import annotations

from azbatchwrap.queues.interface import Parse, Policy, Queue
from azbatchwrap.queues.records import (
    Cancelled,
    Claim,
    Code,
    DeadLetter,
    Held,
    Item,
    Page,
    Put,
    Reaped,
    Refused,
    Result,
    Retry,
    Stats,
    refused_id,
)
from azbatchwrap.queues.urls import queue_from_url

__all__ = [
    "Cancelled",
    "Claim",
    "Code",
    "DeadLetter",
    "Held",
    "Item",
    "Page",
    "Parse",
    "Policy",
    "Put",
    "Queue",
    "Reaped",
    "Refused",
    "Result",
    "Retry",
    "Stats",
    "queue_from_url",
    "refused_id",
]
