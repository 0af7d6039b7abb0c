"""What the page shows of the account from memory: pools, nodes, jobs. Times are in milliseconds since 1970."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.auto_users import mixed
from azbatchwrap.local.batch.model import (
    BLOCKED,
    FAILED,
    PREPARING,
    READY,
    RUNNING,
    SUCCEEDED,
    Job,
    Node,
    Pool,
    Run,
)
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.web.query import whole

#: Jobs on one page of the list.
JOBS = 100
#: Nodes on the map, and tasks told for one of them: more can be counted, not looked at.
NODES, RUNS = 1000, 64
#: Failed preparations told for one job.
PREPARATIONS = 20

COUNT_NAMES = {
    READY: "waiting", BLOCKED: "blocked", PREPARING: "preparing", RUNNING: "running", SUCCEEDED: "succeeded",
    FAILED: "failed",
}  # fmt: skip


def milliseconds(ticks: int | None) -> int | None:
    """Ticks of the wire as milliseconds since 1970."""
    return None if ticks is None else (ticks - wire.UNIX_EPOCH) // 10_000


def overview(service: Service) -> dict[str, Any]:
    """The account at a glance. Costs in proportion to nodes and jobs, not to tasks."""
    totals = [sum(column) for column in zip([0] * 6, *(job.counts for job in service.jobs.values()), strict=True)]
    return {
        "account": service.settings.account,
        "time": milliseconds(wire.now()),
        "processes": {"running": service.scheduler.processes, "most": service.settings.max_processes},
        "tasks": _named(totals),
        "jobs": dict(Counter(job.life.state for job in service.jobs.values())),
        "pools": [pool_line(pool) for pool in _by_id(service.pools.values())],
        "isDiskFull": service.store.is_short,
    }


def _by_id(pools: Iterable[Pool]) -> list[Pool]:
    return sorted(pools, key=lambda pool: pool.id.lower())


def _named(counts: list[int]) -> dict[str, int]:
    return {name: counts[index] for index, name in COUNT_NAMES.items()}


def pool_line(pool: Pool) -> dict[str, Any]:
    """A pool in the list."""
    nodes = pool.nodes.values()
    return {
        "id": pool.id,
        "state": pool.life.state,
        "allocation": pool.allocation,
        "size": pool.spec["vmSize"],
        "dedicated": [pool.current(dedicated=True), pool.target(dedicated=True)],
        "spot": [pool.current(dedicated=False), pool.target(dedicated=False)],
        "nodes": dict(Counter(_condition(node) for node in nodes)),
        "slots": [sum(node.used for node in nodes), len(nodes) * pool.slots],
        "autoscale": bool(pool.spec["enableAutoScale"]),
        "errors": len(pool.resize_errors),
    }


def _condition(node: Node) -> str:
    """A node's state; one that takes no tasks by request is ``offline``."""
    return "offline" if node.scheduling != "enabled" and node.state in {"idle", "running"} else node.state


def pool(service: Service, pool_id: str) -> dict[str, Any]:
    """A pool with the map of its nodes. Raises BatchError PoolNotFound."""
    found = service.pool(pool_id)
    spec = found.spec
    jobs = heapq.nlargest(JOBS, service.jobs_of(found), key=lambda job: job.number)
    return {
        **pool_line(found),
        "created": milliseconds(found.life.created),
        "since": milliseconds(found.allocation_since),
        "owner": found.owner,
        "image": spec.get("virtualMachineConfiguration", {}).get("imageReference", {}),
        "slotsPerNode": found.slots,
        "fill": spec["taskSchedulingPolicy"]["nodeFillType"],
        "warning": mixed(found),
        "startTask": spec.get("startTask", {}).get("commandLine"),
        "resizeErrors": found.resize_errors,
        "formula": spec.get("autoScaleFormula"),
        "interval": spec.get("autoScaleEvaluationInterval"),
        "runs": service.autoscaler.runs_of(found),
        "map": [node_cell(node) for node in itertools.islice(found.nodes.values(), NODES)],
        "jobs": [job_line(job) for job in jobs],
    }


def node_cell(node: Node) -> dict[str, Any]:
    """A node on the map, with what runs in its slots."""
    return {
        "id": node.id,
        "state": _condition(node),
        "since": milliseconds(node.since),
        "spot": not node.is_dedicated,
        "used": node.used,
        "runs": [_run(run) for run in itertools.islice(node.runs.values(), RUNS)],
        "done": [node.total_succeeded, node.total_run],
        "errors": node.errors,
        "failure": (node.start_info or {}).get("failureInfo"),
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "job": run.job.id,
        "task": run.row.id,
        "state": {PREPARING: "preparing", RUNNING: "running"}.get(run.state, "placed"),
        "slots": run.row.slots,
    }


def job_line(job: Job) -> dict[str, Any]:
    """A job in the list."""
    return {
        "id": job.id,
        "name": job.spec.get("displayName"),
        "state": job.life.state,
        "pool": job.pool_id,
        "priority": job.priority,
        "counts": _named(job.counts),
        "started": milliseconds(job.started),
        "ended": milliseconds(job.ended),
        "reason": job.reason,
    }


def jobs(service: Service, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of jobs, the newest first; ``after`` is the number that the page before ended with.

    Raises BadQuery.
    """
    after = query.get("after", "")
    below = whole(after, "the cursor") if after else None
    state, text = query.get("state"), query.get("prefix", "").lower()
    chosen = heapq.nlargest(
        JOBS + 1,
        (
            job
            for job in service.jobs.values()
            if (below is None or job.number < below)
            and (not state or job.life.state == state)
            and job.id.lower().startswith(text)
        ),
        key=lambda job: job.number,
    )
    shown = chosen[:JOBS]
    return {
        "jobs": [job_line(job) for job in shown],
        "total": len(service.jobs),
        "next": str(shown[-1].number) if len(chosen) > JOBS else None,
    }


def job(service: Service, job_id: str) -> dict[str, Any]:
    """A job, and why it or its preparation failed. Raises BatchError JobNotFound."""
    found = service.job(job_id)
    home = service.pools.get(found.pool_id.lower())
    preparations = [
        {"node": node.id, "failure": preparation.prepared.get("failureInfo")}
        for node in (home.nodes.values() if home is not None else ())
        if (preparation := node.preparations.get(found.number)) is not None
        and preparation.is_ready is False
        and preparation.prepared is not None
    ]
    return {
        **job_line(found),
        "created": milliseconds(found.life.created),
        "hasPool": home is not None,
        "nodes": len(home.nodes) if home is not None else 0,
        "schedule": found.schedule,
        "schedulingError": found.scheduling_error,
        "whenDone": found.spec["onAllTasksComplete"],
        "limit": found.spec["constraints"]["maxWallClockTime"],
        "retries": found.max_retries,
        "metadata": found.spec.get("metadata", []),
        "preparation": (found.preparation or {}).get("commandLine"),
        "failedPreparations": preparations[:PREPARATIONS],
    }
