"""From the database back to a working account, after a stop, a kill or a crash."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.allocation import boot, continue_deletion, continue_resize
from azbatchwrap.local.batch.attempts import COUNTERS
from azbatchwrap.local.batch.endings import (
    finish_deletion,
    finish_disabling,
    finish_termination,
    job_may_be_over,
    watch_limit,
)
from azbatchwrap.local.batch.model import READY, Job, Node, Pool, Preparation, Schedule
from azbatchwrap.local.batch.node import NodePlace, kill_orphans

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)


def load(service: Service) -> None:
    """Read everything, end the processes that outlived the last service, and put their tasks back in the queue."""
    orphans: list[tuple[int, int]] = []
    for key, body in service.store.load("pool"):
        service.pools[key.lower()] = Pool.load(key, body)
    for key, body in service.store.load("node"):
        _load_node(service, key, body, orphans)
    for key, body in service.store.load("job"):
        service.jobs[key.lower()] = Job.load(key, body)
    for key, body in service.store.load("counts"):
        job = service.jobs[key.lower()]
        job.counts, job.slots = body["counts"], body["slots"]
    service.statistics.load()
    for key, body in service.store.load("schedule"):
        service.schedules[key.lower()] = Schedule.load(key, body)
    for _key, body in service.store.load("application"):
        service.applications[body["id"].lower()] = body
    _load_preparations(service, orphans)
    for job in service.jobs.values():
        _recover_tasks(service, job, orphans)
        _load_retentions(service, job)
    killed = kill_orphans(orphans)
    if killed:
        log.warning("ended %d processes that outlived the last service", len(killed))


def _load_node(service: Service, key: str, body: dict[str, Any], orphans: list[tuple[int, int]]) -> None:
    pool_id, _, node_id = key.partition("/")
    pool = service.pools.get(pool_id.lower())
    process = body.pop("process")
    if process is not None:
        orphans.append((process[0], process[1]))
    if pool is None:
        service.store.drop("node", key)
        return
    place = NodePlace(service.settings.data_dir / "nodes" / pool.id / node_id, service.python_bin)
    pool.nodes[node_id] = Node(id=node_id, pool=pool, place=place, **body)


def _load_preparations(service: Service, orphans: list[tuple[int, int]]) -> None:
    for key, body in service.store.load("preparation"):
        number, pool_id, node_id = key.split("/")
        if body["process"] is not None:
            orphans.append((body["process"][0], body["process"][1]))
        pool = service.pools.get(pool_id.lower())
        node = pool.nodes.get(node_id) if pool is not None else None
        if node is None:
            service.store.drop("preparation", key)
            continue
        released = body["released"] if (body["released"] or {}).get("state") == "completed" else None
        node.preparations[int(number)] = Preparation(
            job=int(number), node=node, prepared=body["prepared"], released=released, is_ready=body["is_ready"]
        )


def _recover_tasks(service: Service, job: Job, orphans: list[tuple[int, int]]) -> None:
    """What ran is run again, as after a node's recovery: neither retryCount nor requeueCount moves."""
    for seq, state, slots, execution, pid, pid_start in service.tasks.in_flight(job.number):
        if pid:
            orphans.append((pid, pid_start or 0))
        kept = orjson.loads(execution) if execution else {}
        counters = {key: kept[key] for key in COUNTERS if key in kept}
        service.tasks.again(seq, wire.now(), orjson.dumps(counters) if counters else None)
        service.count(job, state, -1, -slots)
        service.count(job, READY, 1, slots)


def _load_retentions(service: Service, job: Job) -> None:
    if not any(job.counts):
        return
    found = service.store.read("SELECT DISTINCT retention FROM tasks WHERE job = ?", (job.number,))
    job.retentions.update(value for (value,) in found if value is not None)


def resume(service: Service) -> None:
    """Go on with every transition that was under way, once the loop runs."""
    for pool in list(service.pools.values()):
        if pool.life.state == "deleting":
            continue_deletion(service, pool)
            continue
        for node in list(pool.nodes.values()):
            _resume_node(service, node)
        service.scheduler.sort(pool)
        if pool.allocation != "steady":
            continue_resize(service, pool)
        service.autoscaler.watch(pool)
    for job in list(service.jobs.values()):
        _resume_job(service, job)
    for schedule in list(service.schedules.values()):
        _resume_schedule(service, schedule)


def _resume_node(service: Service, node: Node) -> None:
    node.folders.create()
    is_starting = (node.start_info or {}).get("state") == "running"
    if is_starting or node.state in {"starting", "waitingforstarttask", "rebooting", "reimaging", "leavingpool"}:
        boot(service, node)
    elif node.state == "deallocating":
        node.enter("deallocated")


def _resume_job(service: Service, job: Job) -> None:
    finishing = {
        "terminating": finish_termination,
        "deleting": finish_deletion,
        "disabling": finish_disabling,
    }.get(job.life.state)
    if finishing is not None:
        job.ending = service.spawn(finishing(service, job), f"{job.life.state} of {job.id}")
        return
    watch_limit(service, job)
    job_may_be_over(service, job)


def _resume_schedule(service: Service, schedule: Schedule) -> None:
    from azbatchwrap.local.batch import schedules  # its module needs the service's, which needs this one

    finishing = {"terminating": schedules.finish_termination, "deleting": schedules.finish_deletion}
    if (finish := finishing.get(schedule.life.state)) is not None:
        schedule.ending = service.spawn(finish(service, schedule), f"{schedule.life.state} of {schedule.id}")
    else:
        schedules.tick(service, schedule)
