"""The client side of Azure Batch: pools, jobs, tasks, results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .manager import AzureBatch, CleanUp
    from .node_setup import NodeSetup, Registry
    from .results import ErrorInfo, StepResult, TaskResult

__all__ = ["AzureBatch", "CleanUp", "ErrorInfo", "NodeSetup", "Registry", "StepResult", "TaskResult"]

_HOMES = {"AzureBatch": "manager", "CleanUp": "manager", "NodeSetup": "node_setup", "Registry": "node_setup"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES.get(name, 'results')}", __name__), name)
