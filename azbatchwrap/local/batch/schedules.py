"""Operations on job schedules, and the jobs they spawn."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch import jobs, odata, statistics, wire
from azbatchwrap.local.batch.endings import LONGEST_TIMER_SECONDS, TRANSIENT, delete_job, terminate_job
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response, created, done, entity, tagged
from azbatchwrap.local.batch.lists import answer, expands_stats, selected
from azbatchwrap.local.batch.model import Job, Life, Schedule
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import jobs as shapes

#: Order of a job specification inside a schedule, which differs from that of a job.
_SPECIFICATION = (
    "displayName",
    "priority",
    "maxParallelTasks",
    "allowTaskPreemption",
    "usesTaskDependencies",
    "onAllTasksComplete",
    "onTaskFailure",
    "networkConfiguration",
    "constraints",
    "jobManagerTask",
    "jobPreparationTask",
    "jobReleaseTask",
    "commonEnvironmentSettings",
    "poolInfo",
    "metadata",
)
_SINCE_2020_09 = frozenset({"maxParallelTasks", "allowTaskPreemption"})


def view(service: Service, schedule: Schedule, request: Request) -> dict[str, Any]:
    """A schedule as the service shows it."""
    spec = schedule.spec
    shown: dict[str, Any] = {"id": schedule.id}
    if "displayName" in spec:
        shown["displayName"] = spec["displayName"]
    shown["url"] = f"{request.base}/jobschedules/{schedule.id}"
    shown |= schedule.life.view()
    if spec.get("schedule"):
        shown["schedule"] = spec["schedule"]
    wanted = spec["jobSpecification"]
    old = request.version < "2020-09"
    shown["jobSpecification"] = {
        name: wanted[name] for name in _SPECIFICATION if name in wanted and not (old and name in _SINCE_2020_09)
    }
    information: dict[str, Any] = {}
    if schedule.next_run is not None and schedule.life.state == "active":
        information["nextRunTime"] = wire.format_ticks(schedule.next_run)
    if schedule.recent is not None and schedule.recent.lower() in service.jobs:
        information["recentJob"] = {"url": f"{request.base}/jobs/{schedule.recent}", "id": schedule.recent}
    if schedule.ended is not None:
        information["endTime"] = wire.format_ticks(schedule.ended)
    shown["executionInfo"] = information
    if "metadata" in spec:
        shown["metadata"] = spec["metadata"]
    return shown


def _shown(service: Service, schedule: Schedule, request: Request) -> dict[str, Any]:
    shown = view(service, schedule, request)
    if expands_stats(request):
        shown["stats"] = statistics.of_schedule(service, schedule, shown["url"])
    return shown


def _clean(service: Service, spec: dict[str, Any]) -> dict[str, Any]:
    if "jobSpecification" in spec:
        spec["jobSpecification"] = jobs.clean(service, spec["jobSpecification"])
    if spec.get("metadata") == []:
        del spec["metadata"]
    return spec


async def create(service: Service, request: Request) -> Response:
    spec = request.read(shapes.SCHEDULE)
    schedule_id = spec.pop("id")
    existing = service.schedules.get(schedule_id.lower())
    if existing is not None:
        raise BatchError("JobScheduleBeingDeleted" if existing.life.state == "deleting" else "JobScheduleExists")
    if schedule_id.lower() in service.jobs:
        raise BatchError("JobWithSameIdExists")
    spec = _clean(service, spec)
    now = wire.now()
    schedule = Schedule(schedule_id, spec, Life(now, now, "active", now), anchor=now)
    schedule.next_run = _first_run(spec.get("schedule", {}), now)
    service.schedules[schedule_id.lower()] = schedule
    service.save_schedule(schedule)
    tick(service, schedule)
    return created(schedule.life.modified, f"{request.base}/jobschedules/{schedule.id}")


def _first_run(times: dict[str, str], now: int) -> int:
    until = times.get("doNotRunUntil")
    return max(now, wire.parse_time(until)) if until is not None else now


def tick(service: Service, schedule: Schedule) -> None:
    """Make the job that is due, work out the next time, and set the timer for it."""
    if schedule.timer is not None:
        schedule.timer.cancel()
        schedule.timer = None
    if schedule.life.state != "active" or schedule.next_run is None or service.is_stopping:
        return
    times = schedule.spec.get("schedule", {})
    now = wire.now()
    after = times.get("doNotRunAfter")
    if after is not None and schedule.next_run > wire.parse_time(after):
        _complete(service, schedule)
        return
    if schedule.next_run <= now:
        _run_due(service, schedule, times, now)
    _set_timer(service, schedule)


def _set_timer(service: Service, schedule: Schedule) -> None:
    if schedule.next_run is None:
        return
    delay = wire.to_unix(schedule.next_run) - wire.to_unix(wire.now())
    schedule.timer = service.loop.call_later(min(LONGEST_TIMER_SECONDS, max(0.0, delay)), tick, service, schedule)


def _run_due(service: Service, schedule: Schedule, times: dict[str, str], now: int) -> None:
    due = schedule.next_run or now
    recurrence = wire.parse_duration(times["recurrenceInterval"]) if "recurrenceInterval" in times else None
    window = wire.parse_duration(times["startWindow"]) if "startWindow" in times else None
    last = service.jobs.get(schedule.recent.lower()) if schedule.recent is not None else None
    is_missed = window is not None and now > due + window
    if last is not None and last.life.state != "completed" and not is_missed:
        # One job at a time: it is tried again within the start window, or when the last one has ended.
        schedule.next_run = now + wire.TICKS_PER_SECOND
        service.save_schedule(schedule)
        return
    if not is_missed:
        _spawn_job(service, schedule)
    if recurrence is None:
        schedule.next_run = None
    else:
        schedule.next_run = due + recurrence * max(1, -(-(now - due) // recurrence)) if now > due else due + recurrence
    service.save_schedule(schedule)


def _spawn_job(service: Service, schedule: Schedule) -> Job:
    schedule.runs += 1
    job_id = f"{schedule.id}:job-{schedule.runs}"
    spec = dict(schedule.spec["jobSpecification"])
    automatic = spec["poolInfo"].get("autoPoolSpecification")
    shared = None
    if automatic is not None and automatic["poolLifetimeOption"] == "jobschedule":
        shared = next((pool.id for pool in service.pools.values() if pool.owner == schedule.id), None)
    job = jobs.make(service, job_id, spec, schedule=schedule.id, pool_id=shared)
    if automatic is not None and automatic["poolLifetimeOption"] == "jobschedule":
        pool = service.pools.get(job.pool_id.lower())
        if pool is not None:
            pool.owner = schedule.id
            service.save_pool(pool)
    schedule.recent = job.id
    return job


def _complete(service: Service, schedule: Schedule) -> None:
    schedule.life.move("completed", transient=TRANSIENT)
    schedule.ended = schedule.life.since
    schedule.next_run = None
    service.save_schedule(schedule)


def find(service: Service, request: Request) -> Response:
    schedule = service.schedule(request.path[0])
    request.check_conditions(schedule.life.modified)
    shown = selected(request, _shown(service, schedule, request), odata.properties.JOB_SCHEDULE)
    return entity(request, "jobschedules", shown, schedule.life.modified)


def exists(service: Service, request: Request) -> Response:
    schedule = service.schedule(request.path[0])
    request.check_conditions(schedule.life.modified)
    return Response(200, b"", tagged(schedule.life.modified))


def list_all(service: Service, request: Request) -> Response:
    return answer(
        request,
        "jobschedules",
        service.schedules.values(),
        lambda schedule: schedule.id.lower(),
        view=lambda schedule: _shown(service, schedule, request),
        fields=odata.JOB_SCHEDULES,
        properties=odata.properties.JOB_SCHEDULE,
    )


def _changeable(service: Service, request: Request) -> Schedule:
    schedule = service.schedule(request.path[0])
    if schedule.life.state == "deleting":
        raise BatchError("JobScheduleBeingDeleted")
    request.check_conditions(schedule.life.modified)
    return schedule


def _open(service: Service, request: Request) -> Schedule:
    schedule = _changeable(service, request)
    if schedule.life.state == "completed":
        raise BatchError("JobScheduleCompleted")
    if schedule.life.state == "terminating":
        raise BatchError("JobScheduleBeingTerminated")
    return schedule


def update(service: Service, request: Request) -> Response:
    schedule = _open(service, request)
    changes = _clean(service, request.read(shapes.SCHEDULE_UPDATE))
    return _apply(service, request, schedule, {**schedule.spec, **changes}, "schedule" in changes)


def replace(service: Service, request: Request) -> Response:
    schedule = _open(service, request)
    body = _clean(service, request.read(shapes.SCHEDULE_REPLACE))
    kept: dict[str, Any] = {name: schedule.spec[name] for name in ("displayName",) if name in schedule.spec}
    changes: dict[str, Any] = {
        name: body[name] for name in ("schedule", "jobSpecification", "metadata") if name in body
    }
    return _apply(service, request, schedule, {**kept, "schedule": {}, **changes}, retimed=True)


def _apply(service: Service, request: Request, schedule: Schedule, spec: dict[str, Any], retimed: bool) -> Response:
    """Changes concern jobs to come; the one that runs stays as it is."""
    schedule.spec = spec
    if retimed:
        now = wire.now()
        times = spec.get("schedule", {})
        recurrence = times.get("recurrenceInterval")
        if schedule.runs == 0:
            schedule.next_run = _first_run(times, now)
        else:
            schedule.next_run = now + wire.parse_duration(recurrence) if recurrence is not None else None
    modified = schedule.life.touch()
    service.save_schedule(schedule)
    tick(service, schedule)
    return done(request, 200, modified)


def disable(service: Service, request: Request) -> Response:
    schedule = _open(service, request)
    if schedule.life.state == "disabled":
        raise BatchError("JobScheduleDisabled")
    return _enter(service, request, schedule, "disabled")


def enable(service: Service, request: Request) -> Response:
    schedule = _open(service, request)
    return _enter(service, request, schedule, "active")


def _enter(service: Service, request: Request, schedule: Schedule, state: str) -> Response:
    modified = schedule.life.touch()
    if schedule.life.state != state:
        schedule.life.move(state, transient=TRANSIENT)
    service.save_schedule(schedule)
    tick(service, schedule)
    return done(request, 204, modified)


async def terminate(service: Service, request: Request) -> Response:
    schedule = _open(service, request)
    modified = schedule.life.touch()
    schedule.life.move("terminating", transient=TRANSIENT)
    service.save_schedule(schedule)
    schedule.ending = service.spawn(finish_termination(service, schedule), f"termination of {schedule.id}")
    await service.settle(schedule.ending)
    return done(request, 202, modified)


async def finish_termination(service: Service, schedule: Schedule) -> None:
    """The schedule's running job ends with it."""
    for job in _jobs_of(service, schedule):
        if (ending := terminate_job(service, job, "TerminateWorkitem")) is not None:
            await service.ended(ending)
    _drop_pool(service, schedule)
    if schedule.life.state == "terminating":
        _complete(service, schedule)


