"""Bad days: throttled requests, nodes that are taken away, keys that are renewed, impatient users."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch.service import at
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.errors import AccessDenied, NoEligibleNode
from azbatchwrap.local.stack import Stack
from tests.fixtures_aml import AmlStack
from tests.fixtures_stack import LocalStack
from tests.local.batchmgmt.conftest import Management
from tests.waiting import wait_until

DEADLINE = 90.0
Open = Callable[..., Session]


@contextlib.contextmanager
def bad_day(stack: LocalStack, **faults: Any) -> Iterator[None]:
    """The instance with these faults, as `azbatchwrap local chaos set` makes them."""
    service = Stack(stack.folder)
    before = service.chaos()
    service.chaos(faults)
    try:
        yield
    finally:
        service.chaos({name: before[name] for name in faults})


def runs_per_call(folder: Path) -> Counter[str]:
    """How often each call of `note` has run."""
    return Counter(path.name.rpartition("-")[0] for path in folder.iterdir())


def nodes_of(session: Session, pool_id: str) -> list[dict[str, Any]]:
    return list(session.manager.service.list(at("pools", pool_id, "nodes"), select=("id", "state")))


def running_on(folder: Path) -> str:
    """The node on which `hold_first` runs."""
    place = folder / "node"
    return str(wait_until(lambda: place.exists() and place.read_text(), "the task to run"))


def lose_node(session: Session, node: str) -> None:
    body = {"nodeList": [node], "nodeDeallocationOption": "requeue"}
    session.manager.service.request("POST", at("pools", session.pool_id(), "removenodes"), body)


@pytest.fixture
def own_pool(local_stack: LocalStack) -> Iterator[Callable[..., str]]:
    """Makes pools that nodes may be taken from."""
    with Session(settings=local_stack.settings(project="sessions")) as session:
        made: list[str] = []

        def make(**arguments: Any) -> str:
            made.append(session.manager.create_pool(**arguments))
            return made[-1]

        yield make
        for pool_id in made:
            session.manager.delete_pool(pool_id)


def test_a_fifth_of_the_requests_is_throttled(
    local_stack: LocalStack, open_session: Open, work: ModuleType, tmp_path: Path
) -> None:
    with bad_day(local_stack, throttle=0.2, retry_after=0):
        session = open_session()
        futures = [session.submit(work.note, str(tmp_path), f"call{number}") for number in range(30)]
        failing = session.submit(work.fail, 1)
        total = session.options(on_failure="ignore").merge(work.total, [failing, session.submit(work.square, 3)])
        assert session.gather(futures) == [f"call{number}" for number in range(30)]
        with pytest.raises(work.Odd):
            failing.result(DEADLINE)
        assert total.result(DEADLINE) == 9
        with session.interactive(engines=1) as warm:
            assert warm.submit(work.square, 4).result(DEADLINE) == 16
    assert runs_per_call(tmp_path) == {f"call{number}": 1 for number in range(30)}


def test_a_node_is_lost_in_the_middle(
    open_session: Open, own_pool: Callable[..., str], work: ModuleType, tmp_path: Path
) -> None:
    session = open_session(pool=own_pool(node_count=2))
    task = session.submit(work.hold_first, str(tmp_path))
    node = running_on(tmp_path)
    lose_node(session, node)
    assert task.result(DEADLINE) not in {node, ""}


def test_a_warm_call_survives_its_node(
    open_session: Open, own_pool: Callable[..., str], work: ModuleType, tmp_path: Path
) -> None:
    session = open_session(pool=own_pool(node_count=2))
    with session.interactive(engines=1, lease=2) as warm:
        call = warm.submit(work.hold_first, str(tmp_path))
        node = running_on(tmp_path)
        lose_node(session, node)
        assert call.result(DEADLINE) not in {node, ""}


def test_all_nodes_are_lost_for_good(
    open_session: Open, own_pool: Callable[..., str], work: ModuleType, tmp_path: Path
) -> None:
    session = open_session(pool=own_pool(node_count=1))
    task = session.submit(work.hold_first, str(tmp_path))
    lose_node(session, running_on(tmp_path))
    with pytest.raises(NoEligibleNode, match="no nodes and none is coming: resize it"):
        task.result(DEADLINE)


def test_a_storm_takes_every_spot_node_and_gives_it_back(
    local_stack: LocalStack, open_session: Open, own_pool: Callable[..., str], work: ModuleType, tmp_path: Path
) -> None:
    session = open_session(pool=own_pool(node_count=0, spot_node_count=2))
    held = session.submit(work.hold_first, str(tmp_path))
    others = session.map(work.square, range(20))
    wait_until((tmp_path / "node").exists, "the task to run")
    with bad_day(local_stack, spot_preemption=1):
        wait_until(
            lambda: all(node["state"] == "preempted" for node in nodes_of(session, session.pool_id())), "the storm"
        )
    assert session.gather(others) == [number * number for number in range(20)]
    assert held.result(DEADLINE)


def test_dedicated_nodes_go_on_where_spot_nodes_never_come_to_rest(
    local_stack: LocalStack, open_session: Open, work: ModuleType
) -> None:
    with bad_day(local_stack, spot_preemption=1):
        session = open_session(pool=PoolPolicy.spot(2, floor=1))
        assert session.gather(session.map(work.square, range(10))) == [number * number for number in range(10)]
    session.manager.delete_pool(session.pool_id())


def test_a_key_is_renewed_in_the_middle(
    aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch, work: ModuleType, tmp_path: Path
) -> None:
    """The work goes on; whoever runs the script again with the new key finds it."""
    management = Management(aml_stack, dict(Stack(aml_stack.folder).endpoint()["batch"]))
    name, project = f"renewed-{secrets.token_hex(3)}", f"keys-{secrets.token_hex(3)}"
    old = aml_stack.settings(project=project, batch_key=management.ask("POST", "/listKeys").json()["secondary"])
    session = Session(name, settings=old)
    assert session.submit(work.note, str(tmp_path), "first").result(DEADLINE) == "first"
    held = session.submit(work.wait_for, str(tmp_path / "go"))
    wait_until(held.running, "the task to run")
    renewed = management.ask("POST", "/regenerateKeys", {"keyName": "Secondary"}).json()["secondary"]
    for step in (held.result, session.close):
        with pytest.raises(AccessDenied, match=r"(?s)AuthenticationFailed.*Check the account's name, key"):
            step()
    (tmp_path / "go").touch()
    with Session(name, settings=aml_stack.settings(project=project, batch_key=renewed)) as again:
        assert again.submit(work.note, str(tmp_path), "first").result(DEADLINE) == "first"
        assert again.submit(work.wait_for, str(tmp_path / "go")).result(DEADLINE) == "went"
        assert again.jobs.current is not None
        tasks = list(again.manager.service.list(at("jobs", again.jobs.current.facts.job_id, "tasks")))
        again.manager.delete_pool(again.pool_id())
    assert len(tasks) == 2
    assert runs_per_call(tmp_path)["first"] == 1


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_twice_still_ends_the_tasks(local_stack: LocalStack, pool_id: str, tmp_path: Path, times: int) -> None:
    (tmp_path / "driver.py").write_text(INTERRUPTED.format(pool=pool_id, folder=str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py")], env=local_stack.environment, stderr=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "node").exists, "the task to run")
    job_id = (tmp_path / "job").read_text()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGINT, said
    with Session(settings=local_stack.settings(project="sessions")) as session:
        assert session.manager.jobs.facts(job_id).ended


INTERRUPTED = """
import pathlib, time
from azbatchwrap import Session

def hold(folder):
    pathlib.Path(folder, "node").touch()
    time.sleep(600)

def nothing(number):
    return number

with Session(project="sessions", pool={pool!r}) as session:
    future = session.submit(hold, {folder!r})
    while not future.job_id:
        time.sleep(0.01)
    pathlib.Path({folder!r}, "job").write_text(future.job_id)
    session.map(nothing, range(3000))
    future.result()
"""
