"""Operations on jobs."""

from __future__ import annotations

import uuid
from typing import Any

from azbatchwrap.local.batch import odata, pools, statistics, tasks, wire
from azbatchwrap.local.batch.endings import delete_job, disable_job, job_may_be_over, move, terminate_job, watch_limit
from azbatchwrap.local.batch.errors import BatchError, bad_property
from azbatchwrap.local.batch.exchange import Request, Response, created, done, entity
from azbatchwrap.local.batch.lists import answer, expands_stats, selected
from azbatchwrap.local.batch.model import Job, Life, Node
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import jobs as shapes

_BEFORE_TASKS = (
    "priority",
    "maxParallelTasks",
    "usesTaskDependencies",
    "allowTaskPreemption",
    "constraints",
    "jobManagerTask",
    "jobPreparationTask",
    "jobReleaseTask",
    "commonEnvironmentSettings",
    "poolInfo",
    "metadata",
)
_LAST = ("onAllTasksComplete", "onTaskFailure", "networkConfiguration")
_SINCE_2020_09 = frozenset({"maxParallelTasks", "allowTaskPreemption"})


def view(job: Job, request: Request) -> dict[str, Any]:
    """A job as the service shows it."""
    spec = job.spec
    shown: dict[str, Any] = {"id": job.id}
    if "displayName" in spec:
        shown["displayName"] = spec["displayName"]
    if request.version < "2025" and spec["usesTaskDependencies"]:
        shown["usesTaskDependencies"] = True
    shown["url"] = f"{request.base}/jobs/{job.id}"
    shown |= job.life.view()
    old = request.version < "2020-09"
    shown |= {name: spec[name] for name in _BEFORE_TASKS if name in spec and not (old and name in _SINCE_2020_09)}
    information: dict[str, Any] = {"startTime": wire.format_ticks(job.started)}
    if job.ended is not None:
        information["endTime"] = wire.format_ticks(job.ended)
    information["poolId"] = job.pool_id
    if job.scheduling_error is not None:
        information["schedulingError"] = job.scheduling_error
    if job.reason is not None:
        information["terminateReason"] = job.reason
    shown["executionInfo"] = information
    shown |= {name: spec[name] for name in _LAST if name in spec}
    return shown


def _shown(service: Service, job: Job, request: Request) -> dict[str, Any]:
    shown = view(job, request)
    if expands_stats(request):
        shown["stats"] = statistics.of_job(service, job, shown["url"])
    return shown


def clean(service: Service, spec: dict[str, Any]) -> dict[str, Any]:
    """A checked job body with the rules that span several fields applied."""
    _clean_pool(service, spec["poolInfo"])
    if "jobReleaseTask" in spec and "jobPreparationTask" not in spec:
        raise bad_property("jobReleaseTask", {}, "A job release task needs a job preparation task.")
    _check_approval(service, spec)
    for name in ("jobPreparationTask", "jobReleaseTask", "jobManagerTask"):
        tasks.check_command(spec.get(name))
    manager = spec.get("jobManagerTask")
    if manager is not None:
        retries = spec["constraints"]["maxTaskRetryCount"]
        manager["constraints"] = {"maxTaskRetryCount": retries, **manager["constraints"]}
    if spec.get("metadata") == []:
        del spec["metadata"]
    return spec


def _clean_pool(service: Service, info: dict[str, Any]) -> None:
    """The same for where the job runs, in place."""
    automatic = info.get("autoPoolSpecification")
    if ("poolId" in info) == (automatic is not None):
        raise bad_property("poolInfo", info, "Exactly one of poolId and autoPoolSpecification is needed.")
    if automatic is not None:
        automatic["pool"] = pools.clean(automatic["pool"])
        pools.check_packages(service, automatic["pool"].get("applicationPackageReferences"))


def _check_approval(service: Service, spec: dict[str, Any]) -> None:
    """Raises InvalidPropertyValue for what an account must be enabled for by Azure's support."""
    for name, usual in (("maxParallelTasks", -1), ("allowTaskPreemption", False)):
        if spec[name] != usual and not service.chaos.support_approval:
            raise bad_property(name, spec[name], "The account is not enabled for this property.")


def make(
    service: Service, job_id: str, spec: dict[str, Any], *, schedule: str | None = None, pool_id: str | None = None
) -> Job:
    """Add an active job, with its auto-pool and its job manager task where it has them."""
    now = wire.now()
    info = spec["poolInfo"]
    automatic = info.get("autoPoolSpecification")
    if pool_id is None:
        pool_id = info["poolId"] if automatic is None else _auto_pool_id(automatic)
    job = Job(job_id, service.next_job_number(), spec, Life(now, now, "active", now), pool_id, now, schedule=schedule)
    service.jobs[job_id.lower()] = job
    service.save_job(job)
    if automatic is not None and pool_id.lower() not in service.pools:
        pools.make(service, pool_id, dict(automatic["pool"]), owner=job_id)
    pool = service.pools.get(pool_id.lower())
    if pool is not None:
        service.scheduler.sort(pool)
    watch_limit(service, job)
    if (manager := spec.get("jobManagerTask")) is not None:
        tasks.add_manager(service, job, manager)
    job_may_be_over(service, job)
    return job


