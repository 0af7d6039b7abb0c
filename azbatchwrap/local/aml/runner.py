"""Runs jobs on this machine: code and inputs come from the storage account, outputs and logs go back to it."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import assets
from azbatchwrap.local.aml.packages import PackagesFailed, Pythons
from azbatchwrap.local.aml.places import Place, UnknownAddress, default_output, locate
from azbatchwrap.local.aml.plan import PlanError, Step, fill
from azbatchwrap.local.arm.errors import ArmError
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.batch.node import HostLost, ProcessHandle, ProcessHost, kill_leftovers, network_settings

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

log = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where logs lie: the container and the folder of one job.
LOG_CONTAINER, LOG_FOLDER = "azureml", "ExperimentRun/dcid.{}/user_logs"
LOG_FILE = "std_log.txt"
#: A cancelled command gets so many seconds to end by itself.
GRACE_SECONDS = 3.0


class StepFailed(Exception):
    """A step did not do its work: a code and a sentence for the job's record."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a step needs to know of its job. ``child`` is the name under which it runs."""

    workspace: ResourceId
    job: str
    child: str
    experiment: str
    #: (step, output) -> address, of the steps before.
    made: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class _Folders:
    """The folders of one running step; ``shell`` is the same place under a name that needs no quotes."""

    real: Path
    shell: Path

    @property
    def work(self) -> Path:
        return self.real / "wd"


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a step's references lead to: an input is a text or a place, an output an address and its place."""

    environment: Mapping[str, Any] | None
    code: Place | None
    inputs: Mapping[str, str | Place]
    outputs: Mapping[str, tuple[str, Place]]


