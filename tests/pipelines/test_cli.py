"""The command: its forms, exit codes, and what it does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from azbatchwrap.cli import batchcreate
from tests.fixtures_stack import RunningAzurite
from tests.pipelines.conftest import Driver

SUBID = "01234567-89ab-cdef-0123-456789abcdef"
HEAVY = ("azure.ai.ml", "azure.storage", "azure.identity", "opentelemetry", "rich")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = batchcreate._run(words)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["config", "template"],
        ["config", "explain", "--set", f"subid={SUBID}"],
        ["config", "check", "--set", f"subid={SUBID}"],
        ["plan", "--offline", "--set", f"subid={SUBID}"],
    ],
    ids=" ".join,
)
def test_what_asks_azure_nothing_imports_no_sdk(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom azbatchwrap.cli import batchcreate\ncode = batchcreate._run(sys.argv[1:])\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("words", [["plan"], ["apply", "--yes"]], ids=" ".join)
def test_what_writes_no_component_imports_no_azure_ai_ml(deployed: Driver, words: list[str]) -> None:
    code = (
        "import sys\nfrom azbatchwrap.cli import batchcreate\ncode = batchcreate._run(sys.argv[1:])\n"
        "print('azure.ai.ml' in sys.modules)\nsys.exit(code)"
    )
    command = [sys.executable, "-c", code, *words, "--config", str(deployed.file)]
    done = subprocess.run(command, env=deployed.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_without_the_sdk_nothing_is_made(driver: Driver) -> None:
    code = (
        "import sys\nsys.modules['azure.ai.ml'] = None\nfrom azbatchwrap.cli import batchcreate\n"
        "sys.exit(batchcreate._run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "apply", "--yes", "--config", str(driver.file)]
    done = subprocess.run(command, env=driver.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'azbatchwrap[aml]'" in done.stderr
    assert driver.planned()["resource group"] == "create"


@pytest.mark.parametrize("verb", sorted(batchcreate.cli.commands))
def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert "Example" in out or verb == "config"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "subid is missing"),
        (["-config", "none.json"], "none.json cannot be read"),
        (["-config"], "-key value pairs"),
        (["-worskpace", "x"], "did you mean workspace?"),
        (["-subid", SUBID, "-batch_vm_min", "many"], "whole number"),
        (["plan", "--set", "workspace"], "KEY=VALUE"),
        (["plan", "--set", "wrong=1"], "there is no key wrong"),
        (["paln"], "No such command"),
        (["plan", "--nonsense"], "No such option"),
        (["apply", "x.json", "--config", "y.json"], "leave --config"),
    ],
    ids=str,
)
def test_every_error_is_exit_code_1(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = run(capsys, *words)
    assert code == 1
    assert said in err
    assert out == ""


def test_offline_plans_say_what_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", "--offline", "--json", "--detailed-exitcode", "--set", f"subid={SUBID}")
    assert code == 0
    changes = json.loads(out)["changes"]
    assert {each["action"] for each in changes} == {"unknown"}
    compute = next(each for each in changes if each["resource"] == "compute")
    assert {"path": "properties.properties.scaleSettings.maxNodeCount", "before": None, "after": 2} in compute[
        "differences"
    ]


def test_the_template_is_written_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "config", "template", "new.json")[0] == 0
    assert set(json.loads((tmp_path / "new.json").read_text())) >= {"subid", "batch_vm_min", "schedule_interval"}
    code, _, err = run(capsys, "config", "template", "new.json")
    assert (code, "exists already" in err) == (1, True)


def test_explain_names_the_layer_of_each_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZBATCHWRAP_AML_WORKSPACE", "of-environment")
    _, out, _ = run(capsys, "config", "explain", "--json", "--set", f"subid={SUBID}", "--set", "batch_vm_max=7")
    found = json.loads(out)
    assert found["workspace"] == {"value": "of-environment", "from": "environment: AZBATCHWRAP_AML_WORKSPACE"}
    assert found["batch_vm_max"] == {"value": 7, "from": "flag: -batch_vm_max"}
    assert found["image"]["from"] == "default"


def test_an_azure_that_does_not_answer_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", "https://127.0.0.1:9/metadata/endpoints")
    code, _, err = run(capsys, "plan", "--set", f"subid={SUBID}")
    assert code == 1
    assert "does not answer" in err
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", "http://127.0.0.1:9/metadata/endpoints")
    assert "must begin with https" in run(capsys, "plan", "--set", f"subid={SUBID}")[2]


def test_nobody_is_asked_without_a_terminal(deployed: Driver) -> None:
    deployed.edit(tags={"asked": "nobody"})
    assert "use --yes" in deployed.on("apply").err
    assert "use --yes" in deployed.on("destroy").err


def test_a_run_leaves_a_log_with_every_step_and_no_secret(deployed: Driver, azurite: RunningAzurite) -> None:
    deployed.edit(batch_vm_max=3)
    file = deployed.folder / "run.json"
    said = deployed.on("apply", "--yes", "--log", str(file))
    assert said.code == 0
    assert re.search(r"update    compute \(batchscoring\): done in \d", said.err)
    log = json.loads(file.read_text())
    assert (log["type"], log["command"], log["outcome"]) == ("batch-scoring", "apply", "done")
    assert [(each["step"], each["action"], each["outcome"]) for each in log["steps"]] == [("compute", "update", "done")]
    assert log["info"]["scoring_uri"].startswith("https://")
    assert log["configuration"]["batch_vm_max"] == 3
    assert azurite.key not in file.read_text() + said.out + said.err


def test_outputs_are_for_programs(deployed: Driver) -> None:
    found = deployed.on("outputs", "--json").json
    assert found["deployment"] == found["default_deployment"] == "scoring"
    assert found["component_version"].startswith("h-")
    assert found["scoring_uri"] in deployed.on("outputs").out


def test_use_before_apply_says_so(driver: Driver) -> None:
    for verb in ("invoke", "outputs", "status"):
        said = driver.on(verb)
        assert said.code == 1
        assert "batchcreate" in said.err or "could not be found" in said.err or "not found" in said.err
