"""One attempt of a task on a node, from its folder to its last uploaded file."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from azbatchwrap.local.batch.node import failures
from azbatchwrap.local.batch.node.command_line import split_command_line
from azbatchwrap.local.batch.node.containers import Container, TaskPlace
from azbatchwrap.local.batch.node.process_host import HostLost, ProcessHandle, ProcessHost, StartFailed
from azbatchwrap.local.batch.node.records import Failure, Launch, Outcome, Stage, TaskFailure
from azbatchwrap.local.batch.node.transfers import Transfers

#: Seconds between SIGTERM and SIGKILL when a task's wall-clock time is over.
WALL_CLOCK_GRACE = 2.0
#: Limits beyond this many seconds (30 years) are none: timers do not hold Azure Batch's default of 29,000 years.
_NO_LIMIT = 30 * 365 * 86_400.0
_OVER_TIME = "its wall-clock time was over"


async def run(
    launch: Launch, host: ProcessHost, transfers: Transfers, on_started: Callable[[ProcessHandle], None]
) -> Outcome:
    """Run ``launch`` and say how it ended; never raises for what a task can do wrong.

    ``on_started`` is called once the process runs; its handle's ``kill`` ends the task with TaskEnded.
    Cancelling the coroutine kills the process, uploads nothing and leaves the record to the caller.
    Raises HostLost when the helper process died: run the task again.
    """
    started = _now()
    limit = launch.wall_clock if launch.wall_clock is not None and launch.wall_clock < _NO_LIMIT else None
    deadline = None if limit is None else asyncio.get_running_loop().time() + limit
    container: Container | None = None
    try:
        if launch.container is not None:
            container = await _contain(launch, host)
        handle = await _prepare_and_start(launch, host, transfers, limit, container)
    except TaskFailure as problem:
        return Outcome(started, _now(), failure=problem.failure, stage=Stage.PREPARATION)
    on_started(handle)
    try:
        exit_code = await _wait(handle, deadline)
    finally:
        if container is not None and host.containers is not None:
            await asyncio.shield(host.containers.remove(container.name))
    failure = _command_failure(handle, exit_code)
    upload_failure = None
    if launch.output_files:
        upload_failure = await transfers.upload(
            launch.output_files,
            launch.folder,
            launch.environment,
            succeeded=failure is None,
            identities=launch.identities,
        )
    stage = Stage.COMMAND if failure else Stage.UPLOAD if upload_failure else None
    return Outcome(started, _now(), exit_code, failure or upload_failure, stage, upload_failure, handle.usage)


async def _contain(launch: Launch, host: ProcessHost) -> Container:
    """The container that the task asks for. Raises TaskFailure."""
    if host.containers is None or launch.container is None:
        raise TaskFailure(
            failures.launch_failed("the task asks for a container, and this node has no container engine")
        )
    root = Path(launch.environment["AZ_BATCH_NODE_ROOT_DIR"])
    try:
        words = split_command_line(launch.command_line)
        return await host.containers.prepare(
            launch.container, words, TaskPlace(root, launch.folder, launch.environment)
        )
    except ValueError as problem:
        raise TaskFailure(failures.launch_failed(str(problem))) from problem


async def _prepare_and_start(
    launch: Launch, host: ProcessHost, transfers: Transfers, limit: float | None, container: Container | None
) -> ProcessHandle:
    try:
        words = container.words if container is not None else split_command_line(launch.command_line)
        environment = container.environment if container is not None else launch.environment
        if launch.resource_files:
            download = transfers.download(launch.resource_files, launch.folder / "wd", launch.identities)
            await asyncio.wait_for(download, limit)
        return await host.spawn(words, launch.folder, environment, is_queued=launch.is_queued)
    except StartFailed as problem:
        raise TaskFailure(_start_failure(problem, words[0], launch)) from problem
    except ValueError as problem:
        raise TaskFailure(failures.launch_failed(str(problem))) from problem
    except (TimeoutError, asyncio.TimeoutError) as problem:
        raise TaskFailure(failures.ended(_OVER_TIME)) from problem


def _start_failure(problem: StartFailed, program: str, launch: Launch) -> Failure:
    if problem.step == "program":
        return failures.program_not_found(program)
    if problem.step == "folder":
        reason = OSError(problem.errno, os.strerror(problem.errno))
        return failures.disk(reason, "ResourceDirectoryCreateFailed", launch.folder.name)
    if problem.errno == errno.E2BIG:
        return failures.launch_failed("the command line and the environment settings together are too long")
    return failures.launch_failed(f"{program}: {os.strerror(problem.errno)}")


async def _wait(handle: ProcessHandle, deadline: float | None) -> int:
    """The exit code of the process, which is killed at ``deadline`` and when the waiter is cancelled."""
    try:
        if deadline is None:
            return await handle.wait()
        remaining = max(0.0, deadline - asyncio.get_running_loop().time())
        return await asyncio.wait_for(handle.wait(), remaining)
    except (TimeoutError, asyncio.TimeoutError):
        return await handle.kill(WALL_CLOCK_GRACE, _OVER_TIME)
    except asyncio.CancelledError:
        with contextlib.suppress(HostLost):
            await handle.kill()
        raise


def _command_failure(handle: ProcessHandle, exit_code: int) -> Failure | None:
    if handle.ended_because is not None:
        return failures.ended(handle.ended_because)
    return failures.exit_code(exit_code) if exit_code else None


def _now() -> datetime:
    return datetime.now(timezone.utc)
