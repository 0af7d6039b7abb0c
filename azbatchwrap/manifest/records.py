"""What the readers give: one record for each task, and the manifest they come from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .values import JSON


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task to submit. ``index`` is its place in the submission, from 0; ``timeout`` is in seconds.

    ``args`` are the words of the input, split already. ``chain`` asks for the numbered files after ``module`` too
    (a file without a number runs alone in any case). ``inputs`` limits which input files the task sees (``None``:
    all). ``retries`` counts attempts after the first.
    """

    index: int
    id: str | None
    module: str
    args: tuple[JSON, ...] = ()
    chain: bool = True
    inputs: tuple[str, ...] | None = None
    retries: int = 0
    timeout: float | None = None
    slots: int = 1
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest. ``records`` is a tuple, or for a table a collection that reads it anew when iterated.

    ``modules`` are the names of the task files to deploy, all present in ``modules_directory``. ``input_paths`` are
    the input files, folders and patterns that the manifest names, as they are reached from here.
    """

    records: Collection[TaskRecord]
    modules: tuple[str, ...]
    modules_directory: Path | None
    output_container: str | None
    source: str
    input_paths: tuple[str, ...] = ()

    @property
    def module_paths(self) -> tuple[Path, ...]:
        """The task files on this machine."""
        folder = self.modules_directory or Path()
        return tuple(folder / name for name in self.modules)
