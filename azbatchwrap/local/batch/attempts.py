"""Running a placed task: preparation, attempts, and what its end means for others."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import orjson

from azbatchwrap.local.batch import auto_users, identities, multi_instance, packages, wire
from azbatchwrap.local.batch.endings import disable_job, job_may_be_over, terminate_job
from azbatchwrap.local.batch.environment import environment_of
from azbatchwrap.local.batch.model import (
    BLOCKED,
    FAILED,
    PREPARING,
    READY,
    RUNNING,
    SUCCEEDED,
    Job,
    Run,
)
from azbatchwrap.local.batch.node import (
    USER_ERROR,
    Failure,
    HostLost,
    Launch,
    Outcome,
    ProcessHandle,
    Stage,
    TaskFailure,
)
from azbatchwrap.local.batch.node import run as run_on_node
from azbatchwrap.local.batch.side_tasks import prepare

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)

#: Members of ``executionInfo`` that outlive an attempt.
COUNTERS = ("retryCount", "lastRetryTime", "requeueCount", "lastRequeueTime")
FRESH: dict[str, Any] = {"retryCount": 0, "requeueCount": 0}
ENDED_BY_USER = {"category": "UserError", "code": "TaskEnded", "message": "Task Was Ended by User Request"}


class Stopped(Exception):
    """The run was stopped with an intent before or between attempts."""


async def execute(service: Service, run: Run) -> None:
    """Bring a placed task to its end, or back to the queue. Owns the run until then."""
    try:
        outcome = await _attempts(service, run)
    except (Stopped, HostLost):
        outcome = None
    except asyncio.CancelledError:
        if run.intent is None:
            raise
        outcome = None
    except Exception:
        log.exception("task %s of job %s could not be run", run.row.id, run.job.id)
        run.intent = run.intent or "fail"
        outcome = None
    if service.is_stopping or run.intent == "abandon":
        return
    if run.intent in {"terminate", "fail"} or (run.intent is None and outcome is not None):
        _finish(service, run, outcome)
    elif run.intent == "delete":
        service.count(run.job, run.state, -1, -run.row.slots)
        service.tasks.delete(run.row.seq)
    else:
        _requeue(service, run)
    service.scheduler.freed(run)
    job_may_be_over(service, run.job)


async def _attempts(service: Service, run: Run) -> Outcome:
    run.spec = orjson.loads(run.row.body)
    run.execution = orjson.loads(run.row.execution) if run.row.execution else dict(FRESH)
    for stale in ("startTime", "endTime", "exitCode", "failureInfo", "result"):
        run.execution.pop(stale, None)
    if run.job.preparation is not None:
        await _prepared(service, run)
    retries_allowed = int(run.spec["constraints"]["maxTaskRetryCount"])
    first_start = wire.now()
    while True:
        if run.intent is not None:
            raise Stopped
        outcome = await _attempt(service, run, first_start)
        service.statistics.attempted(run, outcome.usage)
        retry_count = run.execution["retryCount"]
        if run.intent is not None or not _is_retried(outcome, retry_count, retries_allowed):
            return outcome
        run.handle = None
        service.statistics.retried(run.job)
        run.execution = {
            **{key: value for key, value in run.execution.items() if key not in {"startTime", "retryCount"}},
            "retryCount": retry_count + 1,
            "lastRetryTime": wire.format_ticks(wire.now()),
        }


def _is_retried(outcome: Outcome, retry_count: int, allowed: int) -> bool:
    """Only a command that ended with a non-zero exit code is tried again; -1 allows any number of attempts."""
    if outcome.failure is None or outcome.stage is not Stage.COMMAND or outcome.exit_code is None:
        return False
    return outcome.failure.code != "TaskEnded" and (allowed < 0 or retry_count < allowed)


async def _prepared(service: Service, run: Run) -> None:
    """Wait for the job's preparation task on the node. Raises Stopped when the node is barred by its failure."""
    preparation = prepare(service, run.job, run.node)
    if preparation.work is not None and not preparation.work.done():
        _enter(service, run, PREPARING, None)
        await asyncio.wait({preparation.work})
    if preparation.is_ready is not True:
        run.intent = run.intent or "recover"
    if run.intent is not None:
        raise Stopped


