"""Starts, reaps and kills task processes, through one small process that lives beside the service."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from azbatchwrap.local.batch.node import process_helper
from azbatchwrap.local.batch.node.containers import Containers
from azbatchwrap.local.batch.node.records import Usage

log = logging.getLogger(__name__)

_HELPER = Path(process_helper.__file__)


class StartFailed(Exception):
    """A process could not be started. ``step`` is folder, program or execute; ``errno`` the system's reason."""

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(f"{step}: {os.strerror(errno)}")
        self.step = step
        self.errno = errno


class HostLost(Exception):
    """The helper process died, and all tasks with it. What ran is to be run again, as after a node's recovery."""


class ProcessHandle:
    """One running process: leader of its session and group. ``pid`` is also the group's number."""

    __slots__ = ("_exit", "_host", "_key", "ended_because", "pid", "start_time", "started", "usage")

    def __init__(self, host: ProcessHost, key: bytes, pid: int, start_time: int, started: int) -> None:
        self._host = host
        self._key = key
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pid = pid
        #: Clock ticks since boot; together with ``pid`` it names the process for ever.
        self.start_time = start_time
        #: When it was started, in nanoseconds since 1970.
        self.started = started
        #: Set by :meth:`kill`: why the process was ended, for the task's failure information.
        self.ended_because: str | None = None
        #: What it took, once it is over.
        self.usage: Usage | None = None

    async def wait(self) -> int:
        """The exit code once the process is over; 128 + n when signal n ended it. May be awaited by many."""
        return await asyncio.shield(self._exit)

    async def kill(self, grace: float = 0.0, because: str = "the task was terminated") -> int:
        """End the whole process group: SIGTERM, then SIGKILL after ``grace`` seconds. Returns the exit code."""
        if not self._exit.done():
            self.ended_because = self.ended_because or because
        if grace > 0:
            self._host.signal(self._key, signal.SIGTERM)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                return await asyncio.wait_for(self.wait(), grace)
        self._host.signal(self._key, signal.SIGKILL)
        return await self.wait()

    def finish(self, exit_code: int, usage: Usage) -> None:
        self.usage = usage
        if not self._exit.done():
            self._exit.set_result(exit_code)

    def lose(self) -> None:
        if not self._exit.done():
            self._exit.set_exception(HostLost("the process that runs tasks died"))
            self._exit.exception()  # nobody has to be waiting


