"""What the service holds in memory: pools, nodes, jobs, and the attempts that run. Tasks live in the database."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.node import NodeFolders, NodePlace, ProcessHandle, Usage

#: Task states in the database. READY and BLOCKED (by dependencies) are both ``active`` to clients.
READY, BLOCKED, PREPARING, RUNNING, COMPLETED = range(5)
#: Index of the counters: the states, the last split by result.
SUCCEEDED, FAILED = 4, 5
TASK_STATES = ("active", "active", "preparing", "running", "completed")

#: Tasks a node remembers for its ``recentTasks``.
RECENT_TASKS = 10
#: Node states in which tasks may be placed.
WORKING_STATES = frozenset({"idle", "running"})


@dataclass(slots=True)
class Life:
    """State, its time, and what was before; times in ticks."""

    created: int
    modified: int
    state: str
    since: int
    previous: str | None = None
    previous_since: int | None = None

    def move(self, state: str, *, transient: frozenset[str] = frozenset()) -> None:
        """Enter ``state``. The state before is remembered unless it was a passing one."""
        if self.state not in transient:
            self.previous, self.previous_since = self.state, self.since
        self.state = state
        self.since = wire.now()

    def body(self) -> list[Any]:
        """For the database."""
        return [self.created, self.modified, self.state, self.since, self.previous, self.previous_since]

    def touch(self) -> int:
        """A user changed the thing: a new entity tag."""
        self.modified = wire.now()
        return self.modified

    def view(self) -> dict[str, Any]:
        """The common fields, in the service's order."""
        shown: dict[str, Any] = {
            "eTag": wire.etag(self.modified),
            "lastModified": wire.format_ticks(self.modified),
            "creationTime": wire.format_ticks(self.created),
            "state": self.state,
            "stateTransitionTime": wire.format_ticks(self.since),
        }
        if self.previous is not None and self.previous_since is not None:
            shown["previousState"] = self.previous
            shown["previousStateTransitionTime"] = wire.format_ticks(self.previous_since)
        return shown


@dataclass(slots=True, eq=False)
class Pool:
    """A pool. ``spec`` is the checked body it was made from, ``owner`` the job or schedule of an auto-pool."""

    id: str
    spec: dict[str, Any]
    life: Life
    allocation: str
    allocation_since: int
    resize_errors: list[dict[str, Any]] = field(default_factory=list)
    owner: str | None = None
    autoscale_run: dict[str, Any] | None = None
    autoscale_enabled_at: int = 0
    #: How running tasks are treated by the shrinking under way.
    deallocation: str = "requeue"
    nodes: dict[str, Node] = field(default_factory=dict)
    resizing: asyncio.Task[None] | None = None
    addresses: int = 0
    workload: list[Job] = field(default_factory=list)
    #: Elevation level of the pool's auto-users -> who was the first to run as such; see auto_users.py.
    auto_users: dict[str, str] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        return int(self.spec["taskSlotsPerNode"])

    @property
    def packs(self) -> bool:
        return bool(self.spec["taskSchedulingPolicy"]["nodeFillType"] == "Pack")

    def target(self, *, dedicated: bool) -> int:
        return int(self.spec["targetDedicatedNodes" if dedicated else "targetLowPriorityNodes"])

    def current(self, *, dedicated: bool) -> int:
        return sum(1 for node in self.nodes.values() if node.is_dedicated == dedicated)

    def body(self) -> dict[str, Any]:
        return {
            "spec": self.spec,
            "life": self.life.body(),
            "allocation": self.allocation,
            "allocation_since": self.allocation_since,
            "resize_errors": self.resize_errors,
            "owner": self.owner,
            "autoscale_run": self.autoscale_run,
            "autoscale_enabled_at": self.autoscale_enabled_at,
            "deallocation": self.deallocation,
            "addresses": self.addresses,
        }

    @classmethod
    def load(cls, key: str, body: dict[str, Any]) -> Pool:
        return cls(id=key, **{**body, "life": Life(*body["life"])})


@dataclass(slots=True, eq=False)
class Preparation:
    """A job's preparation and release tasks on one node: their execution information, as on the wire."""

    job: int
    node: Node
    prepared: dict[str, Any] | None = None
    released: dict[str, Any] | None = None
    #: None while the preparation runs.
    is_ready: bool | None = None
    work: asyncio.Task[None] | None = None
    handle: ProcessHandle | None = None

    def body(self) -> dict[str, Any]:
        process = [self.handle.pid, self.handle.start_time] if self.handle else None
        return {
            "prepared": self.prepared,
            "released": self.released,
            "is_ready": self.is_ready,
            "process": process,
        }