async def _attempt(service: Service, run: Run, first_start: int) -> Outcome:
    folder = run.job.folder(run.node) / run.row.id
    spec = run.spec
    if (misfit := _container_misfit(run)) is not None:
        return _never_began(misfit)
    auto_users.note(run.node.pool, spec, f"task {run.row.id} of job {run.job.id}")
    limit = wire.parse_duration(spec["constraints"]["maxWallClockTime"])
    seconds = None if limit >= wire.UNLIMITED else (limit - (wire.now() - first_start)) / wire.TICKS_PER_SECOND
    if "multiInstanceSettings" in spec:
        environment = multi_instance.environment(service, run, run.node, folder)
        if (failed := await multi_instance.coordinate(service, run)) is not None:
            return failed
    else:
        own_packages = spec.get("applicationPackageReferences")
        try:
            await packages.deploy(service, run.node, own_packages)
        except TaskFailure as problem:
            return _never_began(problem.failure)
        environment = environment_of(
            service,
            run.job,
            run.node,
            task_id=run.row.id,
            folder=folder,
            own=spec.get("environmentSettings"),
            own_packages=own_packages,
            wants_token="authenticationTokenSettings" in spec,
        )
    launch = Launch(
        command_line=spec["commandLine"],
        folder=folder,
        environment=environment,
        resource_files=spec.get("resourceFiles", ()),
        output_files=spec.get("outputFiles", ()),
        identities=identities.resource_ids(run.node.pool),
        wall_clock=seconds,
        container=spec.get("containerSettings"),
        is_queued=not run.others,
    )
    if launch.resource_files and run.state != RUNNING:
        _enter(service, run, RUNNING, None)

    def started(handle: ProcessHandle) -> None:
        run.handle = handle
        if run.intent is not None:
            service.spawn(handle.kill(0.0, "the task was ended by request"), "kill")
        _enter(service, run, RUNNING, handle)
        if run.job.spec["allowTaskPreemption"]:
            service.scheduler.wake(run.node.pool)  # something more important may have waited for it to have a process

    return await run_on_node(launch, service.host, service.transfers, started)


def _container_misfit(run: Run) -> Failure | None:
    """Pools for containers want container settings on every task, and other pools take none."""
    machine = run.node.pool.spec.get("virtualMachineConfiguration") or {}
    wants, has = "containerConfiguration" in machine, "containerSettings" in run.spec
    if wants == has:
        return None
    if has:
        message = "The task has container settings, and its pool was made without containerConfiguration"
        return Failure(USER_ERROR, "ContainerPoolNotSupported", message)
    message = "The task has no container settings, and its pool was made with containerConfiguration"
    return Failure(USER_ERROR, "CommandLaunchFailed", message)


def _never_began(failure: Failure) -> Outcome:
    now = wire.to_datetime(wire.now())
    return Outcome(now, now, failure=failure, stage=Stage.PREPARATION)


def _enter(service: Service, run: Run, state: int, handle: ProcessHandle | None) -> None:
    """Write that the task is PREPARING or RUNNING; a process that starts later is added to the row."""
    now = wire.now()
    process = (handle.pid, handle.start_time) if handle is not None else (0, 0)
    if state == RUNNING and "startTime" not in run.execution:
        run.started = now if handle is None else min(now, wire.from_nanoseconds(handle.started))
        run.execution = {"startTime": wire.format_ticks(run.started), **run.execution}
    execution = orjson.dumps(run.execution)
    if run.state == state:
        service.tasks.attempted(run.row.seq, execution, run.started, process)
        return
    if run.state == READY:
        run.job.placed.discard(run.row.seq)
    node = f"{run.node.pool.id}/{run.node.id}"
    service.tasks.began(run.row.seq, state, now, node=node, execution=execution, started=run.started, process=process)
    service.count(run.job, run.state, -1, -run.row.slots)
    service.count(run.job, state, 1, run.row.slots)
    run.state = state


def _requeue(service: Service, run: Run) -> None:
    """Back to the queue. Only a user's request counts; recoveries leave ``requeueCount`` alone."""
    execution: dict[str, Any] = {key: run.execution[key] for key in COUNTERS if key in run.execution} or dict(FRESH)
    if run.intent == "requeue":
        execution["requeueCount"] += 1
        execution["lastRequeueTime"] = wire.format_ticks(wire.now())
    service.tasks.again(run.row.seq, wire.now(), orjson.dumps(execution))
    service.count(run.job, run.state, -1, -run.row.slots)
    service.count(run.job, READY, 1, run.row.slots)
    service.scheduler.forget(run.job)