def _auto_pool_id(automatic: dict[str, Any]) -> str:
    unique = str(uuid.uuid4()).upper()
    prefix = automatic.get("autoPoolIdPrefix")
    return f"{prefix}_{unique}" if prefix else unique


async def create(service: Service, request: Request) -> Response:
    spec = request.read(shapes.JOB)
    job_id = spec.pop("id")
    existing = service.jobs.get(job_id.lower())
    if existing is not None:
        raise BatchError("JobBeingDeleted" if existing.life.state == "deleting" else "JobExists")
    if job_id.lower() in service.schedules:
        raise BatchError("JobScheduleWithSameIdExists")
    _check_quota(service)
    job = make(service, job_id, clean(service, spec))
    # The service names job-1 here whatever the job's id is; clients rely on neither.
    return created(job.life.modified, f"{request.base}/jobs/job-1")


def _check_quota(service: Service) -> None:
    quota = service.chaos.job_quota
    if quota is not None and sum(job.life.state != "completed" for job in service.jobs.values()) >= quota:
        raise BatchError("ActiveJobAndScheduleQuotaReached")


def find(service: Service, request: Request) -> Response:
    job = service.job(request.path[0])
    request.check_conditions(job.life.modified)
    return entity(
        request, "jobs", selected(request, _shown(service, job, request), odata.properties.JOB), job.life.modified
    )


def _place(job: Job) -> tuple[bool, str]:
    """Completed jobs come last; then by id."""
    return (job.life.state == "completed", job.id.lower())


def list_all(service: Service, request: Request) -> Response:
    return answer(
        request,
        "jobs",
        service.jobs.values(),
        lambda job: list(_place(job)),
        view=lambda job: _shown(service, job, request),
        fields=odata.JOBS,
        properties=odata.properties.JOB,
    )


def list_of_schedule(service: Service, request: Request) -> Response:
    schedule = service.schedule(request.path[0])
    own = [job for job in service.jobs.values() if job.schedule == schedule.id]
    return answer(
        request,
        "jobs",
        own,
        lambda job: job.number,
        view=lambda job: _shown(service, job, request),
        fields=odata.JOBS_OF_SCHEDULE,
    )


def _changeable(service: Service, request: Request) -> Job:
    """The job of the request, checked against its conditions; not one that is being deleted."""
    job = service.job(request.path[0])
    if job.life.state == "deleting":
        raise BatchError("JobBeingDeleted")
    request.check_conditions(job.life.modified)
    return job


def _refuse_ended(job: Job) -> None:
    if job.life.state == "completed":
        raise BatchError("JobCompleted")
    if job.life.state == "terminating":
        raise BatchError("JobBeingTerminated")


async def delete(service: Service, request: Request) -> Response:
    job = _changeable(service, request)
    await service.settle(delete_job(service, job))
    return Response(202)


async def terminate(service: Service, request: Request) -> Response:
    job = _changeable(service, request)
    body = request.read_optional(shapes.JOB_TERMINATE)
    _refuse_ended(job)
    modified = job.life.touch()
    await service.settle(terminate_job(service, job, body.get("terminateReason") or "UserTerminate"))
    return done(request, 202, modified)


async def disable(service: Service, request: Request) -> Response:
    job = _changeable(service, request)
    body = request.read(shapes.JOB_DISABLE)
    _refuse_ended(job)
    if job.life.state in {"disabled", "disabling"}:
        raise BatchError("JobDisabled")
    modified = job.life.touch()
    await service.settle(disable_job(service, job, body["disableTasks"]))
    return done(request, 202, modified)


def enable(service: Service, request: Request) -> Response:
    job = _changeable(service, request)
    _refuse_ended(job)
    modified = job.life.touch()
    if job.life.state != "active":
        move(service, job, "active")
        job_may_be_over(service, job)
    service.save_job(job)
    return done(request, 202, modified)


def update(service: Service, request: Request) -> Response:
    """PATCH: a given field replaces the whole of what was there."""
    job = _changeable(service, request)
    changes = request.read(shapes.JOB_UPDATE)
    return _apply(service, request, job, {**job.spec, **changes}, changes)


