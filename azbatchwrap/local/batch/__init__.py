"""The Azure Batch data plane on this machine."""

from __future__ import annotations
