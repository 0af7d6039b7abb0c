"""Fixtures: `batchcreate` in this process, with a configuration of the test's own, against Azure on this machine."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.cli import batchcreate
from azbatchwrap.pipelines import context as contexts
from azbatchwrap.pipelines import settings
from azbatchwrap.pipelines.context import Context
from tests.fixtures_aml import AdminRoutes, AmlStack, ArmProcess, use

SUBSCRIPTION = "00000000-0000-4000-8000-00000000a4a1"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Driver:
    """A folder with a configuration, and `batchcreate` run on it."""

    folder: Path
    #: The variables that lead to it.
    environment: dict[str, str]
    admin: AdminRoutes
    capsys: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        return self.folder / "batchconfiguration.json"

    @property
    def group(self) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{self.values()['resourceGroup']}"

    @property
    def workspace(self) -> str:
        return f"{self.group}/providers/Microsoft.MachineLearningServices/workspaces/{self.values()['workspace']}"

    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def edit(self, **keys: Any) -> None:
        self.file.write_text(json.dumps(self.values() | keys))

    def run(self, *words: str) -> Said:
        """`batchcreate WORDS` as it stands."""
        self.capsys.readouterr()
        code = batchcreate._run(words)
        said = self.capsys.readouterr()
        return Said(code, said.out, said.err)

    def on(self, verb: str, *words: str) -> Said:
        """A verb on the configuration."""
        return self.run(verb, "--config", str(self.file), *words)

    def apply(self, *words: str) -> Said:
        said = self.on("apply", "--yes", "--json", *words)
        assert said.code == 0, said.err
        return said

    def planned(self, *words: str) -> dict[str, str]:
        """Resource -> action, of those that change."""
        said = self.on("plan", "--json", *words)
        assert said.code == 0, said.err
        return {each["resource"]: each["action"] for each in said.json["changes"] if each["action"] != "no change"}

    def connect(self) -> Context:
        """The library's context for the configuration, with no pauses."""
        return contexts.connect(settings.load(self.file), self.environment, pause=lambda _: None)

    def resources(self) -> dict[str, str]:
        """Everything in the group: address -> kind; empty when the group is gone."""
        context = self.connect()
        try:
            if context.arm.find(self.group, "2022-09-01") is None:
                return {}
            listed = context.arm.pages(f"{self.group}/resources", "2022-09-01")
            return {str(each["id"]).lower(): str(each["type"]) for each in listed}
        finally:
            context.close()


def lay_out(folder: Path) -> None:
    """Names of its own, a script and data that may be edited."""
    token = secrets.token_hex(4)
    (folder / "batch").mkdir()
    for name in ("batch.py", "data.txt"):
        (folder / "batch" / name).write_bytes((settings.SCORING_FOLDER / name).read_bytes())
    values = {
        "subid": SUBSCRIPTION,
        "resourceGroup": f"group-{token}",
        "workspace": f"space{token}",
        "source_container": f"source-{token}",
        "result_container": f"result-{token}",
        "score_script": "batch/batch.py",
        "data": "batch/data.txt",
    }
    (folder / "batchconfiguration.json").write_text(json.dumps(values))


@contextmanager
def driving(
    folder: Path, stack: AmlStack | ArmProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Driver]:
    """`batchcreate` led to ``stack``, without faults at the end."""
    use(stack.environment, monkeypatch)
    monkeypatch.setenv("AZBATCHWRAP_HOME", str(folder / "home"))
    yield Driver(folder, dict(os.environ), stack.admin, capsys)
    stack.admin.clear_faults()


@pytest.fixture
def driver(
    tmp_path: Path, arm: ArmProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Driver]:
    """A configuration that nothing was made of yet."""
    lay_out(tmp_path)
    with driving(tmp_path, arm, monkeypatch, capsys) as driver:
        yield driver


@pytest.fixture
def local_driver(
    tmp_path: Path, aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Driver]:
    """The same on an instance as `azbatchwrap local up --aml` starts it."""
    lay_out(tmp_path)
    with driving(tmp_path, aml_stack, monkeypatch, capsys) as driver:
        yield driver


@pytest.fixture(scope="session")
def deployed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    lay_out(folder)
    return folder


@pytest.fixture
def deployed(
    deployed_folder: Path, arm: ArmProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Driver]:
    """One that was applied, shared by the tests of a worker: its files are put back after each."""
    file, inside = deployed_folder / "batchconfiguration.json", (deployed_folder / "batch").glob("*.*")
    before = {path: path.read_bytes() for path in (file, *inside)}
    with driving(deployed_folder, arm, monkeypatch, capsys) as driver:
        driver.apply("--allow-replace")
        yield driver
    for path, content in before.items():
        path.write_bytes(content)
