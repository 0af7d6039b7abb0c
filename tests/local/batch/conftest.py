"""What the contract tests share: a service, a client of the real SDK, and a pool that is ready."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from azure.batch import BatchClient, models

from tests.fixtures_service import BatchService
from tests.waiting import wait_until

_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


def machine() -> models.VirtualMachineConfiguration:
    """An Ubuntu image of today."""
    return models.VirtualMachineConfiguration(
        image_reference=models.BatchVmImageReference(
            publisher="Canonical", offer="0001-com-ubuntu-server-jammy", sku="22_04-lts"
        ),
        node_agent_sku_id="batch.node.ubuntu 22.04",
    )


def add_pool(client: BatchClient, nodes: int = 1, slots: int = 2, **options: Any) -> str:
    """A pool with so many nodes; returns its id."""
    pool_id = options.pop("id", None) or new_id("pool")
    settings = {"virtual_machine_configuration": machine(), "target_dedicated_nodes": nodes, **options}
    client.create_pool(
        models.BatchPoolCreateOptions(id=pool_id, vm_size="STANDARD_D2S_V3", task_slots_per_node=slots, **settings)
    )
    return pool_id


def add_job(client: BatchClient, pool_id: str, **options: Any) -> str:
    job_id = options.pop("id", None) or new_id("job")
    client.create_job(
        models.BatchJobCreateOptions(id=job_id, pool_info=models.BatchPoolInfo(pool_id=pool_id), **options)
    )
    return job_id


def add_task(client: BatchClient, job_id: str, command: str = "/bin/true", **options: Any) -> str:
    """A task that runs ``command`` in a shell unless it names a program by its path."""
    task_id = options.pop("id", None) or new_id("task")
    line = command if command.startswith("/") else f"/bin/sh -c '{command}'"
    client.create_task(job_id, models.BatchTaskCreateOptions(id=task_id, command_line=line, **options))
    return task_id


def completed(client: BatchClient, job_id: str, task_id: str) -> models.BatchTask:
    """The task, once it is completed."""

    def look() -> models.BatchTask | None:
        task = client.get_task(job_id, task_id)
        return task if task.state == models.BatchTaskState.COMPLETED else None

    found: models.BatchTask = wait_until(look)
    return found


def all_completed(client: BatchClient, job_id: str, count: int) -> None:
    """Once so many tasks of the job are completed."""
    wait_until(lambda: client.get_job_task_counts(job_id).task_counts.completed >= count)


def read_file(client: BatchClient, job_id: str, task_id: str, name: str = "stdout.txt") -> str:
    return b"".join(client.download_task_file(job_id, task_id, name)).decode()


@pytest.fixture
def client(shared_batch_service: BatchService) -> Iterator[BatchClient]:
    with shared_batch_service.client() as client:
        yield client


@pytest.fixture(scope="session")
def pool_id(shared_batch_service: BatchService) -> str:
    """One node of two slots, shared by tests that only need a place to run."""
    with shared_batch_service.client() as client:
        return add_pool(client, id="shared-pool")


@pytest.fixture
def job_id(client: BatchClient, pool_id: str) -> str:
    return add_job(client, pool_id)
