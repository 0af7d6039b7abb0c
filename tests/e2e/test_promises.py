"""Two promises of the whole: a killed service loses nothing, and no account key ever reaches a node."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from azbatchwrap import AzureBatch, AzureBatchStorage, config
from azbatchwrap.local.stack import Options, Stack
from tests.fixtures_stack import clean_environment, ended_stack, run_cli
from tests.waiting import wait_until

TASKS = 200
#: Leaves a mark, so that a task that runs a second time is seen, and stays long enough to be killed at work.
SLOW = """
import os, time

def do_action(engine, marks, number):
    with open(os.path.join(marks, number), "a") as file:
        file.write("x")
    time.sleep(0.1)
    return int(number)
"""
#: Writes down everything that a task can see of its node: environments and command lines of all that it may read.
SPY = """
import os, pathlib

def do_action(engine, node):
    seen = [f"{name}={value}".encode() for name, value in os.environ.items()]
    for entry in pathlib.Path("/proc").iterdir():
        for part in ("environ", "cmdline"):
            try:
                around = (entry / "environ").read_bytes() if entry.name.isdecimal() else b""
                if b"AZ_BATCH_NODE_ROOT_DIR" in around:
                    seen.append((entry / part).read_bytes())
            except OSError:
                pass
    engine.data_to_upload(b"\\n".join(seen), "seen.bin")
    return len(seen)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    with ended_stack(folder):
        Stack(folder).up(Options(max_processes=8))
        yield folder


def driver(home: Path, task: Path) -> AzureBatch:
    settings = config.load(task.parent, environment=clean_environment(home), start_local=False)
    storage = AzureBatchStorage(settings)
    storage.add_task_file_path(task)
    return AzureBatch(storage)


def test_a_killed_service_brings_200_tasks_to_one_result_each(home: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    task = tmp_path / "slow.py"
    task.write_text(SLOW)
    with driver(home, task) as batch:
        batch.create_pool(slots_per_node=8)
        job = batch.create_a_job()
        batch.add_tasks_to_job(job, [("slow.py", [str(marks), str(number)]) for number in range(TASKS)])
        wait_until(lambda: len(list(marks.iterdir())) >= TASKS // 4)
        pid = json.loads((home / "endpoint.json").read_text())["batch"]["pid"]
        os.kill(pid, signal.SIGKILL)
        up = run_cli("local", "up", "--data-dir", str(home), folder=tmp_path, environment=clean_environment(home))
        assert up.returncode == 0, up.stderr
        results = batch.get_results(job)
    assert [result.value for result in results] == list(range(TASKS))
    assert {result.state for result in results} == {"succeeded"}
    assert len({result.task_id for result in results}) == TASKS
    runs = [len((marks / str(number)).read_text()) for number in range(TASKS)]
    again = [count for count in runs if count > 1]
    assert len(again) <= 8, "only what ran at the kill may run again"


def test_no_account_key_is_on_a_node(home: Path, tmp_path: Path) -> None:
    task = tmp_path / "spy.py"
    task.write_text(SPY)
    endpoint = config.read_endpoint(home)
    assert endpoint is not None
    assert endpoint.batch.key is not None
    connection = endpoint.storage.connection_string
    assert connection is not None
    storage_key = dict(part.split("=", 1) for part in connection.reveal().split(";") if part)["AccountKey"]
    keys = [endpoint.batch.key.reveal(), storage_key]
    with driver(home, task) as batch:
        batch.create_pool()
        job = batch.create_a_job()
        batch.add_tasks_to_job(job, ("spy.py", "here"))
        (result,) = batch.get_results(job)
        assert result.state == "succeeded"
        assert result.value > 3
        batch.storage.download_results(job, tmp_path / "out")
    seen = (tmp_path / "out" / result.task_id / "seen.bin").read_bytes()
    assert b"AZBATCHWRAP_ARGS" in seen
    node_files = [path for path in (home / "batch" / "nodes").rglob("*") if path.is_file()]
    assert any(path.name == "stdout.txt" for path in node_files)
    for key in keys:
        assert key.encode() not in seen
        for path in node_files:
            assert key.encode() not in path.read_bytes(), path