class ProcessHost:
    """The service's end of the helper process. Start it once; a helper that dies is replaced at the next spawn.

    At most ``limit`` queued processes run at a time; 0 is no limit.
    """

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._keys = itertools.count(1)
        self._starting: dict[bytes, asyncio.Future[ProcessHandle]] = {}
        self._running: dict[bytes, ProcessHandle] = {}
        self._link: _Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()
        #: What runs container tasks; None where none may.
        self.containers: Containers | None = None

    @property
    def pid(self) -> int | None:
        """The helper's process id."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the helper, unless it runs."""
        async with self._lock:
            if self._link is None:
                await self._start()

    async def _start(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)  # it closed its socket: it is ending
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - once, and it takes a millisecond
                [sys.executable, "-I", "-S", str(_HELPER), str(self._limit)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        _, self._link = await loop.create_unix_connection(lambda: _Link(self), sock=ours)

    async def close(self) -> None:
        """Kill every task and end the helper."""
        link, process = self._link, self._process
        if link is None or process is None:
            return
        link.transport.close()
        self._forget(link)
        await asyncio.to_thread(process.wait, 10)

    async def spawn(
        self, argv: Sequence[str], folder: Path, environment: Mapping[str, str], *, is_queued: bool = False
    ) -> ProcessHandle:
        """Start ``argv`` in ``folder/wd`` with its output in ``folder/stdout.txt`` and ``folder/stderr.txt``.

        Missing folders are made. ``is_queued`` waits until fewer than the host's limit run. Raises StartFailed, HostLost, and ValueError for a NUL character.
        """
        if self._link is None:
            await self.start()
        assert self._link is not None
        key = b"%d" % next(self._keys)
        entries = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        words = [os.fsencode(word) for word in argv]
        self._link.send(
            b"queue" if is_queued else b"spawn", key, os.fsencode(folder), b"%d" % len(words), *words, *entries
        )
        started: asyncio.Future[ProcessHandle] = asyncio.get_running_loop().create_future()
        self._starting[key] = started
        try:
            return await started
        except asyncio.CancelledError:
            if self._link is not None and key in self._starting:
                self._link.send(b"drop", key)
            else:
                self.signal(key, signal.SIGKILL)  # it started, and nobody was told in time
            raise

    def signal(self, key: bytes, number: int) -> None:
        """Send a signal to the group of a running task; nothing happens when it is over."""
        if self._link is not None and key in self._running:
            self._link.send(b"kill", key, b"%d" % number)

    def _heard(self, verb: bytes, key: bytes, facts: Sequence[bytes]) -> None:
        if verb == b"exited":
            status, *usage = map(int, facts)
            self._running.pop(key).finish(exit_code(status), Usage(*usage))
            return
        started = self._starting.pop(key)
        if verb == b"failed":
            if not started.cancelled():
                started.set_exception(StartFailed(facts[0].decode(), int(facts[1])))
            return
        handle = ProcessHandle(self, key, *map(int, facts))
        self._running[key] = handle
        if started.cancelled():
            self.signal(key, signal.SIGKILL)  # nobody wants it any more
        else:
            started.set_result(handle)

    def _forget(self, link: _Link) -> None:
        if self._link is not link:
            return
        self._link = None
        lost, self._running = self._running, {}
        unstarted, self._starting = self._starting, {}
        kill_orphans((handle.pid, handle.start_time) for handle in lost.values())
        for handle in lost.values():
            handle.lose()
        for started in unstarted.values():
            if not started.cancelled():
                started.set_exception(HostLost("the process that runs tasks died"))


class _Link(asyncio.Protocol):
    """Frames over the socket to the helper; see ``process_helper`` for their form."""

    transport: asyncio.Transport

    def __init__(self, host: ProcessHost) -> None:
        self._host = host
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        log.debug("the process host's socket closed: %s", exc)
        self._host._forget(self)  # noqa: SLF001 - two halves of one thing

    def send(self, *fields: bytes) -> None:
        frame = b"\0".join(fields)
        if frame.count(b"\0") != len(fields) - 1:
            raise ValueError("a command line or an environment setting holds a NUL character")
        self.transport.write(len(frame).to_bytes(4, "big") + frame)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        start = 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > len(data):
                break
            verb, key, *facts = data[start + 4 : end].split(b"\0")
            self._host._heard(verb, key, facts)  # noqa: SLF001 - as above
            start = end
        self._unread = data[start:]


def exit_code(wait_status: int) -> int:
    """The exit code a task reports: that of ``exit``, or 128 + n for signal n, as a shell on a Linux node says."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def kill_orphans(records: Iterable[tuple[int, int]]) -> list[int]:
    """Kill the process groups that a service which died left running; return their numbers.

    ``records`` are (pid, start time) as the handles had them. A number that another process has by now is
    recognised by its start time and left alone.
    """
    killed = []
    for pid, started in records:
        if started <= 0 or process_helper.start_time(pid) != started:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def kill_leftovers(nodes: Path) -> list[int]:
    """Kill every process that was started as a task of a node below ``nodes``; return their ids.

    Finds what :func:`kill_orphans` has no record of: tasks whose start was not written down before the service
    died, and daemons that left their task's group. They are known by ``AZ_BATCH_NODE_ROOT_DIR`` in the
    environment they were started with. For a service that starts or stops, when no task may be running.
    """
    mark = b"\0AZ_BATCH_NODE_ROOT_DIR=" + os.fsencode(nodes) + b"/"
    killed = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            if mark in b"\0" + (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(int(entry.name))
    return killed
