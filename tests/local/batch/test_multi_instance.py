"""Multi-instance tasks over the real SDK."""

from __future__ import annotations

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError

from tests.local.batch.conftest import add_job, add_pool, add_task, completed, read_file


def test_coordination_runs_everywhere_before_the_primary(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=3, slots=1, enable_inter_node_communication=True)
    job_id = add_job(client, pool_id)
    settings = models.MultiInstanceSettings(
        number_of_instances=3,
        coordination_command_line="/bin/sh -c 'echo $AZ_BATCH_IS_CURRENT_NODE_MASTER > $AZ_BATCH_TASK_SHARED_DIR/mark'",
    )
    task_id = add_task(
        client, job_id, "cat $AZ_BATCH_TASK_SHARED_DIR/mark; echo $AZ_BATCH_HOST_LIST", multi_instance_settings=settings
    )

    task = completed(client, job_id, task_id)

    master, hosts = read_file(client, job_id, task_id).splitlines()
    assert master == "true"
    assert len(set(hosts.split(","))) == 3
    subtasks = list(client.list_subtasks(job_id, task_id))
    assert [(subtask.id, subtask.exit_code) for subtask in subtasks] == [(1, 0), (2, 0)]
    nodes = {subtask.node_info.node_id for subtask in subtasks} | {task.node_info.node_id}
    assert nodes == {node.id for node in client.list_nodes(pool_id)}


def test_a_failed_coordination_fails_the_task(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=2, slots=1)
    job_id = add_job(client, pool_id)
    settings = models.MultiInstanceSettings(number_of_instances=2, coordination_command_line="/bin/false")
    task_id = add_task(client, job_id, "echo never", multi_instance_settings=settings)

    assert completed(client, job_id, task_id).execution_info.exit_code == 1
    assert "never" not in read_file(client, job_id, task_id)
    assert all(node.state == models.BatchNodeState.IDLE for node in client.list_nodes(pool_id))


def test_it_takes_one_slot_a_node(client: BatchClient, job_id: str) -> None:
    settings = models.MultiInstanceSettings(number_of_instances=2, coordination_command_line="/bin/true")
    with pytest.raises(HttpResponseError):
        add_task(client, job_id, multi_instance_settings=settings, required_slots=2)