def _finish(service: Service, run: Run, outcome: Outcome | None) -> None:
    """Record the end, count it, and do what it means for dependents and the job."""
    if outcome is not None and run.state != RUNNING:
        _enter(service, run, RUNNING, None)  # it failed before its process began; its folder is on the node
    now = wire.now()
    failure = _failure(run, outcome)
    execution: dict[str, Any] = {}
    if run.started is not None:
        execution["startTime"] = wire.format_ticks(run.started)
    execution["endTime"] = wire.format_ticks(now)
    exit_code = outcome.exit_code if outcome is not None else None
    if exit_code is not None:
        execution["exitCode"] = exit_code
    if failure is not None:
        execution["failureInfo"] = failure
    execution["result"] = "success" if failure is None else "failure"
    execution |= {key: run.execution[key] for key in COUNTERS if key in run.execution}
    options = exit_options(run.spec, outcome, failed=failure is not None)
    satisfied = options.get("dependencyAction", "satisfy" if failure is None else "block") == "satisfy"
    packed = orjson.dumps(execution)
    service.tasks.ended(
        run.row.seq,
        now,
        packed,
        exit_code,
        failed=failure is not None,
        satisfied=satisfied,
        started=run.started,
        usage=orjson.dumps(astuple(run.usage)) if run.usage is not None else None,
    )
    waited = run.started - run.row.created if run.started is not None else 0
    service.statistics.ended(run.job, failed=failure is not None, waited=waited)
    if run.state in {READY, PREPARING}:
        run.job.placed.discard(run.row.seq)
    service.count(run.job, run.state, -1, -run.row.slots)
    service.count(run.job, SUCCEEDED if failure is None else FAILED, 1, run.row.slots)
    node = run.node
    node.total_run += 1
    node.total_succeeded += failure is None
    node.recent.append((run.job.id, run.row.id, 4, packed))
    if satisfied:
        release_dependents(service, run.job, run.row.seq, run.row.id)
    _act_on_job(service, run, options, failed=failure is not None)


def _failure(run: Run, outcome: Outcome | None) -> dict[str, Any] | None:
    if run.intent == "terminate":
        return ENDED_BY_USER
    if outcome is None:
        return {"category": "ServerError", "code": "MaxInternalRetryCountReached", "message": "The task could not run."}
    return outcome.failure.wire() if outcome.failure is not None else None


def exit_options(spec: dict[str, Any], outcome: Outcome | None, *, failed: bool) -> dict[str, str]:
    """The ``exitOptions`` that ``exitConditions`` give for this end; empty when none apply."""
    conditions = spec.get("exitConditions") or {}
    if outcome is None or not conditions:
        return {}
    if outcome.stage is Stage.PREPARATION:
        return conditions.get("preProcessingError") or conditions.get("default") or {}
    if (mapped := _by_exit_code(conditions, outcome.exit_code)) is not None:
        return mapped
    if outcome.stage is Stage.UPLOAD or outcome.upload_failure is not None:
        return conditions.get("fileUploadError") or conditions.get("default") or {}
    return (conditions.get("default") or {}) if failed else {}


def _by_exit_code(conditions: dict[str, Any], exit_code: int | None) -> dict[str, str] | None:
    if exit_code is None:
        return None
    for mapping in conditions.get("exitCodes") or ():
        if mapping["code"] == exit_code:
            return dict(mapping["exitOptions"])
    for mapping in conditions.get("exitCodeRanges") or ():
        if mapping["start"] <= exit_code <= mapping["end"]:
            return dict(mapping["exitOptions"])
    return None


def release_dependents(service: Service, job: Job, seq: int, task_id: str) -> None:
    """Tasks that waited for this one alone become ready."""
    if not job.spec["usesTaskDependencies"]:
        return
    number = int(task_id) if task_id.isdecimal() else None
    for _child, slots in service.tasks.release(job.number, seq, task_id, number):
        service.count(job, BLOCKED, -1, -slots)
        service.count(job, READY, 1, slots)
        service.scheduler.wake_job(job)


def _act_on_job(service: Service, run: Run, options: dict[str, str], *, failed: bool) -> None:
    """Job manager's end, and ``onTaskFailure`` with its job actions."""
    job = run.job
    manager = job.manager(run.row.id)
    if manager is not None and manager["killJobOnCompletion"]:
        terminate_job(service, job, "JMComplete")
        return
    if job.spec["onTaskFailure"] != "performexitoptionsjobaction" or run.intent is not None:
        return
    action = options.get("jobAction", "terminate" if failed else "none")
    if action == "terminate":
        terminate_job(service, job, "TaskFailed")
    elif action == "disable":
        disable_job(service, job, "requeue")
