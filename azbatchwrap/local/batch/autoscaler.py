"""Evaluates the formulas of autoscaled pools when their interval comes round."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azbatchwrap.local.batch.model import Pool
    from azbatchwrap.local.batch.service import Service


class Autoscaler:
    def __init__(self, service: Service) -> None:
        self._service = service

    def watch(self, pool: Pool) -> None:
        """Evaluate now and then whenever the interval comes round."""