async def delete(service: Service, request: Request) -> Response:
    schedule = _changeable(service, request)
    schedule.life.move("deleting", transient=TRANSIENT)
    service.save_schedule(schedule)
    schedule.ending = service.spawn(finish_deletion(service, schedule), f"deletion of {schedule.id}")
    await service.settle(schedule.ending)
    return Response(202)


async def finish_deletion(service: Service, schedule: Schedule) -> None:
    """All jobs of the schedule go with it."""
    if schedule.timer is not None:
        schedule.timer.cancel()
    for job in _jobs_of(service, schedule):
        if job.life.state != "deleting":
            delete_job(service, job)
        if job.ending is not None:
            await service.ended(job.ending)
    _drop_pool(service, schedule)
    service.schedules.pop(schedule.id.lower(), None)
    service.statistics.schedule_left(schedule)
    service.store.drop("schedule", schedule.id)


def _jobs_of(service: Service, schedule: Schedule) -> list[Job]:
    return [job for job in service.jobs.values() if job.schedule == schedule.id]


def _drop_pool(service: Service, schedule: Schedule) -> None:
    """An auto-pool that lives as long as its schedule goes with it."""
    automatic = schedule.spec["jobSpecification"]["poolInfo"].get("autoPoolSpecification")
    if automatic is None or automatic["keepAlive"]:
        return
    from azbatchwrap.local.batch.allocation import delete_pool

    for pool in list(service.pools.values()):
        if pool.owner == schedule.id and pool.life.state != "deleting":
            delete_pool(service, pool)
