"""Pools as policy: found by their hash, sized by a formula that the service evaluates, emptied when idle."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch.formula import read_formula
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.batch.sessions.policy import ensure_pool, pool_id_of
from azbatchwrap.config import PoolSettings
from azbatchwrap.errors import ConfigurationError, ServiceError
from azbatchwrap.local.batch.autoscale import PoolNow, SampleHistory, evaluate
from tests.fixtures_stack import LocalStack
from tests.waiting import wait_until
from tests.wheels import wheel

DEADLINE = 60.0
NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def targets(policy: PoolPolicy, *, asked: timedelta, **metrics: Any) -> tuple[int, int]:
    """What the formula says of a pool with these metrics all the time; without any, samples are missing."""
    history = SampleHistory()
    for age in range(1800, 0, -30) if metrics else ():
        values = {f"${name}": value for name, value in {"TaskSlotsPerNode": 1, **metrics}.items()}
        history.record(values, NOW - timedelta(seconds=age))
    now = {"$CurrentDedicatedNodes": 3.0, "$CurrentLowPriorityNodes": 2.0, "$TaskSlotsPerNode": 1.0}
    found = evaluate(policy.scale(NOW - asked).formula(), history, NOW, PoolNow(3, 2, now))
    return found.dedicated, found.low_priority


LONG_AGO, JUST_NOW = timedelta(hours=2), timedelta(minutes=1)


def test_nodes_stay_while_there_is_work_and_for_a_while_after() -> None:
    policy = PoolPolicy.small(nodes=4)
    assert targets(policy, asked=JUST_NOW) == (4, 0)
    assert targets(policy, asked=JUST_NOW, PendingTasks=0) == (4, 0)
    assert targets(policy, asked=LONG_AGO, PendingTasks=5) == (4, 0)
    assert targets(policy, asked=LONG_AGO, PendingTasks=0) == (0, 0)


def test_missing_samples_change_nothing() -> None:
    assert targets(PoolPolicy.small(nodes=4), asked=LONG_AGO) == (3, 2)


def test_autoscaling_follows_the_work() -> None:
    policy = PoolPolicy.autoscale(2, 10)
    assert targets(policy, asked=LONG_AGO, PendingTasks=7) == (7, 0)
    assert targets(policy, asked=LONG_AGO, PendingTasks=500) == (10, 0)
    assert targets(policy, asked=JUST_NOW) == (2, 0)
    assert targets(policy, asked=LONG_AGO, PendingTasks=0) == (0, 0)


def test_the_floor_grows_when_spot_nodes_are_taken_away() -> None:
    policy = PoolPolicy.spot(5, floor=1)
    assert targets(policy, asked=LONG_AGO, PendingTasks=9, PreemptedNodeCount=0) == (1, 5)
    assert targets(policy, asked=LONG_AGO, PendingTasks=9, PreemptedNodeCount=3) == (4, 5)
    assert targets(policy, asked=LONG_AGO, PendingTasks=0, PreemptedNodeCount=3) == (0, 0)


def test_policies_that_make_no_pool() -> None:
    for policy in (PoolPolicy(nodes=0), PoolPolicy.autoscale(5, 2), PoolPolicy.small(keep="1m"), PoolPolicy(nodes=-1)):
        with pytest.raises(ConfigurationError):
            policy.check()


def test_a_formula_gives_its_numbers_back() -> None:
    for policy in (PoolPolicy.small(nodes=3), PoolPolicy.autoscale(0, 40, keep="1h"), PoolPolicy.spot(5, floor=2)):
        scale = policy.scale(NOW)
        assert read_formula(scale.formula()) == scale
        assert read_formula(f"{scale.formula()}\n") == scale
    assert read_formula("$TargetDedicatedNodes = 1;") is None
    assert read_formula(PoolPolicy.small().scale(NOW).formula() + "\n$TargetDedicatedNodes = 100;") is None


def test_other_numbers_of_nodes() -> None:
    fixed = PoolPolicy.small(nodes=3).scale(NOW).resized(7, None)
    assert (fixed.least, fixed.most, fixed.spot) == (7, 7, 0)
    growing = PoolPolicy.autoscale(2, 40).scale(NOW)
    assert (growing.resized(9, None).least, growing.resized(9, None).most) == (2, 9)
    assert (growing.resized(1, 5).least, growing.resized(1, 5).most, growing.resized(1, 5).spot) == (1, 1, 5)
    assert growing.resized(None, None) == growing


def test_the_same_policy_is_the_same_pool() -> None:
    settings = PoolSettings()
    one = pool_id_of(PoolPolicy.small(), settings, "p")
    assert pool_id_of(PoolPolicy.small(keep="30m"), settings, "p") == one
    assert (
        len({one, pool_id_of(PoolPolicy.small(nodes=2), settings, "p"), pool_id_of(PoolPolicy.small(), settings, "q")})
        == 3
    )


def test_a_policys_pool_is_resized_by_its_formula(local_stack: LocalStack) -> None:
    settings = local_stack.settings(project=f"resized-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=PoolPolicy.small()) as session:
        pool_id = session.pool_id()
        session.manager.resize_pool(pool_id, 3)
        assert session.manager.wait_for_pool(pool_id, DEADLINE) == 3
        shown = local_stack.run("pool", "show", pool_id).stdout
        assert "a formula: 3 nodes and 0 spot nodes, until 10 minutes after the last task" in shown
        session.manager.delete_pool(pool_id)


def test_a_pool_that_is_on_its_way_out_is_made_again(local_stack: LocalStack, work: ModuleType, tmp_path: Path) -> None:
    settings = local_stack.settings(project=f"again-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=PoolPolicy.small()) as session:
        # A task that has to be ended first keeps the pool in its deletion for a moment.
        session.submit(work.hold, str(tmp_path))
        wait_until((tmp_path / "running").exists)
        pool_id = session.pool_id()
        before = session.manager.pools.get(pool_id)["creationTime"]
        session.manager.delete_pool(pool_id)
        assert ensure_pool(session.manager, PoolPolicy.small()) == pool_id
        assert session.manager.pools.get(pool_id)["creationTime"] > before
        session.close(wait=False, cancel=True)
    with Session(settings=settings) as session:
        session.manager.delete_pool(pool_id)


def test_functions_find_the_packages_of_their_pool(local_stack: LocalStack, work: ModuleType, tmp_path: Path) -> None:
    settings = local_stack.settings(project=f"packages-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=PoolPolicy.small(pip=[str(wheel(tmp_path))])) as session:
        assert session.submit(work.greet).result(DEADLINE) == "from the pool"
        session.manager.delete_pool(session.pool_id())


def test_a_subnet_reaches_the_service(local_stack: LocalStack, work: ModuleType) -> None:
    subnet = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"
    with Session(settings=local_stack.settings(), pool=PoolPolicy.small(subnet=subnet)) as session:
        refused = session.submit(work.square, 3).exception(DEADLINE)
    assert isinstance(refused, ServiceError)
    assert "subnetId cannot be reached from this account" in str(refused)  # an instance has no networks


def test_a_session_makes_its_pool_once(local_stack: LocalStack, work: ModuleType) -> None:
    project = f"policy-{secrets.token_hex(3)}"
    pools = set()
    for _ in range(2):
        with Session(settings=local_stack.settings(project=project), pool=PoolPolicy.small(nodes=2)) as session:
            assert session.submit(work.square, 3).result(DEADLINE) == 9
            pools.add(session.pool_id())
    assert len(pools) == 1
    with Session(settings=local_stack.settings(project=project)) as session:
        pool = session.manager.pools.get(pools.pop())
        assert pool["enableAutoScale"]
        later = ensure_pool(session.manager, PoolPolicy.small(nodes=2, keep="20m"))
        assert later == pool["id"]
        session.manager.delete_pool(pool["id"])
