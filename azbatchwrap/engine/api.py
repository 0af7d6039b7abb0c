"""The ``engine`` argument of ``do_action``: what a task file may ask for and hand in."""

# Loaded before the first do_action; what a method needs is imported when it is called.

from __future__ import annotations

import os

from .facts import OUTPUT_FOLDER, RESERVED_OUTPUTS
from .record import list_outputs, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any

    from .facts import Facts
    from .java import JavaOutput

#: Java spellings of the methods and facts, as in the first versions of this interface.
ALIASES = {
    "addFileToUpload": "add_file_to_upload",
    "dataToUpload": "data_to_upload",
    "uploadFiles": "upload_files",
    "uploadResultData": "upload_files",
    "getOutputContainer": "get_output_container",
    "readJsonConfigFile": "read_json_config_file",
    "javaRunner": "java_runner",
    "jobId": "job_id",
    "taskId": "task_id",
    "nodeId": "node_id",
    "poolId": "pool_id",
}


class Engine:
    """Facts about the running task, and the ways to hand in its outputs. Every name also has its java spelling."""

    def __init__(self, facts: Facts, attempt: int) -> None:
        self._facts = facts
        #: Which attempt this is, from 1.
        self.attempt = attempt
        #: The task file that runs now; log lines carry it.
        self.step_name = ""
        self._sources: dict[str, str] = {}
        self._log: logging.Logger | None = None

    def __getattr__(self, name: str) -> Any:
        if name in ALIASES:
            return getattr(self, ALIASES[name])
        raise AttributeError(f"the engine has no {name!r}")

    @property
    def job_id(self) -> str:
        return self._facts.job_id

    @property
    def task_id(self) -> str:
        return self._facts.task_id

    @property
    def node_id(self) -> str:
        return self._facts.node_id

    @property
    def pool_id(self) -> str:
        return self._facts.pool_id

    @property
    def index(self) -> int | None:
        """The task's place in the submission, from 0."""
        return self._facts.index

    def begin_step(self, name: str) -> None:
        """Called by the engine itself when a task file's turn comes."""
        self.step_name = name

    # -- outputs ------------------------------------------------------------------------------------------------

    def add_file_to_upload(self, path: str | os.PathLike[str], *, name: str | None = None) -> list[str]:
        """Hand in a file, a folder or every match of a glob (``**`` too).

        Paths are relative to the working folder; what is not there is looked for in the current one.
        A file keeps its own name, a folder its name and the tree below; matches of a glob keep their path below the
        pattern's first wildcard. ``name`` gives one file another name (``/`` makes folders). Returns the names below
        ``outputs/``. A file handed in again replaces its earlier state.

        Raises FileNotFoundError naming what is missing, FileExistsError when another file has the name already, and
        ValueError for a name that the service does not upload or the engine needs.
        """
        text = os.fspath(path)
        found = self._named_files(text)
        if name is not None:
            if len(found) != 1:
                raise ValueError(f"name={name!r} fits one file, and {text!r} stands for {len(found)}")
            found = [(found[0][0], name)]
        return [self._place(source, target) for source, target in found]

    def _named_files(self, text: str) -> list[tuple[str, str]]:
        """Pairs of a file and its name below the output folder."""
        for path in (os.path.join(self._facts.working_folder, text), text):
            if os.path.isdir(path):
                return _tree(path, os.path.basename(os.path.normpath(path)))
            if os.path.lexists(path):
                return [(path, os.path.basename(path))]
            if any(sign in text for sign in "*?["):
                found = _matches(path)
                if found:
                    return found
        raise FileNotFoundError(f"{text!r} cannot be uploaded: there is no such file in {self._facts.working_folder}")

    def _place(self, source: str, name: str) -> str:
        """Put one file into the output folder; returns its name there."""
        outputs = self._facts.output_folder
        source = os.path.realpath(source)
        if not os.path.isfile(source):
            raise FileNotFoundError(f"{source!r} cannot be uploaded: it is no file")
        if source.startswith(os.path.realpath(outputs) + os.sep):
            return os.path.relpath(source, os.path.realpath(outputs))
        name = _checked_name(name)
        if self._sources.setdefault(name, source) != source:
            raise FileExistsError(
                f"two files would be uploaded as {name!r}: {self._sources[name]} and {source}; "
                "give one of them another name: add_file_to_upload(path, name=...)"
            )
        target = os.path.join(outputs, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        beside = f"{target}.part"
        _link_or_copy(source, beside, link=self._is_own(source))
        os.replace(beside, target)
        if os.path.lexists(beside):
            # Renaming one link of a file over another one does nothing (POSIX), and leaves both.
            os.unlink(beside)
        return name

    def _is_own(self, source: str) -> bool:
        """Whether the file was made in this task's folder: an input, which tasks share, is copied instead."""
        return source.startswith(os.path.realpath(self._facts.working_folder) + os.sep)

    def data_to_upload(self, data: str | bytes, name: str | None = None) -> str:
        """Hand in text (as UTF-8) or bytes as a file; without ``name`` it becomes ``data_1.txt``, ``data_2.txt``, …

        Returns the name below ``outputs/``.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"data_to_upload takes text or bytes, not {type(data).__name__}")
        name = _checked_name(name if name is not None else self._free_name())
        if name in self._sources:
            raise FileExistsError(f"something is uploaded as {name!r} already; give this data another name")
        self._sources[name] = ""
        target = os.path.join(self._facts.output_folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        with open(f"{target}.part", "wb") as file:
            file.write(content)
        os.replace(f"{target}.part", target)
        return name

    def _free_name(self) -> str:
        number = 1
        while f"data_{number}.txt" in self._sources:
            number += 1
        return f"data_{number}.txt"

    def upload_files(self) -> list[str]:
        """Check that everything handed in is in place, and list it. The service uploads it when the task ends.

        Raises FileNotFoundError when a file that was handed in has been deleted from ``outputs/`` since.
        """
        present = list_outputs(self._facts.output_folder)
        missing = sorted(set(self._sources) - set(present))
        if missing:
            raise FileNotFoundError(f"handed in, but no longer in {OUTPUT_FOLDER}/: {', '.join(missing)}")
        return present

    def get_output_container(self) -> str:
        """The name of the storage container that this task's outputs go to."""
        if not self._facts.output_container:
            raise LookupError("this task was submitted without an output container")
        return self._facts.output_container

    def set_reserved_aside(self) -> list[str]:
        """Called by the engine itself at the end: [old name, new name] of an output that would hide the record."""
        for name in sorted(RESERVED_OUTPUTS):
            path = os.path.join(self._facts.output_folder, name)
            if os.path.lexists(path):
                os.rename(path, os.path.join(self._facts.output_folder, f"outputs_{name}"))
                return [name, f"outputs_{name}"]
        return []

    # -- inputs and programs ------------------------------------------------------------------------------------

    def read_json_config_file(self, name: str) -> Any:
        """The content of a JSON file among the inputs, the application's files or the task files.

        Raises FileNotFoundError naming the file, or ValueError with line and column when it is not JSON.
        """
        import json

        path = self.find_file(name)
        if path is None:
            raise FileNotFoundError(f"there is no {name!r} among the inputs, application files or task files")
        with open(path, encoding="utf-8-sig") as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise ValueError(f"{name} is not JSON: {error}") from error

    def find_file(self, name: str) -> str | None:
        """Where a file is: in the working folder (with the inputs), the application's files or the task files."""
        facts = self._facts
        folders = (facts.working_folder, facts.inputs_folder, facts.application_folder, facts.tasks_folder)
        paths = (os.path.join(folder, name) for folder in folders)
        return next((path for path in paths if os.path.isfile(path)), None)

    def java_runner(self, *words: Any, check: bool = True, timeout: float | None = None) -> JavaOutput:
        """Run a program and return all lines of its stdout, then of its stderr.

        ``words`` are the command line as a list or spread out; ``x.jar`` first means ``java -jar x.jar``, found
        among the inputs, application files or task files. ``timeout`` is in seconds.

        Raises FileNotFoundError when the program or jar is missing, JavaFailed for an exit code that is not 0
        (unless ``check`` is false: the result has ``returncode``), and subprocess.TimeoutExpired.
        """
        from .java import run_program

        return run_program(words, self.find_file, self._facts.working_folder, check=check, timeout=timeout)

    # -- log ----------------------------------------------------------------------------------------------------

    @property
    def log(self) -> logging.Logger:
        """A standard logger that writes to stderr; each line carries the time and the step."""
        if self._log is None:
            from .tasklog import make_logger

            self._log = make_logger(lambda: self.step_name)
        return self._log

    def step(self, name: str) -> AbstractContextManager[None]:
        """Name a part of the work: ``with engine.step("load"): …`` marks its log lines and logs how long it took."""
        from contextlib import contextmanager

        @contextmanager
        def part() -> Iterator[None]:
            from time import monotonic

            outer, begun = self.step_name, monotonic()
            self.step_name = f"{outer}/{name}"
            try:
                yield
                say(f"{self.step_name} took {monotonic() - begun:.3f} s")
            finally:
                self.step_name = outer

        return part()


def _tree(folder: str, name: str) -> list[tuple[str, str]]:
    """Every file below ``folder`` without a leading dot, with its path below the folder's own name."""
    found = []
    for parent, folders, entries in os.walk(folder):
        folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
        names = sorted(entry for entry in entries if not entry.startswith("."))
        below = os.path.normpath(os.path.join(name, os.path.relpath(parent, folder)))
        found += [(os.path.join(parent, entry), os.path.join(below, entry)) for entry in names]
    return found


def _matches(pattern: str) -> list[tuple[str, str]]:
    """The files a glob stands for, with their paths below the part of the pattern that has no wildcard."""
    from glob import glob

    fixed = pattern
    while any(sign in fixed for sign in "*?["):
        fixed = os.path.dirname(fixed)
    files = (path for path in sorted(glob(pattern, recursive=True)) if os.path.isfile(path))
    return [(path, os.path.relpath(path, fixed)) for path in files]


def _checked_name(name: str) -> str:
    """``name`` as a path below the output folder. Raises ValueError saying what is wrong with it."""
    clean = os.path.normpath(name) if name else ""
    parts = clean.split("/")
    if not clean or clean.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} does not name a file inside {OUTPUT_FOLDER}/")
    if any(part.startswith(".") for part in parts):
        raise ValueError(f"{name!r} would not be uploaded: the service skips names with a leading dot")
    if clean in RESERVED_OUTPUTS:
        raise ValueError(f"{name!r} is taken by the task's own record: give the output another name")
    return clean


def _link_or_copy(source: str, target: str, *, link: bool) -> None:
    """A second name for the file costs neither time nor space; a copy where that cannot be."""
    if os.path.lexists(target):
        os.unlink(target)
    if link:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    from shutil import copyfile

    copyfile(source, target)
