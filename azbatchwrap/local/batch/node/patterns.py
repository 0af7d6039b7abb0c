"""Output file patterns: which files of a task they name, and what each is called below its destination."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_WILDCARDS = re.compile(r"[*?\[]")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Match:
    """A file that a pattern names. ``name`` is relative to the pattern's folder part, with slashes."""

    path: Path
    name: str


def has_wildcard(pattern: str) -> bool:
    return _WILDCARDS.search(pattern) is not None


def expand_variables(pattern: str, environment: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced by the task's settings; unknown names stay as they are."""
    return _VARIABLE.sub(lambda found: environment.get(found[1] or found[2], found[0]), pattern)


def find(pattern: str, working: Path) -> Iterator[Match]:
    """The regular files that ``pattern`` names, seen from the folder ``working``, each once.

    ``*``, ``?``, ``[abc]`` and ``[!abc]`` match within a name, ``**`` any number of folders. A name with a
    leading dot is matched only by a pattern part with one. ``**`` does not follow links to folders.
    """
    if not has_wildcard(pattern):
        path = working / pattern
        if path.is_file():
            yield Match(path, path.name)
        return
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    fixed = next(position for position, part in enumerate(parts) if has_wildcard(part))
    base = working.joinpath("/" if pattern.startswith("/") else "", *parts[:fixed])
    seen = set()
    for name in _names(base, "", _collapse(parts[fixed:])):
        if name not in seen:
            seen.add(name)
            yield Match(base / name, name)


def _collapse(parts: list[str]) -> list[str]:
    """Neighbouring ``**`` mean one; a last one means all files below."""
    kept = [part for position, part in enumerate(parts) if part != "**" or parts[position - 1 : position] != ["**"]]
    return [*kept, "*"] if kept[-1] == "**" else kept


def _names(folder: Path, below: str, parts: list[str]) -> Iterator[str]:
    head, *rest = parts
    if head == "**":
        yield from _names(folder, below, rest)
    for entry in _entries(folder):
        name = below + entry.name
        if head == "**":
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _names(folder / entry.name, f"{name}/", parts)
        elif not _fits(entry.name, head):
            continue
        elif rest:
            if entry.is_dir():
                yield from _names(folder / entry.name, f"{name}/", rest)
        elif entry.is_file():
            yield name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _fits(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))
