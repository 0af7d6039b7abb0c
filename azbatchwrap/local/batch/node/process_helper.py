"""The small process that starts and reaps tasks. It is run by its path, isolated, with the standard library only.

It reads frames from its standard input, a socket to the service, and answers there. A frame is four bytes of
length (big-endian) and fields joined by NUL, for neither arguments nor environment strings can hold one:

    spawn   id folder argc argument… NAME=value…   ->   started id pid start-time time   |   failed id step errno
    queue   as spawn, but no more than the limit at a time; the next begins as soon as one of them ends
    drop    id                                     ->   failed id dropped 0, if it was still in the queue
    kill    id signal                              ->   (nothing; the exit follows)
                                                   ->   exited id wait-status wall user kernel read written memory

``time`` is in nanoseconds since 1970. What a process took, with the children it waited for: three times in
microseconds, bytes read from and written to disk, and the bytes of its largest resident size.
The limit is the only argument; 0 is none. Tasks get the null device in the socket's place. When the socket closes,
the service is gone: every task's process group is killed, and the helper ends.
"""
# pathlib, contextlib and the like would double the size of this process and the time of each start.
# ruff: noqa: PTH102, PTH103, PTH113, PTH118, PTH123, SIM105

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import sys
import time

SOCKET = 0
#: Steps of a start that can fail.
FOLDER, PROGRAM, EXECUTE = b"folder", b"program", b"execute"
_READ_SIZE = 1 << 18
#: Nanoseconds of a clock tick, the unit of start times.
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
#: Linux counts the input and output of a process in blocks of this many bytes.
_BLOCK = 512
#: Signals that mean in a task what they mean at a login, whatever the service's parents ignored.
_DEFAULTS = tuple(number for number in range(1, 32) if number not in {signal.SIGKILL, signal.SIGSTOP})
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class StartError(Exception):
    """A task could not be started: at which ``step``, and the system's reason."""

    def __init__(self, step: bytes, reason: int) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason


