"""The service processes of an instance: started apart from this process, recognised later, ended gracefully.

A service writes ``listening.json`` (``{"pid": …}`` and its ports) once it answers. That file is all that is kept of it:
a process is the service it names when it lives and has the service's data folder on its command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.progress import NullProgress, Progress

#: How often a file or process is looked at while waiting for it (seconds).
POLL = 0.01
#: A log larger than this (bytes) is moved to ``<name>.1``, which takes the place of the one before.
LOG_LIMIT = 5 * 1024 * 1024
#: After this long without the lock the user is told who is waited for, and after that long it is given up (seconds).
LOCK_PATIENCE, LOCK_TIMEOUT = 2.0, 900.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service process: how it is called, where it says that it answers, and the words that identify it."""

    name: str
    listening: Path
    log: Path
    #: This argument is on the command line of the process, and of no other program's.
    mark: str

    def listens(self) -> Mapping[str, int] | None:
        """What ``listening.json`` says, if the process that wrote it still lives."""
        said = self.last_heard()
        return said if said is not None and _is_running(said["pid"], self.mark) else None

    def last_heard(self) -> Mapping[str, int] | None:
        """What ``listening.json`` says, whether or not that process lives."""
        try:
            said = json.loads(self.listening.read_bytes())
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) and isinstance(said.get("pid"), int) else None


def spawn(service: Service, command: Sequence[str], *, folder: Path, stdin: bytes = b"") -> subprocess.Popen[bytes]:
    """Start ``command`` in ``folder`` in a session of its own, its output appended to the service's log."""
    service.listening.unlink(missing_ok=True)
    service.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate(service.log)
    descriptor = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    assert process.stdin is not None
    # A process that ends at once says why in its log; that its input was not read is not the news.
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(stdin)
    return process


def wait_until_listening(service: Service, process: subprocess.Popen[bytes], timeout: float) -> Mapping[str, int]:
    """Wait (seconds) for ``listening.json``. ConfigurationError with the end of the log when it does not come."""
    deadline = time.monotonic() + timeout
    while True:
        said = service.last_heard()
        if said is not None:
            return said
        if process.poll() is not None:
            raise ConfigurationError(
                f"{service.name} ended at once with exit code {process.returncode}. The end of {service.log}:\n"
                f"{tail(service.log, 12)}"
            )
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"{service.name} does not answer after {timeout:.0f} s. The end of {service.log}:\n{tail(service.log, 12)}"
            )
        time.sleep(POLL)


def end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a process started here, by force after ``grace`` seconds."""
    process.terminate()
    try:
        process.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_gone(service: Service, timeout: float) -> None:
    """Wait (seconds) for a service that was killed a moment ago to give up its ports."""
    said = service.last_heard()
    if said is not None:
        _gone(said["pid"], service.mark, timeout)


def stop(service: Service, grace: float) -> bool:
    """End the service, if it lives. Returns whether it ended by itself within ``grace`` seconds (else it was killed)."""
    said = service.listens()
    if said is None:
        return True
    pid = said["pid"]
    _signal(pid, signal.SIGTERM)
    if _gone(pid, service.mark, grace):
        return True
    _signal(pid, signal.SIGKILL)
    if not _gone(pid, service.mark, grace):
        raise ConfigurationError(f"{service.name} (process {pid}) cannot be ended: end it by hand and try again")
    return False


def tail(path: Path, lines: int) -> str:
    """The last ``lines`` lines of a log, as far as they lie in its last 64 KiB; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def rotate(log: Path) -> None:
    """Bound a log: its content moves to ``<name>.1``. The file itself stays, since a process may be writing to it."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size <= LOG_LIMIT:
            return
        kept = log.with_name(f"{log.name}.1")
        kept.write_bytes(log.read_bytes()[-LOG_LIMIT:])
        kept.chmod(0o600)
        os.truncate(log, 0)


@contextlib.contextmanager
def exclusive(path: Path, progress: Progress | None = None) -> Iterator[None]:
    """Hold the lock file ``path``: what needs it in other processes waits. Released when this process dies."""
    progress = progress or NullProgress()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, path, progress)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, progress: Progress) -> None:
    started = time.monotonic()
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - started
            if waited > LOCK_TIMEOUT:
                raise ConfigurationError(f"another azbatchwrap has held {path} for {waited:.0f} s: end it") from None
            if waited > LOCK_PATIENCE and not told:
                told = True
                progress.message(f"waiting for another azbatchwrap that works on {path.parent} …")
            time.sleep(POLL * 5)
        else:
            return


def _is_running(pid: int, mark: str) -> bool:
    """Whether ``pid`` lives and has the argument ``mark`` (a zombie has no arguments any more)."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child, when the instance was started from this very process
    return mark in _arguments(pid)


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return []


def _is_ending(pid: int) -> bool:
    """Whether ``pid`` has given up its memory, and its arguments with it, but perhaps not yet its ports.

    A zombie has, unless it is the first of several threads: the others may still be ending.
    """
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_bytes().rpartition(b")")[2].split()[0]
        threads = len(os.listdir(process / "task"))  # noqa: PTH208  iterdir fails differently when the folder vanishes
    except OSError:
        return False
    return (state not in {b"Z", b"X"} or threads > 1) and not any(_arguments(pid))


def _gone(pid: int, mark: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while _is_running(pid, mark) or _is_ending(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
