"""Files between a task's folder and storage: resource files come in, output files leave, over plain HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from azbatchwrap.local.batch.node.records import Failure


class Transfers:
    """One HTTP session for all nodes. ``auto_storage`` turns a container's name into its URL with a SAS."""

    def __init__(self, *, auto_storage: Callable[[str], str] | None = None) -> None:
        self._auto_storage = auto_storage

    async def start(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def download(self, resource_files: Sequence[Mapping[str, Any]], working: Path) -> None:
        """Bring all ``resourceFiles`` into ``working``. Raises TaskFailure."""
        raise NotImplementedError

    async def upload(
        self, output_files: Sequence[Mapping[str, Any]], folder: Path, environment: Mapping[str, str], *, succeeded: bool
    ) -> Failure | None:
        """Upload what the ``outputFiles`` of a task name, as their conditions say; return the first failure."""
        raise NotImplementedError
