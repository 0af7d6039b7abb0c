"""Random sequences of operations on pools and job schedules: the service and a small model of it say the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from tests.fixtures_service import BatchService
from tests.local.batch.test_every_property import MACHINE
from tests.local.batch.test_model import Client
from tests.waiting import wait_until

#: Ids that differ only by case are one id. Jobs and schedules share theirs.
POOLS = st.sampled_from(["a", "A", "b"])
NAMES = st.sampled_from(["s", "S", "t"])
COUNTS = st.integers(0, 2)
_numbers = itertools.count(1)


@dataclass
class Pool:
    dedicated: int = 0
    spot: int = 0
    is_scaled: bool = False
    words: dict[str, str] = field(default_factory=dict)


class Account(Client):
    """Pools are looked at when they are steady, schedules begin to run in a far year."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"mp{next(_numbers)}-"
        self.pools: dict[str, Pool] = {}
        self.schedules: dict[str, str] = {}
        self.jobs: set[str] = set()

    def url(self, kind: str, name: str) -> str:
        return f"/{kind}/{self.prefix}{name}"

    def _steady(self, name: str) -> None:
        wait_until(lambda: self.read(self.url("pools", name))["allocationState"] == "steady")

    def _pool(self, name: str, said: str) -> Pool | None:
        pool = self.pools.get(name.lower())
        if pool is None:
            assert said == "PoolNotFound"
        return pool

    # Pools

    @rule(name=POOLS, dedicated=COUNTS, spot=COUNTS)
    def create_pool(self, name: str, dedicated: int, spot: int) -> None:
        targets = {"targetDedicatedNodes": dedicated, "targetLowPriorityNodes": spot}
        body = {"id": f"{self.prefix}{name}", "vmSize": "small", "virtualMachineConfiguration": MACHINE, **targets}
        said = self.ask("POST", "/pools", body)
        if name.lower() in self.pools:
            assert said == "PoolExists"
        else:
            assert said == "ok"
            self.pools[name.lower()] = Pool(dedicated, spot)
            self._steady(name)

    @rule(name=POOLS, dedicated=COUNTS, spot=COUNTS, option=st.sampled_from(["requeue", "terminate", "taskcompletion"]))
    def resize(self, name: str, dedicated: int, spot: int, option: str) -> None:
        body = {"targetDedicatedNodes": dedicated, "targetLowPriorityNodes": spot, "nodeDeallocationOption": option}
        said = self.ask("POST", f"{self.url('pools', name)}/resize", body)
        pool = self._pool(name, said)
        if pool is None:
            return
        if pool.is_scaled:
            assert said == "OperationNotValidOnPool"
            return
        assert said == "ok"
        pool.dedicated, pool.spot = dedicated, spot
        self._steady(name)

    @rule(name=POOLS)
    def remove_a_node(self, name: str) -> None:
        nodes = self.read(f"{self.url('pools', name)}/nodes")["value"] if name.lower() in self.pools else []
        chosen = nodes[0]["id"] if nodes else "tvmps_none"
        said = self.ask("POST", f"{self.url('pools', name)}/removenodes", {"nodeList": [chosen]})
        pool = self._pool(name, said)
        if pool is None:
            return
        if pool.is_scaled:
            assert said == "OperationNotValidOnPool"
        elif not nodes:
            assert said == "NodeNotFound"
        else:
            assert said == "ok"
            pool.dedicated -= nodes[0]["isDedicated"]
            pool.spot -= not nodes[0]["isDedicated"]
            self._steady(name)

    @rule(name=POOLS, count=COUNTS)
    def scale_by_formula(self, name: str, count: int) -> None:
        body = {"autoScaleFormula": f"$TargetDedicatedNodes = {count}; $TargetLowPriorityNodes = 0;"}
        said = self.ask("POST", f"{self.url('pools', name)}/enableautoscale", body)
        pool = self._pool(name, said)
        if pool is None or (pool.is_scaled and said == "503"):  # a formula may change every 30 seconds
            return
        assert said == "ok"
        pool.dedicated, pool.spot, pool.is_scaled = count, 0, True
        wait_until(lambda: self.read(self.url("pools", name))["targetDedicatedNodes"] == count)
        self._steady(name)

    @rule(name=POOLS)
    def scale_by_hand(self, name: str) -> None:
        said = self.ask("POST", f"{self.url('pools', name)}/disableautoscale")
        pool = self._pool(name, said)
        if pool is not None:
            assert said == ("ok" if pool.is_scaled else "OperationNotValidOnPool")
            pool.is_scaled = False
            self._steady(name)

    @rule(name=POOLS, words=st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3), max_size=2))
    def describe(self, name: str, words: dict[str, str]) -> None:
        body = {"metadata": [{"name": key, "value": value} for key, value in words.items()]}
        said = self.ask("PATCH", self.url("pools", name), body)
        pool = self._pool(name, said)
        if pool is not None:
            assert said == "ok"
            pool.words = words

    @rule(name=POOLS)
    def delete_pool(self, name: str) -> None:
        said = self.ask("DELETE", self.url("pools", name))
        if self._pool(name, said) is not None:
            assert said == "ok"
            del self.pools[name.lower()]
            wait_until(lambda: self.ask("GET", self.url("pools", name)) == "PoolNotFound")

    # Job schedules, and jobs of their name

    @rule(name=NAMES)
    def create_schedule(self, name: str) -> None:
        specification = {"poolInfo": {"poolId": "no-such-pool"}}
        later = {"doNotRunUntil": "2100-01-01T00:00:00Z", "recurrenceInterval": "P1D"}
        body = {"id": f"{self.prefix}{name}", "schedule": later, "jobSpecification": specification}
        said = self.ask("POST", "/jobschedules", body)
        if name.lower() in self.schedules:
            assert said == "JobScheduleExists"
        elif name.lower() in self.jobs:
            assert said == "JobWithSameIdExists"
        else:
            assert said == "ok"
            self.schedules[name.lower()] = "active"

    @rule(name=NAMES)
    def create_job(self, name: str) -> None:
        said = self.ask("POST", "/jobs", {"id": f"{self.prefix}{name}", "poolInfo": {"poolId": "no-such-pool"}})
        if name.lower() in self.jobs:
            assert said == "JobExists"
        elif name.lower() in self.schedules:
            assert said == "JobScheduleWithSameIdExists"
        else:
            assert said == "ok"
            self.jobs.add(name.lower())

    @rule(name=NAMES, verb=st.sampled_from(["enable", "disable", "terminate"]))
    def change_schedule(self, name: str, verb: str) -> None:
        said = self.ask("POST", f"{self.url('jobschedules', name)}/{verb}")
        state = self.schedules.get(name.lower())
        if state is None:
            assert said == "JobScheduleNotFound"
        elif state == "completed":
            assert said == "JobScheduleCompleted"
        elif state == "disabled" and verb == "disable":
            assert said == "JobScheduleDisabled"
        else:
            assert said == "ok"
            new = {"enable": "active", "disable": "disabled", "terminate": "completed"}[verb]
            self.schedules[name.lower()] = new
            wait_until(lambda: self.read(self.url("jobschedules", name))["state"] == new)

    @rule(name=NAMES)
    def delete_schedule(self, name: str) -> None:
        said = self.ask("DELETE", self.url("jobschedules", name))
        if self.schedules.pop(name.lower(), None) is None:
            assert said == "JobScheduleNotFound"
        else:
            assert said == "ok"
            wait_until(lambda: self.ask("GET", self.url("jobschedules", name)) == "JobScheduleNotFound")

    # What must hold

    @invariant()
    def pools_are_alike(self) -> None:
        shown = {
            each["id"].lower(): each for each in self.read("/pools")["value"] if each["id"].startswith(self.prefix)
        }
        assert {name.removeprefix(self.prefix) for name in shown} == self.pools.keys()
        counts = {each["poolId"].lower(): each for each in self.read("/nodecounts")["value"]}
        for name, pool in self.pools.items():
            found = shown[f"{self.prefix}{name}"]
            targets = (found["targetDedicatedNodes"], found["targetLowPriorityNodes"])
            assert targets == (pool.dedicated, pool.spot)
            assert (found["currentDedicatedNodes"], found["currentLowPriorityNodes"]) == targets
            assert found["enableAutoScale"] == pool.is_scaled
            assert ("autoScaleFormula" in found) == pool.is_scaled
            assert {each["name"]: each["value"] for each in found.get("metadata", ())} == pool.words
            nodes = self.read(f"/pools/{self.prefix}{name}/nodes")["value"]
            assert sorted(node["isDedicated"] for node in nodes) == [False] * pool.spot + [True] * pool.dedicated
            counted = counts[f"{self.prefix}{name}"]
            assert (counted["dedicated"]["total"], counted["lowPriority"]["total"]) == targets

    @invariant()
    def schedules_are_alike(self) -> None:
        listed = self.read("/jobschedules")["value"]
        shown = {each["id"].lower(): each["state"] for each in listed if each["id"].startswith(self.prefix)}
        assert shown == {f"{self.prefix}{name}": state for name, state in self.schedules.items()}

    def teardown(self) -> None:
        for kind, names in (("pools", self.pools), ("jobschedules", self.schedules), ("jobs", self.jobs)):
            for name in list(names):
                self.ask("DELETE", self.url(kind, name))


@pytest.mark.timeout(300)
def test_pools_and_schedules_and_a_model_of_them_agree(shared_batch_service: BatchService) -> None:
    Account.service = shared_batch_service
    run_state_machine_as_test(
        Account,
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
