"""Job preparation and release: lays a deployment out on the node once, under a lock, and lets go of it again."""

from __future__ import annotations

import errno
import json
import os
import py_compile
import re
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from .download import DownloadError, Downloads, adopt
from .facts import LAYOUT_FILE
from .node_folder import NAME_PATTERN, RESERVED_NAMES, NodeFolder, is_whole
from .packages import PackagesError, install_packages
from .record import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: In place of the files' address: the node's agent has put them beside deployment.json, into ``content/``.
BROUGHT = "brought"
ROLES = frozenset({"inputs", "tasks", "app"})
HASH_PATTERN = re.compile(r"[0-9a-f]{64}\Z")
#: Room (bytes) that must be left on the disk after the downloads, for what tasks write.
ROOM_TO_SPARE = 64 << 20

#: Run by the task's shell with ``.``; $azbw_python and the folder are the node's own. No process is started before
#: the interpreter takes this one's place.
RUN_FRAGMENT = """\
# Starts one task of this deployment. Made by the job preparation task.
azbw_python={python}
[ -x "$azbw_python" ] || azbw_python=python3
{environment}exec "$azbw_python" "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/{deployment}/engine/__main__.py" run
"""
VENV_ENVIRONMENT = """\
VIRTUAL_ENV={venv} PATH={venv}/bin:$PATH
export VIRTUAL_ENV PATH
"""


class PrepareError(Exception):
    """The node cannot be prepared; the message says why and what to do."""


def prepare() -> int:
    """Lay out the deployment that the environment names. Exit code 1, with the reason on stderr, when it fails."""
    try:
        order = _Order(os.environ, Path.cwd())
        with order.node.locked():
            _prepare(order)
    except (PrepareError, DownloadError, PackagesError) as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _refuse(f"the disk of the node's shared folder is full: {error}")
        return _refuse(str(error))
    return 0


def release() -> int:
    """Drop the job's lease on its deployment."""
    try:
        order = _Names(os.environ)
    except PrepareError as error:
        return _refuse(str(error))
    with order.node.locked():
        order.node.release(order.deployment, order.job)
    return 0


def _refuse(reason: str) -> int:
    say(f"this node cannot be prepared: {reason}")
    return 1


