"""Where a node lies on this machine: its folders and its Python."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: Folders at the top of every node, as Azure Batch lays them out on Linux.
TOP_FOLDERS = ("applications", "fsmounts", "shared", "startup", "volatile", "workitems")
#: Azure Batch puts this constant level between a job's folder and its tasks'.
JOB_LEVEL = "job-1"
#: A socket's path has at most 107 characters (unix(7)); ``multiprocessing`` puts its own some 35 below TMPDIR.
LONGEST_TEMPORARY = 68


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One simulated node. ``root`` is ``<data>/nodes/<pool>/<node>``; ``python_bin`` comes first on its PATH."""

    root: Path
    python_bin: Path

    @property
    def temporary(self) -> Path:
        """TMPDIR of the node, beside ``nodes`` under a short name; below the system's own where that is too long."""
        short = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]
        beside = self.root.parents[2] / "t" / short
        if len(os.fsencode(beside)) <= LONGEST_TEMPORARY:
            return beside
        return Path(tempfile.gettempdir()) / f"azbatchwrap-{os.getuid()}" / short

    @property
    def home(self) -> Path:
        return self.root / "volatile" / "home"


@dataclass(frozen=True, slots=True)
class NodeFolders:
    """All folder names of a node."""

    place: NodePlace

    def create(self) -> None:
        """Make the node's folders; what is there stays."""
        for name in TOP_FOLDERS:
            (self.place.root / name).mkdir(parents=True, exist_ok=True)
        self.place.home.mkdir(exist_ok=True)
        temporary = self.place.temporary
        temporary.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if temporary.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{temporary.parent} belongs to somebody else; set TMPDIR to a folder of your own")
        temporary.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Delete everything the node holds, as a reimage or a removal does."""
        shutil.rmtree(self.place.root, ignore_errors=True)
        shutil.rmtree(self.place.temporary, ignore_errors=True)

    @property
    def shared(self) -> Path:
        return self.place.root / "shared"

    @property
    def startup(self) -> Path:
        return self.place.root / "startup"

    @property
    def volatile(self) -> Path:
        return self.place.root / "volatile"

    @property
    def workitems(self) -> Path:
        return self.place.root / "workitems"

    @property
    def applications(self) -> Path:
        return self.place.root / "applications"

    @property
    def fsmounts(self) -> Path:
        return self.place.root / "fsmounts"

    def job_folder(self, job_id: str) -> Path:
        return self.workitems / job_id

    def task_folder(self, job_id: str, task_id: str) -> Path:
        """Also for preparation and release tasks, whose ids are those of their specification."""
        return self.workitems / job_id / JOB_LEVEL / task_id

    def start_task_folder(self) -> Path:
        return self.startup


def make_node_python(folder: Path) -> Path:
    """Make a virtual environment without packages in ``folder`` and return its ``bin``.

    It holds links only and is written in a millisecond, where the ``venv`` module needs a second. It works on
    the interpreter this process was installed from, so the user's packages are out of a task's reach.
    """
    base = Path(getattr(sys, "_base_executable", None) or sys.executable)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    (folder / "lib" / f"python{version}" / "site-packages").mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3", f"python{version}"):
        _link(bin_folder / name, base)
    settings = (
        f"home = {base.parent}\ninclude-system-site-packages = false\n"
        f"version = {'.'.join(map(str, sys.version_info[:3]))}\nexecutable = {base}\n"
    )
    beside = folder / f".pyvenv.cfg.{os.getpid()}"
    beside.write_text(settings)
    beside.replace(folder / "pyvenv.cfg")
    return bin_folder


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)
