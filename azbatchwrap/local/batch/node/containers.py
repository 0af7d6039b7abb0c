"""Container tasks: run by podman or docker, whichever answers, with the node's folders where tasks expect them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap.local.batch.node import failures
from azbatchwrap.local.batch.node.records import USER_ERROR, Failure, TaskFailure

log = logging.getLogger(__name__)

ENGINES = ("podman", "docker")
#: Seconds in which an engine must answer, and in which it must have removed a container.
PROBE_SECONDS = 60.0
REMOVE_SECONDS = 60.0
#: Seconds that fetching an image may take.
PULL_SECONDS = 1800.0
#: What an engine needs of the service's own environment: where it keeps its things and how it reaches registries.
ENGINE_SETTINGS = ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")
ENGINE_PREFIXES = ("CONTAINERS_", "CONTAINER_", "DOCKER_", "STORAGE_")
#: Variables of a task that mean this machine and not the container.
_OF_THE_MACHINE = frozenset({"PATH", "HOME", "TMPDIR"})
#: Folders of ``containerHostBatchBindMounts``, below the node's root.
_SOURCES = {"Shared": "shared", "Startup": "startup", "VfsMounts": "fsmounts", "Applications": "applications"}
_LABEL = "azbatchwrap"


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is about to run: its name, and the process that runs it."""

    name: str
    words: Sequence[str]
    environment: Mapping[str, str]


class Containers:
    """The container engine of this machine. The containers of one data folder carry a label that tells them apart."""

    def __init__(self, environment: Mapping[str, str], data_dir: Path) -> None:
        self._environment = {
            name: value
            for name, value in environment.items()
            if name in ENGINE_SETTINGS or name.startswith(ENGINE_PREFIXES) or name.lower().endswith("_proxy")
        }
        self._mark = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        #: There once a container has run: until then nothing can be left over.
        self._has_run = data_dir / "containers-have-run"
        self._engine: str | None = None
        self._lock = asyncio.Lock()

    async def prepare(self, settings: Mapping[str, Any], command: Sequence[str], task: TaskPlace) -> Container:
        """What runs ``command`` in the image that ``containerSettings`` name. Raises TaskFailure."""
        engine = await self._find()
        if engine is None:
            # Running the command outside would be kinder than Azure: the image's files are part of the task.
            raise TaskFailure(
                failures.launch_failed(
                    "the task asks for a container, and neither podman nor docker answers on this node"
                )
            )
        await self._fetch(engine, settings["imageName"])
        await asyncio.to_thread(self._has_run.touch)
        name = f"azbatchwrap-{secrets.token_hex(8)}"
        words = [engine, "run", "--rm", "--name", name, "--label", f"{_LABEL}={self._mark}", "--pull", "never"]
        further = shlex.split(settings.get("containerRunOptions") or "")
        if not any(word.startswith(("--network", "--net")) for word in further):
            words += ["--network", "host"]  # the local services answer on this machine's loopback alone
        words += [f"--volume={volume}" for volume in _volumes(settings, task)]
        if settings.get("workingDirectory", "taskWorkingDirectory") == "taskWorkingDirectory":
            words += ["--workdir", f"{task.folder}/wd"]
        inside = {name: value for name, value in task.environment.items() if name not in _OF_THE_MACHINE}
        # Values travel in the engine's environment: a command line is there for all to see.
        words += [f"--env={name}" for name in inside]
        return Container(name, [*words, *further, settings["imageName"], *command], {**inside, **self._environment})

    async def remove(self, name: str) -> None:
        """A container whose engine was killed lives on: end it. One that is gone is no error."""
        if self._engine is not None:
            at_once = ("--time=0",) if self._engine == "podman" else ()  # docker does not wait
            await self._ask(self._engine, "rm", "--force", "--volumes", *at_once, name, seconds=REMOVE_SECONDS)

    async def remove_leftovers(self) -> None:
        """Containers of this data folder that outlived the last service."""
        if not self._has_run.exists():
            return
        engine = await self._find()
        if engine is None:
            return
        status, names = await self._ask(
            engine, "ps", "--all", "--quiet", "--filter", f"label={_LABEL}={self._mark}", seconds=PROBE_SECONDS
        )
        for name in names.split() if status == 0 else ():
            log.warning("removing the container %s, which outlived the last service", name)
            await self.remove(name)

    async def _find(self) -> str | None:
        """The engine that answers; looked for until there is one."""
        async with self._lock:
            for engine in ENGINES if self._engine is None else ():
                status, _ = await self._ask(engine, "info", seconds=PROBE_SECONDS)
                if status == 0:
                    self._engine = engine
                    break
        return self._engine

    async def _fetch(self, engine: str, image: str) -> None:
        status, _ = await self._ask(engine, "image", "inspect", "--format", "{{.Id}}", image, seconds=PROBE_SECONDS)
        if status == 0:
            return
        status, said = await self._ask(engine, "pull", "--quiet", image, seconds=PULL_SECONDS)
        if status != 0:
            details = (("ImageName", image), ("Message", said.strip()[-500:]))
            message = "One or more container images specified are invalid"
            raise TaskFailure(Failure(USER_ERROR, "ContainerInvalidImage", message, details))

    async def _ask(self, *words: str, seconds: float) -> tuple[int, str]:
        """Exit status and output of a command of the engine; 127 when it is not there."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            return 127, str(error)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return 124, f"{words[0]} {words[1]} took longer than {seconds:g} s"
        return process.returncode or 0, output.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where a task lies on its node, and its environment."""

    root: Path
    folder: Path
    environment: Mapping[str, str]


def _volumes(settings: Mapping[str, Any], task: TaskPlace) -> list[str]:
    """The node's whole root, under its own name; with ``containerHostBatchBindMounts`` only what they name."""
    mounts = settings.get("containerHostBatchBindMounts")
    if mounts is None:
        return [f"{task.root}:{task.root}"]
    found = []
    for mount in mounts:
        source = mount.get("source", "")
        if source in _SOURCES:
            path = task.root / _SOURCES[source]
        elif source == "JobPrep":
            path = Path(task.environment.get("AZ_BATCH_JOB_PREP_DIR") or task.folder)
        else:
            path = task.folder
        found.append(f"{path}:{path}{':ro' if mount.get('isReadOnly') else ''}")
    return found
