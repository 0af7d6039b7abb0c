"""One attempt of a task on a node, from its folder to its last uploaded file."""

from __future__ import annotations

from collections.abc import Callable

from azbatchwrap.local.batch.node.process_host import ProcessHandle, ProcessHost
from azbatchwrap.local.batch.node.records import Launch, Outcome
from azbatchwrap.local.batch.node.transfers import Transfers


async def run(
    launch: Launch, host: ProcessHost, transfers: Transfers, on_started: Callable[[ProcessHandle], None]
) -> Outcome:
    """Run ``launch`` and say how it ended; never raises for what a task can do wrong.

    ``on_started`` is called once the process runs; its handle's ``kill`` ends the task with TaskEnded.
    Cancelling the coroutine kills the process, uploads nothing and leaves the record to the caller.
    Raises HostLost when the helper process died: run the task again.
    """
    raise NotImplementedError