class Runner:
    """Runs steps, some at a time."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.folder = arm.settings.data_dir / "jobs"
        self.blobs = arm.blobs
        self._network = network_settings(os.environ)
        self._pythons = Pythons(arm.settings.data_dir / "environments", self._network)
        self._host = ProcessHost()
        self._places = asyncio.Semaphore(arm.settings.max_processes)
        self._shell_folder = self.folder
        self._temporary: Path | None = None

    async def start(self) -> None:
        """End what a killed service left running."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kill_leftovers(self.folder)
        if shlex.quote(str(self.folder)) != str(self.folder):
            self._temporary = Path(tempfile.mkdtemp(prefix="azbatchwrap-"))
            self._shell_folder = self._temporary / "jobs"
            self._shell_folder.symlink_to(self.folder)

    async def stop(self) -> None:
        await self._host.close()
        kill_leftovers(self.folder)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def run(self, step: Step, ticket: Ticket) -> dict[str, str]:
        """Run one step; returns where its outputs went. Raises StepFailed; cancelled, it ends the command."""
        async with self._places:
            folders = _Folders(self.folder / ticket.child, self._shell_folder / ticket.child)
            try:
                return await self._run(step, ticket, folders)
            finally:
                await asyncio.shield(asyncio.to_thread(self._finish, folders, ticket))

    async def _run(self, step: Step, ticket: Ticket, folders: _Folders) -> dict[str, str]:
        try:
            needs = self._look_up(step, ticket)
            path, values = await asyncio.to_thread(self._prepare, step, needs, folders)
            command = fill(step.command, values)
            variables = {name: fill(str(value), values) for name, value in step.variables.items()}
        except (PlanError, PackagesFailed, UnknownAddress, FileNotFoundError, ArmError, ValueError) as error:
            raise StepFailed("UserError", str(error)) from error
        environment = self._environment(ticket, folders, path, values) | variables
        argv = ["/bin/bash", "-c", f"exec 2>&1\n{command}"]
        try:
            handle = await self._host.spawn(argv, folders.real, environment)
            code = await self._wait(handle)
        except HostLost as error:
            raise StepFailed("SystemError", str(error)) from error
        if code:
            raise StepFailed("UserError", f"Execution failed. User process exited with status code {code}.")
        await asyncio.to_thread(self._store_outputs, step, needs, folders)
        return {name: address for name, (address, _) in needs.outputs.items()}

    def _look_up(self, step: Step, ticket: Ticket) -> _Needs:
        """Everything about the step that the state knows. Raises UnknownAddress, ArmError."""
        workspace = ticket.workspace
        inputs: dict[str, str | Place] = {}
        for name, given in step.inputs.items():
            address = ticket.made[given.step_output] if given.step_output is not None else given.text
            is_direct = not given.is_file or given.mode.lower() == "direct"
            inputs[name] = address if is_direct else locate(self._arm, workspace, address)
        outputs = {}
        for name, wanted in step.outputs.items():
            address = wanted.address or default_output(ticket.child, name)
            outputs[name] = (address, locate(self._arm, workspace, address))
        environment = None
        if step.environment:
            environment = assets.find_version(self._arm, workspace, step.environment)["properties"]
        code = locate(self._arm, workspace, step.code) if step.code else None
        return _Needs(environment, code, inputs, outputs)

    @staticmethod
    async def _wait(handle: ProcessHandle) -> int:
        try:
            return await handle.wait()
        except asyncio.CancelledError:
            await asyncio.shield(handle.kill(GRACE_SECONDS, "the job was cancelled"))
            raise

    # In threads

    def _prepare(self, step: Step, needs: _Needs, folders: _Folders) -> tuple[Path, dict[str, str]]:
        """Lay out the step's folders; returns the Python's folder and what the command's references stand for."""
        shutil.rmtree(folders.real, ignore_errors=True)
        for folder in (folders.work, folders.real / "home", folders.real / "tmp"):
            folder.mkdir(parents=True)
        path = self._pythons.bin_for(needs.environment)
        if needs.code is not None:
            self.blobs.download(needs.code.container, needs.code.path, folders.work)
        values = {}
        for name, source in needs.inputs.items():
            values[f"inputs.{name}"] = str(source)
            if isinstance(source, Place):
                target = self.blobs.download(source.container, source.path, folders.real / "inputs" / name)
                values[f"inputs.{name}"] = str(folders.shell / target.relative_to(folders.real))
        for name, wanted in step.outputs.items():
            (folders.real / "outputs" / name).mkdir(parents=True)
            shown = folders.shell / "outputs" / name
            values[f"outputs.{name}"] = str(shown / name if wanted.is_file else shown)
        return path, values

    def _environment(self, ticket: Ticket, folders: _Folders, path: Path, values: Mapping[str, str]) -> dict[str, str]:
        """Nothing of this machine's user: what Azure's nodes set, and the settings that reach the network."""
        workspace = ticket.workspace
        given = {
            f"AZURE_ML_{kind[:-1].upper()}_{name}": value
            for (kind, name), value in ((key.split(".", 1), value) for key, value in values.items())
        }
        return {
            "PATH": f"{path}:{SYSTEM_PATH}",
            "HOME": str(folders.real / "home"),
            "TMPDIR": str(folders.real / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONNOUSERSITE": "1",
            **self._network,
            "AZ_BATCH_NODE_ROOT_DIR": str(folders.real),
            "AZUREML_ARM_SUBSCRIPTION": workspace.subscription,
            "AZUREML_ARM_RESOURCEGROUP": workspace.group,
            "AZUREML_ARM_WORKSPACE_NAME": workspace.name,
            "AZUREML_EXPERIMENT_NAME": ticket.experiment,
            "AZUREML_RUN_ID": ticket.child,
            "AZUREML_ROOT_RUN_ID": ticket.job,
            **given,
        }

    def _store_outputs(self, step: Step, needs: _Needs, folders: _Folders) -> None:
        for name, (_, place) in needs.outputs.items():
            source = folders.real / "outputs" / name
            if step.outputs[name].is_file:
                source /= name
                if not source.is_file():
                    raise StepFailed("UserError", f"The command left no file for its output {name}.")
            self.blobs.upload(source, place.container, place.path)

    def _finish(self, folders: _Folders, ticket: Ticket) -> None:
        """Keep the log, and free the disk of the rest."""
        written = folders.real / "stdout.txt"
        try:
            if written.exists():
                self.blobs.upload(written, LOG_CONTAINER, f"{LOG_FOLDER.format(ticket.child)}/{LOG_FILE}")
        except Exception:
            log.exception("the log of %s cannot be stored", ticket.child)
        for name in ("wd", "inputs", "outputs", "home", "tmp"):
            shutil.rmtree(folders.real / name, ignore_errors=True)
