"""Takes samples of autoscaled pools, runs their formulas when the interval comes round, and acts on the results."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.allocation import begin_resize
from azbatchwrap.local.batch.autoscale import (
    SAMPLE_PERIOD,
    AutoscaleError,
    Evaluation,
    PoolNow,
    SampleHistory,
    evaluate,
)
from azbatchwrap.local.batch.model import FAILED, PREPARING, READY, RUNNING, SUCCEEDED, Pool

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)

#: Runs of a formula that the page shows; the API knows the last one alone.
KEPT_RUNS = 20


class Autoscaler:
    """Timers and samples of the pools that have autoscaling on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._histories: dict[str, SampleHistory] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._runs: dict[str, deque[dict[str, Any]]] = {}

    def watch(self, pool: Pool) -> None:
        """Begin with a pool: evaluate at once, and then whenever its interval comes round."""
        if pool.spec["enableAutoScale"]:
            self._histories.setdefault(pool.id, SampleHistory())
            self._sample(pool)
            self._service.loop.call_soon(self._round, pool)

    def forget(self, pool: Pool) -> None:
        """Autoscaling is off, or the pool is gone."""
        self._histories.pop(pool.id, None)
        self._runs.pop(pool.id, None)
        if (timer := self._timers.pop(pool.id, None)) is not None:
            timer.cancel()

    def runs_of(self, pool: Pool) -> list[dict[str, Any]]:
        """The last runs of the pool's formula, the newest first; the very last one even from before a restart."""
        return list(self._runs.get(pool.id, ())) or ([pool.autoscale_run] if pool.autoscale_run else [])

    async def sample_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_PERIOD.total_seconds())
            for pool in self._service.pools.values():
                if pool.id in self._histories:
                    self._sample(pool)

    def _sample(self, pool: Pool) -> None:
        self._histories[pool.id].record(self._measure(pool), datetime.now(timezone.utc))

    def _measure(self, pool: Pool) -> dict[str, float]:
        """The metrics' values now. Loads of the nodes' machines are not simulated and count as 0."""
        totals = [0] * 6
        for job in self._service.jobs_of(pool):
            if job.life.state != "deleting":
                totals = [total + count for total, count in zip(totals, job.counts, strict=True)]
        nodes = list(pool.nodes.values())
        running = totals[PREPARING] + totals[RUNNING]
        return {
            "$ActiveTasks": totals[READY],
            "$RunningTasks": running,
            "$PendingTasks": totals[READY] + running,
            "$SucceededTasks": totals[SUCCEEDED],
            "$FailedTasks": totals[FAILED],
            "$SampleNodeCount": len(nodes),
            "$TaskSlotsPerNode": pool.slots,
            "$CurrentDedicatedNodes": pool.current(dedicated=True),
            "$CurrentLowPriorityNodes": pool.current(dedicated=False),
            "$UsableNodeCount": sum(1 for node in nodes if node.state in {"idle", "running"}),
            "$PreemptedNodeCount": sum(1 for node in nodes if node.state == "preempted"),
        }

    def try_out(self, pool: Pool, formula: str) -> Evaluation:
        """What the formula comes to now; changes nothing. Raises AutoscaleError."""
        history = self._histories.get(pool.id) or SampleHistory()
        targets = pool.target(dedicated=True), pool.target(dedicated=False)
        return evaluate(formula, history, datetime.now(timezone.utc), PoolNow(*targets, self._measure(pool)))

    def _round(self, pool: Pool) -> None:
        """One evaluation, its consequences, and the timer of the next."""
        if pool.id not in self._histories or pool.life.state != "active" or self._service.is_stopping:
            return
        if pool.allocation == "steady":
            self._run(pool)
            self._runs.setdefault(pool.id, deque(maxlen=KEPT_RUNS)).appendleft(pool.autoscale_run or {})
        interval = wire.parse_duration(pool.spec["autoScaleEvaluationInterval"]) / wire.TICKS_PER_SECOND
        delay = interval if pool.autoscale_run is not None else 1.0
        if (timer := self._timers.pop(pool.id, None)) is not None:
            timer.cancel()
        self._timers[pool.id] = self._service.loop.call_later(delay, self._round, pool)

    def _run(self, pool: Pool) -> None:
        stamp = wire.format_ticks(wire.now())
        try:
            found = self.try_out(pool, pool.spec["autoScaleFormula"])
        except AutoscaleError as error:
            log.warning("autoscale formula of pool %s: %s", pool.id, error)
            pool.autoscale_run = {"timestamp": stamp, "results": error.results, "error": described(error)}
            self._service.save_pool(pool)
            return
        pool.autoscale_run = {"timestamp": stamp, "results": found.results}
        targets = {"targetDedicatedNodes": found.dedicated, "targetLowPriorityNodes": found.low_priority}
        if any(pool.spec[name] != value for name, value in targets.items()):
            pool.spec = {**pool.spec, **targets}
            pool.life.touch()
            begin_resize(self._service, pool, found.deallocation_option)
        self._service.save_pool(pool)


def described(error: AutoscaleError) -> dict[str, Any]:
    """The error object of a run."""
    values = [{"name": name, "value": value} for name, value in error.values]
    return {"code": error.code, "message": error.message, "values": values}