class _Names:
    """Which deployment and job, and the node's folder."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.deployment = _required(environment, "AZBATCHWRAP_DEPLOYMENT")
        self.job = _required(environment, "AZ_BATCH_JOB_ID")
        self.node = NodeFolder(Path(_required(environment, "AZ_BATCH_NODE_SHARED_DIR")))
        for name in (self.deployment, self.job):
            if not NAME_PATTERN.match(name) or name in RESERVED_NAMES:
                raise PrepareError(f"{name!r} cannot be the name of a deployment or job")


class _Order(_Names):
    """What is to be laid out: the content of deployment.json, checked."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(environment)
        self.files_url = _required(environment, "AZBATCHWRAP_FILES_URL")
        self.brought = folder / "content"
        try:
            listed = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
            self.files: list[dict[str, Any]] = [_checked(entry) for entry in listed["files"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PrepareError(f"deployment.json cannot be used: {error}") from error
        self.requirements: str | None = listed.get("requirements")

    @property
    def sizes(self) -> dict[str, int]:
        """Blob -> its size in bytes."""
        return {entry["sha256"]: entry["size"] for entry in self.files}

    def names(self, role: str) -> list[str]:
        """The files of a role, relative to its folder."""
        return [entry["path"].split("/", 1)[1] for entry in self.files if entry["path"].startswith(f"{role}/")]

    def requirements_name(self) -> str:
        """Which input is the requirements.txt."""
        paths = (entry["path"] for entry in self.files if entry["sha256"] == self.requirements)
        found: str | None = next(paths, None)
        if found is None:
            raise PrepareError("deployment.json names requirements that are not among its files")
        return found


def _required(environment: Mapping[str, str], variable: str) -> str:
    if not environment.get(variable):
        raise PrepareError(f"the environment setting {variable} is missing")
    return environment[variable]


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """A file of a deployment. Raises ValueError for a path that leaves its folder."""
    text, sha256 = entry["path"], entry["sha256"]
    path = PurePosixPath(text)
    if len(path.parts) < 2 or path.parts[0] not in ROLES or ".." in path.parts or "\0" in text or str(path) != text:
        raise ValueError(f"{text!r} is no path below inputs/, tasks/ or app/")
    if not HASH_PATTERN.match(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256")
    return {"path": text, "sha256": sha256, "size": int(entry["size"])}


def _prepare(order: _Order) -> None:
    """Lay out the order's deployment unless it is there, whole. The caller holds the node's lock."""
    node = order.node
    node.lease(order.deployment, order.job)
    try:
        node.sweep(set(order.sizes), order.requirements)
        final = node.deployment(order.deployment)
        if not _is_whole(order, final):
            _fetch(order)
            _lay_out(order, final)
    except BaseException:
        node.release(order.deployment, order.job)
        raise
    say(f"deployment {order.deployment} is ready with {len(order.files)} files")


def _is_whole(order: _Order, final: Path) -> bool:
    """Whether the deployment is there and no task has damaged its files or taken its environment away."""
    if not (final / "run").is_file() or not all(
        is_whole(final / entry["path"], entry["size"]) for entry in order.files
    ):
        return False
    return order.requirements is None or (order.node.venv(order.requirements) / "complete").is_file()


def _fetch(order: _Order) -> None:
    """Download the blobs that the node lacks."""
    missing = {sha256: size for sha256, size in order.sizes.items() if not is_whole(order.node.blob(sha256), size)}
    total = sum(missing.values())
    room = shutil.disk_usage(order.node.root).free
    if total + ROOM_TO_SPARE > room:
        raise PrepareError(f"the files need {total >> 20} MiB, and the node's disk has {room >> 20} MiB left")
    for sha256 in missing:
        # A damaged blob may still be linked from a deployment; a new file under its name leaves that one alone.
        order.node.blob(sha256).unlink(missing_ok=True)
    if order.files_url == BROUGHT:
        adopt(order.brought, order.node.blobs, missing)
    else:
        Downloads(order.files_url, order.node.blobs).fetch_all(missing)
    say(f"fetched {len(missing)} files, {total} bytes")


def _lay_out(order: _Order, final: Path) -> None:
    """Build the deployment's folder beside its place, then rename it there."""
    building = final.with_name(f".{order.deployment}.building")
    if building.exists():
        shutil.rmtree(building)
    for role in sorted(ROLES):
        (building / role).mkdir(parents=True)
    for entry in order.files:
        target = building / entry["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(order.node.blob(entry["sha256"]), target)
    _unpack_engine(building / "engine")
    _compile(building)
    python = _install(order, building)
    venv = order.requirements
    layout = {"version": 1, "inputs": order.names("inputs"), "blobs": sorted(order.sizes), "venv": venv}
    (building / LAYOUT_FILE).write_text(json.dumps(layout), encoding="utf-8")
    (building / "run").write_text(_run_fragment(order, python), encoding="utf-8")
    _put_in_place(building, final)


def _put_in_place(building: Path, final: Path) -> None:
    """Rename; a damaged deployment in the way is moved aside first (tasks that run keep the files they opened)."""
    aside = building.with_suffix(".damaged")
    if final.exists():
        say(f"{final.name} was there with files missing or changed; it is laid out anew")
        final.rename(aside)
    building.rename(final)
    shutil.rmtree(aside, ignore_errors=True)


def _unpack_engine(target: Path) -> None:
    """Copy this engine, archive or folder, to where tasks start it."""
    package = Path(__file__).resolve().parent
    source = package.parent
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    with zipfile.ZipFile(source) as archive:
        archive.extractall(target)


def _compile(building: Path) -> None:
    """Byte-compile the engine and the task files once, instead of in every task. Modules of app/ stay as they are."""
    for path in sorted((building / "engine").rglob("*.py")) + sorted((building / "tasks").rglob("*.py")):
        try:
            py_compile.compile(str(path), doraise=True)
        except py_compile.PyCompileError as error:
            say(f"{path.name} does not compile, tasks that run it will fail: {error.msg.strip()}")


def _install(order: _Order, building: Path) -> Path | None:
    """The interpreter of the virtual environment for the requirements, or of the pool's; None for the node's own."""
    if order.requirements is None:
        return Path(sys.executable) if Path(sys.prefix) == order.node.pool_environment else None
    venv = order.node.venv(order.requirements)
    return install_packages(venv, building / order.requirements_name())


def _run_fragment(order: _Order, python: Path | None) -> str:
    from shlex import quote

    environment = "" if python is None else VENV_ENVIRONMENT.format(venv=quote(str(python.parent.parent)))
    interpreter = quote(str(python or sys.executable))
    return RUN_FRAGMENT.format(python=interpreter, environment=environment, deployment=order.deployment)
