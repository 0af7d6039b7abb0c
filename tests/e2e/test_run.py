"""The main job from the command line, over the real services on this machine."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from azbatchwrap.cli.main import main
from tests.fixtures_stack import LocalStack
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
DEADLINE = 45.0

FLAKY = """
import pathlib
def do_action(engine, flag, word):
    print("looking for", flag)
    if not pathlib.Path(flag).exists():
        raise LookupError(f"{word}: the flag is not there")
    return word
"""
SLOW = """
import pathlib, time
def do_action(engine, stop):
    print("started", flush=True)
    while not pathlib.Path(stop).exists():
        time.sleep(0.05)
    print("stopped")
    return "done"
"""
ECHO = """
def do_action(engine, *words):
    engine.data_to_upload("\\n".join(map(str, words)), "words.txt")
    return list(words)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a blank and an umlaut in its path, and three task files."""
    place = tmp_path / "Arbeit für heute"
    (place / "tasks").mkdir(parents=True)
    for name, text in (("flaky.py", FLAKY), ("slow.py", SLOW), ("echo.py", ECHO)):
        (place / "tasks" / name).write_text(text)
    (place / "batch.json").write_text('{"BATCH_SLOTS_PER_NODE": 4}')
    return place


@pytest.fixture(scope="module")
def project() -> str:
    return f"e2e-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Said:
    """What a command wrote."""

    stdout: str
    stderr: str


#: Runs a command of the line in this process, against the services on this machine.
Cli = Callable[..., Said]


@pytest.fixture
def cli(
    local_stack: LocalStack,
    folder: Path,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Cli:
    """Runs a command and checks its exit code; in this process, because loading the SDKs takes longer than most."""
    monkeypatch.chdir(folder)
    for name, value in (local_stack.environment | {"AZBATCHWRAP_PROJECT": project}).items():
        monkeypatch.setenv(name, value)

    def run(*words: str, expected: int = 0) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = Said(*capfd.readouterr())
        assert ended.value.code == expected, said
        assert "Traceback" not in said.stderr
        return said

    return run


def write(folder: Path, *entries: dict[str, object]) -> None:
    (folder / "task.json").write_text(json.dumps({"JOB_MANIFEST": entries}))


def job_in(text: str) -> str:
    found = re.search(r"job-\d{8}-\d{6}-[0-9a-f]{6}", text)
    assert found, text
    return found[0]


def test_the_demo_twice(cli: Cli, folder: Path) -> None:
    """Eight prices, a merged table; the second run finds its files and its pool there."""
    shutil.copy(ROOT / "task.json", folder)
    for name in ("1_task.py", "2_task.py"):
        shutil.copy(ROOT / "tasks" / name, folder / "tasks")
    contracts = str(ROOT / "examples" / "pricing" / "contracts.csv")
    first = cli("run", "task.json", "--input", contracts, "--output-dir", "outputs")
    second = cli("run", "task.json", "--input", contracts, "--output-dir", "outputs")
    assert "8 tasks: 8 succeeded" in first.stdout
    assert "8 tasks: 8 succeeded" in second.stdout
    assert "used again" in second.stderr
    assert "1 of them there already" in second.stderr
    assert "2 of them there already" in second.stderr
    assert "there already" not in first.stderr
    with (folder / "outputs" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["contract"] for row in rows] == ["C1", "P1", "C2", "P2", "C3", "P3", "C4", "P4"]
    for row in rows:
        # A tree of a thousand steps comes this close to the formula.
        assert abs(float(row["tree"]) - float(row["formula"])) < 0.001 * float(row["formula"])
        names = {path.name for path in (folder / "outputs" / row["contract"]).iterdir()}
        assert names == {"result.json", "stdout.txt", "stderr.txt", f"price_{row['contract']}.json"}


def test_a_failed_task_shows_its_last_line_and_can_be_tried_again(cli: Cli, folder: Path) -> None:
    flag = folder / "flag"
    write(
        folder,
        {"ID": "fine", "TASK_MODULE": "echo.py", "TASK_INPUT": "'a b' c"},
        {"ID": "first", "TASK_MODULE": "flaky.py", "TASK_INPUT": [str(flag), "größe 'x'"]},
        {"ID": "second", "TASK_MODULE": "echo.py", "TASK_INPUT": "after", "DEPENDS_ON": ["first"]},
    )
    done = cli("run", "task.json", "--output-dir", "out", expected=1)
    assert "größe 'x': the flag is not there" in done.stdout
    assert "1 succeeded, 1 failed, 1 cancelled" in done.stdout
    assert "looking for" in (folder / "out" / "first" / "stdout.txt").read_text()
    assert (
        "Traceback"
        in json.loads((folder / "out" / "first" / "result.json").read_text())["steps"][0]["error"]["traceback"]
    )
    assert (folder / "out" / "fine" / "words.txt").read_text() == "a b\nc"
    merged = {item["task"]: item for item in json.loads((folder / "out" / "results.json").read_text())}
    assert merged["second"]["state"] == "cancelled"

    job = job_in(done.stderr)
    failed = json.loads(cli("task", "list", job, "--state", "failed", "--json").stdout)
    assert {item["id"] for item in failed} == {"first", "second"}
    assert "the flag is not there" in cli("job", "wait", job, expected=1).stdout
    flag.touch()
    again = cli("job", "retry", job, "--failed", "--output-dir", "out")
    assert "2 tasks: 2 succeeded" in again.stdout
    assert json.loads((folder / "out" / "first" / "result.json").read_text())["value"] == "größe 'x'"
    assert "no task failed" in cli("job", "retry", job_in(again.stderr), "--failed").stderr


def test_arguments_of_every_kind_survive(cli: Cli, folder: Path) -> None:
    words = ["a b", "it's", '"', "$HOME", "\\", "line\nbreak", "größe ✓", {"k": [1, None, 2.5]}, "x" * 20_000]
    write(folder, {"ID": "all", "TASK_MODULE": "echo.py", "TASK_INPUT": words})
    printed = json.loads(cli("run", "task.json", "--json").stdout)
    assert printed["results"][0]["value"] == words
    assert (folder / printed["output_dir"] / "all" / "words.txt").exists()


def test_a_table_and_named_inputs(cli: Cli, folder: Path) -> None:
    (folder / "tasks" / "size.py").write_text(
        "import os\ndef do_action(engine, name):\n    return [os.path.getsize(name), sorted(os.listdir())]\n"
    )
    (folder / "data").mkdir()
    (folder / "data" / "ein Name.txt").write_text("12345")
    (folder / "data" / "other.txt").write_text("1")
    (folder / "sweep.csv").write_text("module,arg1,id,inputs\nsize.py,ein Name.txt,a,'ein Name.txt'\n")
    printed = json.loads(cli("run", "sweep.csv", "--input", "data/*.txt", "--json").stdout)
    size, there = printed["results"][0]["value"]
    assert size == 5
    assert "ein Name.txt" in there
    assert "other.txt" not in there


def test_wrong_input_costs_nothing(cli: Cli, folder: Path) -> None:
    write(folder, {"TASK_MODULE": "echo.py", "INPUTS": ["dta.csv"]})
    (folder / "data.csv").write_text("x")
    before = _ids(cli("job", "list", "--json").stdout)
    refused = cli("run", "task.json", "--input", "data.csv", expected=2).stderr
    assert "did you mean data.csv" in refused
    assert "uploading" not in refused
    assert "nowhere.csv" in cli("run", "task.json", "--input", "nowhere.csv", expected=2).stderr
    (folder / "taken").write_text("a file")
    assert "taken" in cli("run", "task.json", "--output-dir", "taken/below", expected=2).stderr
    write(folder, {"TASK_MODULE": "echo.py"})
    assert "PoolNotFound" in cli("run", "task.json", "--pool", "nowhere", expected=3).stderr
    assert _ids(cli("job", "list", "--json").stdout) == before


def _ids(listed: str) -> set[str]:
    return {item["id"] for item in json.loads(listed)}


def test_detached_jobs_are_waited_for_looked_at_and_cancelled(cli: Cli, folder: Path) -> None:
    stop = folder / "stop"
    write(folder, {"ID": "slow", "TASK_MODULE": "slow.py", "TASK_INPUT": [str(stop)]})
    job = cli("run", "task.json", "--detach").stdout.strip()
    wait_until(
        lambda: "started" in cli("task", "logs", job, "slow").stdout if _started(cli, job) else False, "its first words"
    )
    assert "running" in cli("task", "list", job, "--state", "running").stdout
    assert "wd/" in cli("task", "files", job, "slow").stdout
    assert "slow.py" in cli("task", "show", job, "slow").stdout
    stop.touch()
    assert cli("task", "logs", job, "slow", "--follow").stdout == "started\nstopped\n"
    assert "1 succeeded" in cli("job", "wait", job).stdout
    assert "files in" in cli("job", "download", job, "--output-dir", "later").stderr
    assert (folder / "later" / "slow" / "result.json").exists()

    stop.unlink()
    job = cli("run", "task.json", "--detach").stdout.strip()
    wait_until(lambda: _started(cli, job), "the task runs")
    assert "Nobody can be asked" in cli("job", "cancel", job, expected=2).stderr
    cli("job", "cancel", job, "--yes")
    assert "1 cancelled" in cli("job", "wait", job, expected=1).stdout
    assert job in cli("job", "list").stdout
    cli("job", "delete", job, "--yes")
    assert cli("job", "show", job, expected=3).stdout == ""


def _started(cli: Cli, job: str) -> bool:
    tasks = json.loads(cli("task", "list", job, "--json").stdout)
    return all(task["state"] == "running" for task in tasks)


class Terminal:
    """`azbatchwrap run` on a terminal of its own, as a person has it."""

    def __init__(self, stack: LocalStack, folder: Path, project: str, *words: str) -> None:
        self.fd, other = pty.openpty()
        command = [sys.executable, "-m", "azbatchwrap.cli.main", "run", "task.json", *words]
        environment = stack.environment | {"AZBATCHWRAP_PROJECT": project, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        self.seen = ""

    def read_until(self, text: str) -> None:
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)


@pytest.fixture
def terminal(local_stack: LocalStack, folder: Path, project: str) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(local_stack, folder, project, *words))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("given", "answer", "ends"),
    [
        ("ask", "terminate\n", True),
        ("ask", "leave\n", False),
        ("ask", "\x03", False),
        ("terminate", "", True),
        ("leave", "", False),
    ],
)
def test_interrupting(given: str, answer: str, ends: bool, terminal: Callable[..., Terminal], cli: Cli) -> None:
    """Ctrl-C asks what becomes of the job, does it, and ends with 130 and without a traceback."""
    stop = Path("stop").absolute()
    write(Path(), {"ID": "slow", "TASK_MODULE": "slow.py", "TASK_INPUT": [str(stop)]})
    run = terminal("--on-interrupt", given)
    run.read_until(" tasks from task.json")
    job = job_in(run.seen)
    wait_until(lambda: json.loads(cli("task", "list", job, "--json").stdout) and _started(cli, job), "the task runs")
    run.process.send_signal(signal.SIGINT)
    if answer == "\x03":
        run.read_until("terminate it?")
        run.process.send_signal(signal.SIGINT)
    elif answer:
        run.read_until("terminate it?")
        run.type(answer)
    run.read_until("azbatchwrap job")
    assert run.process.wait(timeout=DEADLINE) == 130
    assert "Traceback" not in run.seen
    if ends:
        wait_until(
            lambda: json.loads(cli("job", "show", job, "--json").stdout)["state"] == "completed", "the job has ended"
        )
        assert "1 cancelled" in cli("job", "wait", job, expected=1).stdout
    else:
        stop.touch()
        assert "1 succeeded" in cli("job", "wait", job).stdout


def test_the_scaffold_works(local_stack: LocalStack, tmp_path: Path, project: str) -> None:
    assert local_stack.run("init", "my batch", folder=tmp_path).returncode == 0
    place = tmp_path / "my batch"
    done = local_stack.run("run", "task.json", folder=place, AZBATCHWRAP_PROJECT=project)
    assert done.returncode == 0, done.stderr
    assert "most frequent" in done.stdout
    assert "2 succeeded" in done.stdout
    environment = local_stack.environment | {"AZBATCHWRAP_PROJECT": project}
    driver = subprocess.run(
        [sys.executable, "driver.py"], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert driver.returncode == 0, driver.stderr
    assert driver.stdout.count("succeeded") == 2


def test_pools_and_configuration(cli: Cli, folder: Path) -> None:
    write(folder, {"TASK_MODULE": "echo.py", "TASK_INPUT": "x"})
    cli("run", "task.json", "--new-pool")
    pools = json.loads(cli("pool", "list", "--json").stdout)
    pool = max(pools, key=lambda item: item["creationTime"])["id"]
    assert "node" in cli("pool", "show", pool).stdout
    assert "used as asked" in cli("run", "task.json", "--pool", pool).stderr
    cli("pool", "resize", pool, "--nodes", "0")
    cli("pool", "delete", pool, "--yes")
    checked = {item["name"]: item["ok"] for item in json.loads(cli("config", "check", "--json").stdout)}
    assert checked == {
        "batch account": True,
        "storage account": True,
        "image": True,
        "pools": True,
        "VM size": None,
        "quota": None,
    }
    shown = cli("config", "show").stdout
    assert "***" in shown
    assert "AccountKey" not in shown


@pytest.mark.parametrize("name", ["driver.py", "driver_seed.py", "reuse_and_repurpose.py", "java_example.py"])
def test_the_examples_run(name: str, local_stack: LocalStack, tmp_path: Path, project: str) -> None:
    for part in ("examples", "tasks"):
        shutil.copytree(ROOT / part, tmp_path / part)
    environment = local_stack.environment | {"AZBATCHWRAP_PROJECT": project}
    command = [sys.executable, f"examples/{name}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert "succeeded" in done.stdout or "repurposed" in done.stdout or "No JDK here" in done.stdout
