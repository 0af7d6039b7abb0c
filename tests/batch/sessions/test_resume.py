"""Drivers die, are run again, or run twice at once: every call is one task, and every result is there."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from azbatchwrap.batch.service import at
from azbatchwrap.batch.sessions import Session
from tests.fixtures_stack import LocalStack

DEADLINE = 90.0
Open = Callable[..., Session]

DRIVER = """
import json, os, sys
from azbatchwrap import Session, load

RUNS = {runs!r}

def note(number):
    with open(os.path.join(RUNS, f"{{number}}-{{os.getpid()}}"), "w"):
        return number * 2

with Session({name!r}, project="sessions", pool={pool!r}, at_most={at_most}) as session:
    futures = session.map(note, range({count}))
    results = [future.result() for future in futures]
print(json.dumps({{"results": results, "jobs": sorted({{future.job_id for future in futures}})}}))
"""


def driver(folder: Path, pool_id: str, count: int, at_most: int | None = None) -> Path:
    (folder / "runs").mkdir()
    name = f"resume-{secrets.token_hex(3)}"
    text = DRIVER.format(runs=str(folder / "runs"), name=name, pool=pool_id, count=count, at_most=at_most)
    path = folder / "my driver.py"
    path.write_text(text)
    return path


def start(path: Path, stack: LocalStack) -> subprocess.Popen[str]:
    command = [sys.executable, str(path)]
    return subprocess.Popen(command, env=stack.environment, cwd=path.parent, stdout=subprocess.PIPE, text=True)


def runs_per_call(folder: Path) -> Counter[str]:
    return Counter(path.name.partition("-")[0] for path in (folder / "runs").iterdir())


def test_a_killed_driver_goes_on_where_it_was(local_stack: LocalStack, pool_id: str, tmp_path: Path) -> None:
    count = 60
    path = driver(tmp_path, pool_id, count, at_most=12)
    first = start(path, local_stack)
    deadline = time.monotonic() + DEADLINE
    while len(runs_per_call(tmp_path)) < 15:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=DEADLINE)
    assert len(runs_per_call(tmp_path)) < count

    second = start(path, local_stack)
    said = json.loads(second.communicate(timeout=DEADLINE)[0])
    assert said["results"] == [number * 2 for number in range(count)]
    assert len(said["jobs"]) == 1
    assert runs_per_call(tmp_path) == {str(number): 1 for number in range(count)}

    third = start(path, local_stack)
    assert json.loads(third.communicate(timeout=DEADLINE)[0])["results"] == said["results"]
    assert runs_per_call(tmp_path) == {str(number): 1 for number in range(count)}


def test_two_drivers_of_one_session_share_its_tasks(local_stack: LocalStack, pool_id: str, tmp_path: Path) -> None:
    count = 12
    path = driver(tmp_path, pool_id, count)
    both = [start(path, local_stack), start(path, local_stack)]
    said = [json.loads(process.communicate(timeout=DEADLINE)[0]) for process in both]
    assert said[0]["results"] == said[1]["results"] == [number * 2 for number in range(count)]
    assert runs_per_call(tmp_path) == {str(number): 1 for number in range(count)}


def test_what_failed_is_done_again_by_a_later_run(open_session: Open, work: ModuleType, tmp_path: Path) -> None:
    name = f"later-{secrets.token_hex(3)}"
    for expected in ("failed", "second"):
        session = open_session(name)
        done = session.submit(work.note, str(tmp_path), "done")
        retried = session.submit(work.fail_once, str(tmp_path / "flag"))
        assert done.result(DEADLINE) == "done"
        if expected == "failed":
            with pytest.raises(work.Odd):
                retried.result(DEADLINE)
        else:
            assert retried.result(DEADLINE) == "second"
        session.close()
        job_id = retried.job_id
        deadline = time.monotonic() + DEADLINE
        while session.manager.jobs.facts(job_id).state != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert len(list(tmp_path.glob("done-*"))) == 1
    afresh = open_session(name, skip_done=False)
    assert afresh.submit(work.note, str(tmp_path), "done").result(DEADLINE) == "done"
    assert len(list(tmp_path.glob("done-*"))) == 2


def test_attach_reads_a_job_by_its_id(open_session: Open, local_stack: LocalStack, work: ModuleType) -> None:
    session = open_session()
    given = session.map(work.square, range(4))
    session.gather(given)
    job_id = given[0].job_id
    settings = local_stack.settings(project="sessions")
    with Session.attach(job_id, settings=settings) as attached:
        twice = [*attached.futures, *attached.futures]
        assert [future.result(DEADLINE) for future in twice] == [0, 1, 4, 9] * 2
        assert attached.submit(work.square, 5).result(DEADLINE) == 25
    session.close()
    tasks = session.manager.service.list(at("jobs", job_id, "tasks"), select=("id", "environmentSettings"))
    for task in tasks:
        environment = {item["name"]: item["value"] for item in task["environmentSettings"]}
        assert environment["AZBATCHWRAP_CALL"] == task["id"]


@pytest.mark.parametrize("name", ["", "kept"])
def test_ctrl_c_ends_the_tasks_of_a_nameless_session(
    local_stack: LocalStack, pool_id: str, tmp_path: Path, name: str
) -> None:
    text = INTERRUPTED.format(name=name and f"{name}-{secrets.token_hex(3)}", pool=pool_id, folder=str(tmp_path))
    (tmp_path / "driver.py").write_text(text)
    process = start(tmp_path / "driver.py", local_stack)
    deadline = time.monotonic() + DEADLINE
    while not (tmp_path / "running").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    job_id = process.communicate(timeout=DEADLINE)[0].strip()
    with Session(settings=local_stack.settings(project="sessions")) as session:
        state = session.manager.jobs.facts(job_id).state
        assert (state == "active") is bool(name)
        session.manager.jobs.terminate(job_id)


INTERRUPTED = """
import pathlib, time
from azbatchwrap import Session

def hold(folder):
    pathlib.Path(folder, "running").touch()
    time.sleep(600)

try:
    with Session({name!r}, project="sessions", pool={pool!r}) as session:
        future = session.submit(hold, {folder!r})
        future.result()
except KeyboardInterrupt:
    print(future.job_id)
"""