def replace(service: Service, request: Request) -> Response:
    """PUT: what is left out returns to its default, but for the job's own tasks."""
    job = _changeable(service, request)
    body = request.read(shapes.JOB_REPLACE)
    mutable, defaults = shapes.JOB_UPDATE.checks, dict(shapes.JOB.defaults)
    changes = {name: body[name] for name in mutable if name in body}
    kept = {name: value for name, value in job.spec.items() if name not in mutable}
    kept |= {name: defaults[name] for name in mutable if name in defaults}
    return _apply(service, request, job, {**kept, **changes}, changes)


def _apply(service: Service, request: Request, job: Job, spec: dict[str, Any], changes: dict[str, Any]) -> Response:
    _refuse_ended(job)
    pool_id = changes.get("poolInfo", {}).get("poolId")
    if "poolInfo" in changes:
        _check_pool_change(service, job, changes["poolInfo"])
    if job.spec["onAllTasksComplete"] == "terminatejob" and spec["onAllTasksComplete"] == "noaction":
        _refuse_change("onAllTasksComplete", "Once it is terminatejob it cannot be taken back.")
    _check_approval(service, spec)
    if spec.get("metadata") == []:
        del spec["metadata"]
    old_pool = service.pools.get(job.pool_id.lower())
    job.spec = spec
    if pool_id is not None:
        job.pool_id = pool_id
    modified = job.life.touch()
    service.save_job(job)
    for pool in {old_pool, service.pools.get(job.pool_id.lower())} - {None}:
        assert pool is not None
        service.scheduler.sort(pool)
    watch_limit(service, job)
    job_may_be_over(service, job)
    return done(request, 200, modified)


def _check_pool_change(service: Service, job: Job, info: dict[str, Any]) -> None:
    """A disabled job may move to another pool; a job with a pool of its own may change whether that is kept alive."""
    _clean_pool(service, info)
    there = job.spec["poolInfo"]
    own, wanted = there.get("autoPoolSpecification"), info.get("autoPoolSpecification")
    if info == there:
        return
    if own is not None and wanted is not None and own["poolLifetimeOption"] == "job":
        if {**own, "keepAlive": None} != {**wanted, "keepAlive": None}:
            _refuse_change("poolInfo", "Of an auto-pool only keepAlive can change.")
    elif own is not None or wanted is not None:
        _refuse_change("poolInfo", "An auto-pool's job keeps it.")
    elif job.life.state != "disabled":
        _refuse_change("poolInfo", "The job must be disabled to move to another pool.")


def _refuse_change(name: str, reason: str) -> None:
    raise BatchError("PropertyCannotBeUpdated", [("PropertyName", name), ("Reason", reason)])


def task_counts(service: Service, request: Request) -> Response:
    """The job's counters; older api-versions get the task counts alone."""
    job = service.job(request.path[0])
    counts, slots = service.lag.seen(job)
    tasks_shown = _counters(counts)
    if request.version < "2020-09":
        return entity(request, "taskcounts", tasks_shown)
    shown = {"taskCounts": tasks_shown, "taskSlotCounts": _counters(slots)}
    return entity(request, "taskcountsresult", shown)


def _counters(numbers: list[int]) -> dict[str, int]:
    ready, blocked, preparing, running, succeeded, failed = numbers
    return {
        "active": ready + blocked,
        "running": preparing + running,
        "completed": succeeded + failed,
        "succeeded": succeeded,
        "failed": failed,
    }


def lifetime_statistics(service: Service, request: Request) -> Response:
    """Of all jobs that ever were; api-versions up to 2022."""
    return entity(request, "jobstats", statistics.of_all_jobs(service, request.url))


def preparation_status(service: Service, request: Request) -> Response:
    """Preparation and release tasks of the job, node by node."""
    job = service.job(request.path[0])
    if job.preparation is None:
        raise BatchError("JobPreparationTaskNotSpecified")
    nodes = [node for pool in service.pools.values() for node in pool.nodes.values() if job.number in node.preparations]
    return answer(
        request,
        "jobpreparationandreleasetaskstatuslist",
        nodes,
        lambda node: node.id,
        view=lambda node: _status(job, node, request),
        fields=odata.PREPARATION_STATUS,
        properties=odata.properties.PREPARATION_STATUS,
    )


def _status(job: Job, node: Node, request: Request) -> dict[str, Any]:
    preparation = node.preparations[job.number]
    url = f"{request.base}/pools/{node.pool.id}/nodes/{node.id}"
    shown: dict[str, Any] = {"poolId": node.pool.id, "nodeId": node.id, "nodeUrl": url}
    for name, info, spec in (
        ("jobPreparationTaskExecutionInfo", preparation.prepared, job.preparation),
        ("jobReleaseTaskExecutionInfo", preparation.released, job.release),
    ):
        if info is not None and spec is not None:
            root = "/".join(("workitems", *job.folder_parts, spec["id"]))
            shown[name] = {
                **info,
                "taskRootDirectory": root,
                "taskRootDirectoryUrl": f"{url}/files/{root}",
            }
    return shown
