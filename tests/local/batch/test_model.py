"""Random sequences of operations: the service and a small model of it say the same, refusals included."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin, Refused
from tests.fixtures_service import BatchService
from tests.waiting import wait_until

VERSION = {"api-version": "2025-06-01"}
#: Ids that differ only by case are one id.
JOBS = st.sampled_from(["a", "A", "b-1", "B-1", "c_2"])
TASKS = st.sampled_from(["t", "T", "1", "01", "long-task_id"])
IMAGE = {"publisher": "canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts"}
_numbers = itertools.count(1)


@dataclass
class Task:
    state: str = "active"
    failed: bool = False


@dataclass
class Job:
    """``runs``: its pool has a node, so its tasks end by themselves."""

    runs: bool
    state: str = "active"
    priority: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.state == "completed"


class Client(RuleBasedStateMachine):
    """Asks the service, and hears its refusals."""

    service: ClassVar[BatchService]

    def __init__(self) -> None:
        super().__init__()
        self.admin = BatchAdmin(self.service.url, self.service.account, Secret(self.service.key))

    def ask(self, method: str, path: str, body: object = None) -> str:
        """``ok``, or the code of the refusal."""
        try:
            self.admin.ask(method, path, body, query=VERSION)
        except Refused as refusal:
            return refusal.code if refusal.status in {400, 404, 409, 412} else f"{refusal.status}"
        return "ok"

    def read(self, path: str) -> Any:
        return self.admin.ask("GET", path, query=VERSION)


class Account(Client):
    """Jobs and tasks with ids of this example's own; two pools, of which one has a node."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"m{next(_numbers)}-"
        self.jobs: dict[str, Job] = {}

    def url(self, job: str, task: str = "") -> str:
        return f"/jobs/{self.prefix}{job}" + (f"/tasks/{task}" if task else "")

    # Jobs

    @rule(name=JOBS, runs=st.booleans(), priority=st.integers(-1001, 1001))
    def create_job(self, name: str, runs: bool, priority: int) -> None:
        pool = "model-busy" if runs else "model-empty"
        body = {"id": f"{self.prefix}{name}", "poolInfo": {"poolId": pool}, "priority": priority}
        said = self.ask("POST", "/jobs", body)
        if not -1000 <= priority <= 1000:
            assert said == "InvalidPropertyValue"
        elif name.lower() in self.jobs:
            assert said == "JobExists"
        else:
            assert said == "ok"
            self.jobs[name.lower()] = Job(runs, priority=priority)

    @rule(name=JOBS, priority=st.integers(-1000, 1000))
    def change_priority(self, name: str, priority: int) -> None:
        said = self.ask("PATCH", self.url(name), {"priority": priority})
        if self._is_there(name, said) and self._goes_on(name, said):
            self.jobs[name.lower()].priority = priority

    @rule(name=JOBS)
    def disable_job(self, name: str) -> None:
        said = self.ask("POST", f"{self.url(name)}/disable", {"disableTasks": "requeue"})
        if not self._is_there(name, said):
            return
        job = self.jobs[name.lower()]
        if job.state == "disabled":
            assert said == "JobDisabled"
        elif self._goes_on(name, said):
            job.state = "disabled"
            wait_until(lambda: self.read(self.url(name))["state"] == "disabled")

    @rule(name=JOBS)
    def enable_job(self, name: str) -> None:
        said = self.ask("POST", f"{self.url(name)}/enable")
        if self._is_there(name, said) and self._goes_on(name, said):
            self.jobs[name.lower()].state = "active"
            self._let_run(name)

    @rule(name=JOBS)
    def terminate_job(self, name: str) -> None:
        said = self.ask("POST", f"{self.url(name)}/terminate", {"terminateReason": "model"})
        if self._is_there(name, said) and self._goes_on(name, said):
            self.jobs[name.lower()].state = "completed"
            wait_until(lambda: self.read(self.url(name))["state"] == "completed")

    @rule(name=JOBS)
    def delete_job(self, name: str) -> None:
        said = self.ask("DELETE", self.url(name))
        if self._is_there(name, said):
            assert said == "ok"
            del self.jobs[name.lower()]
            wait_until(lambda: self.ask("GET", self.url(name)) == "JobNotFound")

    # Tasks

    @rule(name=JOBS, task=TASKS, code=st.sampled_from([0, 0, 3]))
    def add_task(self, name: str, task: str, code: int) -> None:
        body = {"id": task, "commandLine": f"/bin/sh -c 'exit {code}'"}
        said = self.ask("POST", f"{self.url(name)}/tasks", body)
        if not self._is_there(name, said) or not self._goes_on(name, said, "ok", "TaskExists"):
            return
        tasks = self.jobs[name.lower()].tasks
        assert said == ("TaskExists" if task.lower() in tasks else "ok")
        if said == "ok":
            tasks[task.lower()] = Task(failed=code != 0)
            self._let_run(name)

    @rule(name=JOBS, tasks=st.lists(TASKS, min_size=1, max_size=6))
    def add_tasks(self, name: str, tasks: list[str]) -> None:
        body = {"value": [{"id": task, "commandLine": "/bin/true"} for task in tasks]}
        try:
            said, found = (
                "ok",
                self.admin.ask("POST", f"{self.url(name)}/addtaskcollection", body, query=VERSION)["value"],
            )
        except Refused as refusal:
            said, found = refusal.code, []
        if not self._is_there(name, said) or not self._goes_on(name, said):
            return
        there = self.jobs[name.lower()].tasks
        for task, result in zip(tasks, found, strict=True):
            code = result.get("error", {}).get("code", "ok")
            assert (result["taskId"], code) == (task, "TaskExists" if task.lower() in there else "ok")
            there.setdefault(task.lower(), Task())
        self._let_run(name)

    @rule(name=JOBS, task=TASKS)
    def terminate_task(self, name: str, task: str) -> None:
        said = self.ask("POST", f"{self.url(name, task)}/terminate")
        if not self._has_task(name, task, said):
            return
        found = self.jobs[name.lower()].tasks[task.lower()]
        assert said == ("TaskCompleted" if found.state == "completed" else "ok")
        if said == "ok":
            found.state, found.failed = "completed", True

    @rule(name=JOBS, task=TASKS)
    def reactivate_task(self, name: str, task: str) -> None:
        said = self.ask("POST", f"{self.url(name, task)}/reactivate")
        if not self._has_task(name, task, said):
            return
        job = self.jobs[name.lower()]
        found = job.tasks[task.lower()]
        if job.is_over:
            assert said == "OperationInvalidForCurrentState"
        elif found.state != "completed":
            assert said == "TaskNotCompleted"
        elif not found.failed:
            assert said == "TaskSucceeded"
        else:
            assert said == "ok"
            # What it will say next its command decides, which the model does not keep: it goes.
            assert self.ask("DELETE", self.url(name, task)) == "ok"
            del job.tasks[task.lower()]

    @rule(name=JOBS, task=TASKS)
    def delete_task(self, name: str, task: str) -> None:
        said = self.ask("DELETE", self.url(name, task))
        if self._has_task(name, task, said):
            assert said == "ok"
            del self.jobs[name.lower()].tasks[task.lower()]

    # What must hold

    @invariant()
    def jobs_are_alike(self) -> None:
        listed = self.read("/jobs")["value"]
        shown = {each["id"].lower(): each for each in listed if each["id"].startswith(self.prefix)}
        model = {f"{self.prefix}{name}": (job.state, job.priority) for name, job in self.jobs.items()}
        assert {name: (each["state"], each["priority"]) for name, each in shown.items()} == model

    @precondition(lambda self: self.jobs)
    @invariant()
    def tasks_are_alike(self) -> None:
        for name, job in self.jobs.items():
            listed = self.read(f"{self.url(name)}/tasks")["value"]
            shown = {each["id"].lower(): (each["state"], _failed(each)) for each in listed}
            assert shown == {
                key: (task.state, task.failed and task.state == "completed") for key, task in job.tasks.items()
            }
            counts = self.read(f"{self.url(name)}/taskcounts")["taskCounts"]
            ended = [task for task in job.tasks.values() if task.state == "completed"]
            assert counts["active"] == len(job.tasks) - len(ended)
            assert (counts["completed"], counts["failed"]) == (len(ended), sum(task.failed for task in ended))

    def teardown(self) -> None:
        for name in list(self.jobs):
            self.ask("DELETE", self.url(name))

    # How

    def _is_there(self, name: str, said: str) -> bool:
        if name.lower() in self.jobs:
            return True
        assert said == "JobNotFound"
        return False

    def _goes_on(self, name: str, said: str, *allowed: str) -> bool:
        """Whether the job is not over; if it is, that must have been said."""
        if self.jobs[name.lower()].is_over:
            assert said == "JobCompleted"
            return False
        assert said in (allowed or ("ok",))
        return True

    def _has_task(self, name: str, task: str, said: str) -> bool:
        if not self._is_there(name, said):
            return False
        if task.lower() in self.jobs[name.lower()].tasks:
            return True
        assert said == "TaskNotFound"
        return False

    def _let_run(self, name: str) -> None:
        """Tasks of an active job on the pool with a node end, as their commands say."""
        job = self.jobs[name.lower()]
        if not job.runs or job.state != "active":
            return
        wait_until(lambda: self.read(f"{self.url(name)}/taskcounts")["taskCounts"]["completed"] == len(job.tasks))
        for task in job.tasks.values():
            task.state = "completed"


def _failed(task: dict[str, Any]) -> bool:
    return bool(task["executionInfo"].get("result") == "failure")


@pytest.mark.timeout(300)
def test_the_service_and_a_model_of_it_agree(shared_batch_service: BatchService) -> None:
    admin = BatchAdmin(shared_batch_service.url, shared_batch_service.account, Secret(shared_batch_service.key))
    machine = {"imageReference": IMAGE, "nodeAgentSKUId": "batch.node.ubuntu 22.04"}
    for name, nodes in (("model-busy", 1), ("model-empty", 0)):
        body = {"id": name, "vmSize": "standard_d2s_v3", "virtualMachineConfiguration": machine}
        admin.ask("POST", "/pools", {**body, "targetDedicatedNodes": nodes, "taskSlotsPerNode": 4}, query=VERSION)
    Account.service = shared_batch_service
    run_state_machine_as_test(
        Account,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