@dataclass(slots=True, eq=False)
class Node:
    """A simulated node: a folder, slots, and what runs in them."""

    id: str
    pool: Pool
    place: NodePlace
    is_dedicated: bool
    address: int
    allocated: int
    state: str
    since: int
    booted: int | None = None
    scheduling: str = "enabled"
    start_task: dict[str, Any] | None = None
    start_info: dict[str, Any] | None = None
    start_handle: ProcessHandle | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    total_run: int = 0
    total_succeeded: int = 0
    used: int = 0
    runs: dict[int, Run] = field(default_factory=dict)
    recent: deque[tuple[str, str, int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT_TASKS))
    preparations: dict[int, Preparation] = field(default_factory=dict)
    starting: asyncio.Task[None] | None = None

    @property
    def folders(self) -> NodeFolders:
        return NodeFolders(self.place)

    @property
    def key(self) -> str:
        """Of its document."""
        return f"{self.pool.id}/{self.id}"

    @property
    def required(self) -> int:
        """Slots that the tasks which run here asked for."""
        return sum(run.row.slots for run in self.runs.values())

    @property
    def ip_address(self) -> str:
        """A loopback address of its own: what nodes say to each other stays on this machine."""
        return f"127.{self.address // 62500}.{self.address // 250 % 250}.{self.address % 250 + 4}"

    @property
    def takes_tasks(self) -> bool:
        return self.state in WORKING_STATES and self.scheduling == "enabled"

    def enter(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = wire.now()

    def body(self) -> dict[str, Any]:
        handle = self.start_handle
        return {
            "is_dedicated": self.is_dedicated,
            "address": self.address,
            "allocated": self.allocated,
            "state": "idle" if self.state == "running" else self.state,
            "since": self.since,
            "booted": self.booted,
            "scheduling": self.scheduling,
            "start_task": self.start_task,
            "start_info": self.start_info,
            "errors": self.errors,
            "users": self.users,
            "total_run": self.total_run,
            "total_succeeded": self.total_succeeded,
            "process": [handle.pid, handle.start_time] if handle else None,
        }


@dataclass(slots=True, eq=False)
class Job:
    """A job. ``number`` names it in the tasks table; ``counts`` and ``slots`` are per state, see `SUCCEEDED`."""

    id: str
    number: int
    spec: dict[str, Any]
    life: Life
    pool_id: str
    started: int
    ended: int | None = None
    reason: str | None = None
    scheduling_error: dict[str, Any] | None = None
    schedule: str | None = None
    #: What a disabling job does with its running tasks, kept for a restart.
    disabling: str = "requeue"
    #: Retention time in ticks -> up to when finished tasks' folders were removed.
    swept: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0] * 6)
    slots: list[int] = field(default_factory=lambda: [0] * 6)
    runs: dict[int, Run] = field(default_factory=dict)
    #: The next tasks to place: see `TaskRow`. A window on the table.
    queue: deque[TaskRow] = field(default_factory=deque)
    #: Placed, but still READY in the table.
    placed: set[int] = field(default_factory=set)
    ending: asyncio.Task[None] | None = None
    limit: asyncio.TimerHandle | None = None
    retentions: set[int] = field(default_factory=set)

    @property
    def priority(self) -> int:
        return int(self.spec["priority"])

    @property
    def max_retries(self) -> int:
        return int(self.spec["constraints"]["maxTaskRetryCount"])

    @property
    def preparation(self) -> dict[str, Any] | None:
        return self.spec.get("jobPreparationTask")

    def manager(self, task_id: str) -> dict[str, Any] | None:
        """The job manager's specification, if the task is the job manager."""
        manager: dict[str, Any] | None = self.spec.get("jobManagerTask")
        return manager if manager is not None and manager["id"].lower() == task_id.lower() else None

    @property
    def release(self) -> dict[str, Any] | None:
        return self.spec.get("jobReleaseTask")

    @property
    def waiting(self) -> int:
        """Tasks that could be placed now."""
        return self.counts[READY] - len(self.placed)

    @property
    def unfinished(self) -> int:
        return sum(self.counts[:4])

    @property
    def folder_parts(self) -> tuple[str, str]:
        """Below ``workitems``: ``<job>/job-1``, for a scheduled job ``<schedule>/<job>``."""
        schedule, colon, rest = self.id.partition(":")
        return (schedule, rest) if colon else (self.id, "job-1")

    def folder(self, node: Node) -> Path:
        return node.place.root.joinpath("workitems", *self.folder_parts)

    def body(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "spec": self.spec,
            "life": self.life.body(),
            "pool_id": self.pool_id,
            "started": self.started,
            "ended": self.ended,
            "reason": self.reason,
            "scheduling_error": self.scheduling_error,
            "schedule": self.schedule,
            "disabling": self.disabling,
            "swept": self.swept,
        }

    @classmethod
    def load(cls, key: str, body: dict[str, Any]) -> Job:
        return cls(id=key, **{**body, "life": Life(*body["life"])})


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task that is ready to be placed."""

    seq: int
    id: str
    slots: int
    body: bytes
    execution: bytes | None
    #: In ticks.
    created: int


@dataclass(slots=True, eq=False)
class Run:
    """A task that was placed on a node, from there to its end."""

    row: TaskRow
    job: Job
    node: Node
    #: Of the node, taken while it runs: what the task requires, or all.
    slots: int
    spec: dict[str, Any] = field(default_factory=dict)
    #: ``executionInfo`` as on the wire, kept up while attempts go by.
    execution: dict[str, Any] = field(default_factory=dict)
    state: int = READY
    handle: ProcessHandle | None = None
    work: asyncio.Task[None] | None = None
    #: Why it is being stopped: requeue, recover, preempt, terminate, delete or abandon; None while nobody stops it.
    intent: str | None = None
    #: Further nodes of a multi-instance task.
    others: list[Node] = field(default_factory=list)
    #: When the attempt under way began, in ticks.
    started: int | None = None
    #: Of all its processes that ended.
    usage: Usage | None = None


@dataclass(slots=True, eq=False)
class Schedule:
    """A job schedule. ``runs`` counts the jobs made, ``next_run`` is in ticks."""

    id: str
    spec: dict[str, Any]
    life: Life
    runs: int = 0
    next_run: int | None = None
    recent: str | None = None
    ended: int | None = None
    #: Beginning of the current recurrence interval.
    anchor: int = 0
    timer: asyncio.TimerHandle | None = None
    ending: asyncio.Task[None] | None = None

    def body(self) -> dict[str, Any]:
        return {
            "spec": self.spec,
            "life": self.life.body(),
            "runs": self.runs,
            "next_run": self.next_run,
            "recent": self.recent,
            "ended": self.ended,
            "anchor": self.anchor,
        }

    @classmethod
    def load(cls, key: str, body: dict[str, Any]) -> Schedule:
        return cls(id=key, **{**body, "life": Life(*body["life"])})
