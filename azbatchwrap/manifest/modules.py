"""Which task files of this machine a manifest needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .entries import EntryReader, Faults, suggestion
from .values import wrong_type

#: The files of a chain start with their number: ``2_task.py`` comes before ``10_task.py``.
NUMBERED = re.compile(r"(\d+)")


def chain_number(module: str) -> int | None:
    """The number a task file's name starts with, or ``None`` for a file that runs alone."""
    match = NUMBERED.match(module)
    return int(match[1][:18]) if match else None


def modules_folder(path: Path, value: object, faults: Faults) -> Path:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return path.parent / value
    if value is not None and value != "":
        faults.add("TASK_MODULES_DIRECTORY", wrong_type(value, "the path of a folder"))
    beside = path.parent / "tasks"
    return beside if beside.is_dir() else path.parent


def needed_modules(folder: Path, listed: Sequence[str], reader: EntryReader, faults: Faults) -> tuple[str, ...]:
    """The task files to deploy; a missing folder or file is a fault, with the nearest name there is."""
    wanted = dict.fromkeys(listed, "TASK_MODULES") | {
        name: f"{where}, TASK_MODULE" for name, (where, _) in reader.modules.items() if name not in listed
    }
    try:
        present = sorted(item.name for item in folder.iterdir() if item.suffix == ".py" and item.is_file())
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        faults.add("TASK_MODULES_DIRECTORY", f"the folder {str(folder)!r} cannot be read: {reason}")
        return ()
    for name, where in wanted.items():
        if name not in present:
            faults.add(where, f"there is no {name} in {str(folder)!r}{suggestion(name, present)}")
    if not listed:
        starts = [chain_number(name) for name, (_, chained) in reader.modules.items() if chained]
        first = min((number for number in starts if number is not None), default=None)
        following = [name for name in present if first is not None and (chain_number(name) or -1) > first]
        wanted |= dict.fromkeys(following, "")
    return tuple(wanted)
