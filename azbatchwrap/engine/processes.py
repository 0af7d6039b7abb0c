"""Ends what a task has started, as /proc of Linux shows it."""

# Called from a signal handler of the engine's lean parent process: no pathlib.

from __future__ import annotations

import os
import signal

#: A process that forks while it is being killed may need a second look, but not an endless one.
LOOKS = 10


def kill_descendants() -> None:
    """Kill (SIGKILL) every descendant of this process, and of its group or session when it leads one."""
    for _ in range(LOOKS):
        found = _descendants()
        if not found:
            return
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _descendants() -> list[int]:
    """Living descendants; those whose parents have gone are known by the group or session this process leads."""
    own = os.getpid()
    family = {own}
    processes = sorted(_processes())
    found: list[int] = []
    grown = True
    while grown:
        grown = False
        for process, parent, group, session in processes:
            if process not in family and (parent in family or own in (group, session)):
                family.add(process)
                found.append(process)
                grown = True
    return found


def _processes() -> list[tuple[int, int, int, int]]:
    """Id, parent, group and session of every process that is not a zombie."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                text = file.read()
        except OSError:
            continue
        # The name in brackets may hold anything, so the fields are counted from its last bracket.
        state, parent, group, session = text[text.rindex(b")") + 1 :].split()[:4]
        if state not in (b"Z", b"X"):
            found.append((int(entry), int(parent), int(group), int(session)))
    return found