class Helper:
    """All tasks of this machine. One thread, no waiting but in ``poll``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queued: dict[bytes, list[bytes]] = {}
        self.counted: set[bytes] = set()
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.pids: dict[bytes, int] = {}
        self.tasks: dict[int, bytes] = {}
        #: When each process began, in nanoseconds of the monotonic clock.
        self.began: dict[int, int] = {}
        self.unread = b""
        self.answers: list[bytes] = []
        self.leaving = False
        self.woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGTERM, self._leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def serve(self) -> None:
        poll = select.poll()
        poll.register(SOCKET, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while not self.leaving:
            ready = dict(poll.poll())
            if self.woken in ready:
                os.read(self.woken, _READ_SIZE)
            if SOCKET in ready:
                self.read()
            self.reap()
            self.start_queued()
            self.flush()
        self.end_all()

    def read(self) -> None:
        try:
            arrived = os.read(SOCKET, _READ_SIZE)
        except ConnectionError:
            arrived = b""
        if not arrived:
            self.leaving = True
            return
        data = self.unread + arrived
        start = 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > len(data):
                break
            self.obey(data[start + 4 : end].split(b"\0"))
            start = end
        self.unread = data[start:]

    def obey(self, fields: list[bytes]) -> None:
        verb, task = fields[0], fields[1]
        if verb == b"kill":
            if task in self.pids:
                _kill_group(self.pids[task], int(fields[2]))
            return
        if verb == b"drop":
            if self.queued.pop(task, None) is not None:
                self.answer(b"failed", task, b"dropped", b"0")
            return
        if verb == b"queue" and self.limit:
            self.queued[task] = fields
            self.start_queued()
            return
        self.start(task, fields)

    def start_queued(self) -> None:
        while self.queued and len(self.counted) < self.limit:
            task = next(iter(self.queued))
            self.counted.add(task)
            self.start(task, self.queued.pop(task))

    def start(self, task: bytes, fields: list[bytes]) -> None:
        began, moment = time.monotonic_ns(), time.time_ns()
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK
        try:
            pid = spawn(fields[2], fields[4 : 4 + int(fields[3])], fields[4 + int(fields[3]) :], self.null)
        except StartError as problem:
            self.counted.discard(task)
            self.answer(b"failed", task, problem.step, b"%d" % problem.reason)
            return
        self.pids[task] = pid
        self.tasks[pid] = task
        self.began[pid] = began
        # Within one tick the clock tells the start time; asking /proc takes as long as starting the process.
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK
        started = before if before == after else start_time(pid)
        self.answer(b"started", task, b"%d" % pid, b"%d" % started, b"%d" % moment)

    def reap(self) -> None:
        while self.tasks:
            # The dead leader is left in place until its group is killed: its number cannot be taken meanwhile.
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            _kill_group(dead.si_pid, signal.SIGKILL)
            _, status, took = os.wait4(dead.si_pid, 0)
            task = self.tasks.pop(dead.si_pid, None)
            if task is not None:
                del self.pids[task]
                self.counted.discard(task)
                wall = (time.monotonic_ns() - self.began.pop(dead.si_pid)) // 1000
                self.answer(b"exited", task, *(b"%d" % number for number in (status, wall, *_usage(took))))

    def answer(self, *fields: bytes) -> None:
        frame = b"\0".join(fields)
        self.answers.append(len(frame).to_bytes(4, "big") + frame)

    def flush(self) -> None:
        data = memoryview(b"".join(self.answers))
        self.answers.clear()
        try:
            while data:
                data = data[os.write(SOCKET, data) :]
        except OSError:
            self.leaving = True

    def end_all(self) -> None:
        for pid in self.tasks:
            _kill_group(pid, signal.SIGKILL)

    def _leave(self, _number: int, _frame: object) -> None:
        self.leaving = True


def spawn(folder: bytes, argv: list[bytes], environment: list[bytes], null: int) -> int:
    """Start ``argv`` in the task folder ``folder`` as the leader of a new session; return its process id."""
    settings = dict(entry.split(b"=", 1) for entry in environment)
    streams: list[int] = []
    try:
        enter(folder)
        streams.append(os.open(b"../stdout.txt", _WRITE, 0o644))
        streams.append(os.open(b"../stderr.txt", _WRITE, 0o644))
    except OSError as problem:
        _close(streams)
        raise StartError(FOLDER, problem.errno or errno.EIO) from problem
    try:
        program = find_program(argv[0], settings.get(b"PATH", b""))
        return os.posix_spawn(
            program,
            argv,
            settings,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate((null, *streams))],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTS,
        )
    except (OSError, ValueError) as problem:  # ValueError: a name without letters, an empty program
        raise StartError(EXECUTE, getattr(problem, "errno", None) or errno.EINVAL) from problem
    finally:
        _close(streams)


def enter(folder: bytes) -> None:
    """Make the task folder with its ``wd``, unless they are there, and go into ``wd``."""
    working = folder + b"/wd"
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        pass
    try:
        os.mkdir(working)
    except FileExistsError:
        pass
    os.chdir(working)


def find_program(name: bytes, path: bytes) -> bytes:
    """The file that ``name`` means: itself when it holds a slash, else the first executable on ``path``."""
    if b"/" in name:
        if os.path.isfile(name):
            return name
        raise StartError(PROGRAM, errno.ENOENT)
    for folder in path.split(b":"):
        candidate = os.path.join(folder, name)
        if folder and os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise StartError(PROGRAM, errno.ENOENT)


def start_time(pid: int) -> int:
    """Field 22 of ``/proc/<pid>/stat``: clock ticks from boot to the process's start, 0 when it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 1 :].split()[19])


def _usage(took: resource.struct_rusage) -> tuple[int, int, int, int, int]:
    """As `exited` tells it: user and kernel time, bytes read and written, largest resident size."""
    user, kernel = int(took.ru_utime * 1e6), int(took.ru_stime * 1e6)
    return user, kernel, took.ru_inblock * _BLOCK, took.ru_oublock * _BLOCK, took.ru_maxrss * 1024


def _kill_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _ignore(_number: int, _frame: object) -> None:
    """A handler must exist for the signal to wake ``poll``."""


if __name__ == "__main__":
    Helper(int(sys.argv[1])).serve()
