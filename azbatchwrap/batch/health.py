"""Whether a pool can still run a job's tasks: what waiting has to know about nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from azbatchwrap.errors import (
    Conflict,
    NodeUnusable,
    NoEligibleNode,
    PoolError,
    ResizeFailed,
    StartTaskFailed,
    WaitTimeout,
)
from azbatchwrap.progress import Progress

from .patience import DEFAULT_PATIENCE
from .service import Json, Service, at

#: States (in lower case) of a node that runs tasks now or will in a while. A pre-empted one is brought back by Azure.
WORKING = frozenset({
    "idle", "running", "creating", "starting", "waitingforstarttask", "rebooting", "reimaging", "upgradingos", "preempted",
})  # fmt: skip
READY = frozenset({"idle", "running"})
LOST = frozenset({"unusable", "unknown", "offline"})
#: Seconds that nodes may be lost before that counts: Azure often gets them back within a minute.
LOST_PATIENCE = 60.0
#: What to do about an error of a resize.
_WAYS_OUT = {
    "AccountCoreQuotaReached": (
        "The account has as many cores as it may: empty idle pools (`azbatchwrap pool list`), ask for fewer nodes or smaller "
        "ones, or ask Azure for a higher quota. `azbatchwrap config check` shows what is in use."
    ),
    "AllocationFailed": "Azure has no such machines in the region now: wait longer (patience=), or take another VM size.",
    "AllocationTimedout": "Azure found no machines in time: wait longer (patience=), or take another VM size.",
}
#: Bytes of a failed command's stderr that an error carries.
STDERR_END = 4096

_POOL_FIELDS = (
    "id", "state", "allocationState", "resizeErrors", "enableAutoScale", "currentDedicatedNodes",
    "targetDedicatedNodes", "currentLowPriorityNodes", "targetLowPriorityNodes",
)  # fmt: skip
_NODE_FIELDS = ("id", "state", "schedulingState", "startTaskInfo", "errors")


@dataclass(slots=True)
class Health:
    """Looks at a pool (and a job's preparation on it) each time `check` is called.

    ``patience`` is how many seconds a pool may have no node because Azure has none, or a quota is reached.
    ``clock`` gives seconds and is a parameter so that tests need not wait for `LOST_PATIENCE`.
    """

    service: Service
    pool_id: str
    job_id: str | None = None
    patience: float = DEFAULT_PATIENCE
    clock: Callable[[], float] = time.monotonic
    _lost_since: float | None = None
    _short_since: float | None = None
    _noted: set[str] = field(default_factory=set)

    def check(self) -> list[str]:
        """What is worth saying since the last look. Raises a `PoolError` when no node can run work and none is coming."""
        pool = self.service.find(at("pools", self.pool_id), select=_POOL_FIELDS)
        if pool is None or pool.get("state") == "deleting":
            raise NoEligibleNode(f"pool {self.pool_id} does not exist (any more)", pool_id=self.pool_id)
        nodes = list(self.service.list(at("pools", self.pool_id, "nodes"), select=_NODE_FIELDS))
        barred = self._failed_preparations() if self.job_id else {}
        usable = [node for node in nodes if _works(node) and node["id"] not in barred]
        settled = pool.get("allocationState", "steady") == "steady"
        if usable:
            self._lost_since = self._short_since = None
        elif settled and pool.get("resizeErrors") and not nodes:
            self._wait_for_room(pool)
        elif settled and not pool.get("enableAutoScale", False):
            self._give_up(pool, nodes, barred)
        return self._news(pool, nodes, barred)

    def wait_until_ready(
        self, interval: float, timeout: float | None, progress: Progress, sleep: Callable[[float], None] = time.sleep
    ) -> int:
        """Wait until the nodes asked for could start a task, or all that came; how many could.

        Raises a `PoolError` as `check`, WaitTimeout after ``timeout`` seconds.
        """
        deadline = None if timeout is None else self.clock() + timeout
        progress.start("nodes", f"pool {self.pool_id}", unit="nodes")
        while True:
            for line in self.check():
                progress.message(line)
            ready, wanted, settled = self._ready()
            progress.update("nodes", ready, wanted)
            if settled:
                progress.finish("nodes")
                return ready
            if deadline is not None and self.clock() >= deadline:
                raise WaitTimeout(f"pool {self.pool_id}: {ready} of {wanted} nodes are ready after {timeout:g} s")
            sleep(interval)

    def _ready(self) -> tuple[int, int, bool]:
        """Nodes that could start a task now, nodes asked for, and whether no more will become ready."""
        pool = self.service.get(at("pools", self.pool_id), select=_POOL_FIELDS)
        states = [
            _state(node) for node in self.service.list(at("pools", self.pool_id, "nodes"), select=("id", "state"))
        ]
        ready = sum(state in READY for state in states)
        wanted = pool.get("targetDedicatedNodes", 0) + pool.get("targetLowPriorityNodes", 0)
        coming = pool.get("allocationState", "steady") != "steady" or any(state in WORKING - READY for state in states)
        return ready, wanted, ready >= wanted or (ready > 0 and not coming)

    def _failed_preparations(self) -> dict[str, Json]:
        """Nodes that the job may not use: their job preparation task failed, which lasts until they are reimaged."""
        assert self.job_id is not None
        path = at("jobs", self.job_id, "jobpreparationandreleasetaskstatus")
        try:
            statuses = list(self.service.list(path))
        except Conflict:  # the job has no preparation task
            return {}
        infos = {item["nodeId"]: item.get("jobPreparationTaskExecutionInfo") or {} for item in statuses}
        return {
            node: info
            for node, info in infos.items()
            if info.get("state") == "completed" and info.get("result") == "failure"
        }

    def _give_up(self, pool: Json, nodes: list[Json], barred: dict[str, Json]) -> None:
        failed_start = [node for node in nodes if _state(node) == "starttaskfailed"]
        if failed_start:
            raise self._start_failure(failed_start)
        if barred:
            raise self._preparation_failure(barred)
        if any(_state(node) in LOST for node in nodes):
            self._lost(nodes)
            return
        raise NoEligibleNode(
            f"pool {self.pool_id} has {'no nodes' if not nodes else 'no node that takes tasks'} and none is coming: "
            f"resize it (resize_pool, or `azbatchwrap pool resize {self.pool_id} --nodes N`)",
            pool_id=self.pool_id,
        )

    def _wait_for_room(self, pool: Json) -> None:
        """The pool got no node at all. A formula asks again by itself; for a fixed size, that is done here."""
        now = self.clock()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since >= self.patience:
            codes = [str(error.get("code", "")) for error in pool["resizeErrors"]]
            ways = "".join(f"\n{_WAYS_OUT[code]}" for code in dict.fromkeys(codes) if code in _WAYS_OUT)
            raise ResizeFailed(_resize_text(pool) + ways, pool_id=self.pool_id, codes=codes)
        if not pool.get("enableAutoScale", False):
            self._ask_again(pool)

    def _ask_again(self, pool: Json) -> None:
        targets = {name: pool.get(name, 0) for name in ("targetDedicatedNodes", "targetLowPriorityNodes")}
        try:
            self.service.request("POST", at("pools", self.pool_id, "resize"), targets)
        except Conflict:
            # Somebody else resizes it, or deletes it.
            return

    def _lost(self, nodes: list[Json]) -> None:
        if self._lost_since is None:
            self._lost_since = self.clock()
        if self.clock() - self._lost_since < LOST_PATIENCE:
            return
        worst = next(node for node in nodes if _state(node) in LOST)
        reasons = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in worst.get("errors") or ())
        raise NodeUnusable(
            f"pool {self.pool_id}: node {worst['id']} is {worst['state']}{f' ({reasons})' if reasons else ''}, "
            "and no other node takes tasks",
            pool_id=self.pool_id,
            node_id=worst["id"],
        )

    def _start_failure(self, failed: list[Json]) -> PoolError:
        node = failed[0]
        info: Json = node.get("startTaskInfo") or {}
        stderr = self._end_of(node["id"], "startup/stderr.txt")
        return StartTaskFailed(
            f"pool {self.pool_id}: the start task failed on {len(failed)} nodes, first on {node['id']}: {_how(info)}",
            pool_id=self.pool_id,
            node_id=node["id"],
            exit_code=info.get("exitCode"),
            stderr=stderr,
        )

    def _preparation_failure(self, barred: dict[str, Json]) -> PoolError:
        node_id, info = next(iter(barred.items()))
        folder = info.get("taskRootDirectory") or f"workitems/{self.job_id}/job-1/jobpreparation"
        stderr = self._end_of(node_id, folder.replace("\\", "/").rstrip("/") + "/stderr.txt")
        return NoEligibleNode(
            f"job {self.job_id}: its preparation failed on every node of pool {self.pool_id}, first on {node_id}: {_how(info)}",
            pool_id=self.pool_id,
            node_id=node_id,
            exit_code=info.get("exitCode"),
            stderr=stderr,
        )

    def _end_of(self, node_id: str, path: str) -> str:
        content = self.service.download_end(at("pools", self.pool_id, "nodes", node_id, "files", path), STDERR_END)
        return content.decode(errors="replace")

    def _news(self, pool: Json, nodes: list[Json], barred: dict[str, Json]) -> list[str]:
        lines = [_resize_text(pool)] if pool.get("resizeErrors") else []
        for node in nodes:
            state = _state(node)
            if state == "starttaskfailed":
                lines.append(f"node {node['id']}: the start task failed ({_how(node.get('startTaskInfo') or {})})")
            elif state in LOST or state == "preempted":
                lines.append(f"node {node['id']} is {node['state']}")
        lines += [f"node {node_id}: the job's preparation failed ({_how(info)})" for node_id, info in barred.items()]
        fresh = [line for line in lines if line not in self._noted]
        self._noted.update(fresh)
        return fresh


def _state(node: Json) -> str:
    return str(node.get("state", "")).lower()


def _works(node: Json) -> bool:
    return _state(node) in WORKING and node.get("schedulingState", "enabled") == "enabled"


def _how(info: dict[str, Any]) -> str:
    failure = info.get("failureInfo") or {}
    words = [f"exit code {info['exitCode']}"] if "exitCode" in info else []
    if failure.get("code"):
        words.append(f"{failure['code']}: {failure.get('message', '')}".rstrip(": "))
    return ", ".join(words) or "no reason given"


def _resize_text(pool: Json) -> str:
    have = pool.get("currentDedicatedNodes", 0) + pool.get("currentLowPriorityNodes", 0)
    wanted = pool.get("targetDedicatedNodes", 0) + pool.get("targetLowPriorityNodes", 0)
    reasons = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in pool.get("resizeErrors") or ())
    return f"pool {pool.get('id')} has {have} of {wanted} nodes: {reasons}"
