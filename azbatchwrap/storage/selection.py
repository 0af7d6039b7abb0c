"""Which files a user means by paths, folders and patterns, and what each is called on a node.

The rule for names: a lone file keeps its base name; a file of a folder is called ``folder/rest``; a file found by a
pattern is called by its path below the part of the pattern that has no wildcard (``data/*/a.csv`` gives ``x/a.csv``).
Where two names collide, both get as many of their parent folders in front as it takes to tell them apart
(``a/x.txt`` and ``b/x.txt``); the files of one folder move together. The order of adding changes nothing.

Task files are different: they are found on the node by base name, so a folder's files lie at the top
and a collision is an error.
"""

from __future__ import annotations

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from azbatchwrap import names
from azbatchwrap.errors import ConfigurationError

#: What Python leaves beside source files is never anybody's input.
_SKIPPED_FOLDERS = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one addition found: files by their names, which move together when they collide with others."""

    #: Folders above the names, from the root down; empty when the user chose the name.
    parents: tuple[str, ...]
    files: Mapping[str, Path]

    def named(self, depth: int) -> Iterator[tuple[str, Path]]:
        """The files under their names with ``depth`` parent folders in front."""
        front = "".join(f"{folder}/" for folder in self.parents[len(self.parents) - depth :])
        for name, path in self.files.items():
            yield front + name, path


class Selection:
    """The files of one role, in the order in which they were added. ``flat`` is the rule for task files."""

    def __init__(self, *, flat: bool = False) -> None:
        self._flat = flat
        self._units: list[_Unit] = []
        self._known: set[tuple[tuple[str, ...], tuple[tuple[str, Path], ...]]] = set()

    def add(self, given: str | os.PathLike[str], name: str | None = None) -> None:
        """Adds a file, a folder with everything below it, or all matches of a pattern.

        Raises ConfigurationError naming what is missing, unreadable or not a file.
        """
        try:
            unit = self._found(os.fspath(given), None if name is None else _checked(name))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read {os.fspath(given)!r}: {error}") from error
        identity = (unit.parents, tuple(unit.files.items()))
        if identity not in self._known:
            self._known.add(identity)
            self._units.append(unit)

    def _found(self, text: str, name: str | None) -> _Unit:
        if not text:
            raise ConfigurationError("an empty path names no file; the current folder is '.'")
        path = Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - resolve() would follow links
        if path.is_dir():
            return self._folder(path, name)
        if os.path.lexists(path) or not glob.has_magic(text):
            parents = path.parent.parts[1:] if name is None else ()
            return _Unit(parents, {name or path.name: _readable(path)})
        return _pattern(path, name)

    def _folder(self, path: Path, name: str | None) -> _Unit:
        front = name if name is not None else ("" if self._flat else path.name)
        files = {f"{front}/{rest}" if front else rest: file for rest, file in _below(path)}
        if not files:
            raise ConfigurationError(f"the folder {path} holds no files")
        return _Unit(path.parent.parts[1:] if name is None else (), files)

    def files(self) -> dict[str, Path]:
        """Every file by its name on a node. Raises ConfigurationError for a collision that no rule solves."""
        depths = [0] * len(self._units)
        while True:
            taken, clashes = self._place(depths)
            if not clashes:
                return taken
            movable = [
                unit for unit in sorted(clashes) if not self._flat and depths[unit] < len(self._units[unit].parents)
            ]
            if not movable:
                raise ConfigurationError(self._clash(clashes, depths))
            for unit in movable:
                depths[unit] += 1

    def _place(self, depths: list[int]) -> tuple[dict[str, Path], set[int]]:
        """The files under their names at these depths, and the units that want the same name or lie in each other."""
        owners: defaultdict[str, set[int]] = defaultdict(set)
        taken: dict[str, Path] = {}
        clashes: set[int] = set()
        for number, unit in enumerate(self._units):
            for name, path in unit.named(depths[number]):
                if taken.setdefault(name, path) != path:
                    clashes |= owners[name] | {number}
                owners[name].add(number)
        for name in taken:
            for folder in PurePosixPath(name).parents:
                # A file cannot lie in a place where another file is.
                if str(folder) in taken:
                    clashes |= owners[name] | owners[str(folder)]
        return taken, clashes

    def _clash(self, clashes: set[int], depths: list[int]) -> str:
        wanted = [pair for number in sorted(clashes) for pair in self._units[number].named(depths[number])]
        by_name: defaultdict[str, list[Path]] = defaultdict(list)
        for name, path in wanted:
            by_name[name].append(path)
        name, paths = max(by_name.items(), key=lambda item: len(item[1]))
        listed = " and ".join(str(path) for path in paths)
        return f"{listed} would have the same name on a node, {name!r}: give one of them another name"


def _checked(name: str) -> str:
    try:
        return str(names.safe_relative(name))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _pattern(path: Path, name: str | None) -> _Unit:
    fixed = path
    # Brackets and the like also stand in names of folders that are there.
    while not fixed.is_dir():
        fixed = fixed.parent
    rest = str(path.relative_to(fixed))
    files: dict[str, Path] = {}
    # Unlike Path.glob, this leaves out hidden files unless the pattern names them, as a shell does.
    for match in sorted(glob.glob(rest, root_dir=fixed, recursive=True)):  # noqa: PTH207
        below = fixed / match
        if not below.is_dir():
            files[match] = _readable(below)
        elif "**" not in rest:  # with `**` a folder's files match by themselves
            files.update((f"{match}/{inner}", file) for inner, file in _below(below))
    if name is not None:
        files = {f"{name}/{inner}": file for inner, file in files.items()}
    if not files:
        raise ConfigurationError(f"no file matches {path}")
    return _Unit(fixed.parts[1:] if name is None else (), files)


def _below(folder: Path, seen: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Every file below ``folder`` with its path from there, sorted. Links are followed, but not in circles."""
    try:
        facts = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigurationError(f"cannot read the folder {folder}: {error.strerror}") from error
    here = (facts.st_dev, facts.st_ino)
    if here in seen:
        return
    for entry in entries:
        if not entry.is_dir():
            yield entry.name, _readable(folder / entry.name)
        elif entry.name not in _SKIPPED_FOLDERS:
            for rest, file in _below(folder / entry.name, seen | {here}):
                yield f"{entry.name}/{rest}", file


def _readable(path: Path) -> Path:
    """``path`` when it is a file that can be read. A pipe or device would never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no file or folder {path}") from error
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"{path} is not a regular file")
    if not os.access(path, os.R_OK):
        raise ConfigurationError(f"cannot read {path}: permission denied")
    return path
