"""All operations have a handler, and the asynchronous client finds the same service."""

from __future__ import annotations

import inspect

from azure.batch.aio import BatchClient as AsyncBatchClient
from azure.core.credentials import AzureNamedKeyCredential

from azbatchwrap.local.batch.routes import FORMER_OPERATIONS, OPERATIONS, find
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_task, completed


def test_the_table_holds_the_72_operations_of_the_service() -> None:
    assert len(OPERATIONS) == len({name for name, *_ in OPERATIONS}) == 72
    assert len({(verb, address) for _, verb, address, _ in OPERATIONS}) == 72


def test_every_operation_is_found_by_its_address() -> None:
    for _name, verb, address, handler in (*OPERATIONS, *FORMER_OPERATIONS):
        path = address.replace("{*}", "a/b%20c.txt").replace("{}", "An-Id_1")
        found, parameters = find(verb, path)
        assert found is handler
        assert len(parameters) == address.count("{")


def test_every_operation_of_the_client_has_a_handler() -> None:
    ours = {name for name, *_ in OPERATIONS}
    public = {
        name.removeprefix("begin_")
        for name, method in inspect.getmembers(AsyncBatchClient, callable)
        if not name.startswith("_") and name not in {"close", "send_request", "create_tasks"}
    }
    assert public - ours == set()


async def test_the_asynchronous_client(shared_batch_service: BatchService, pool_id: str) -> None:
    with shared_batch_service.client() as client:
        job_id = add_job(client, pool_id)
        task_id = add_task(client, job_id, "echo hi")
        completed(client, job_id, task_id)
    credential = AzureNamedKeyCredential(shared_batch_service.account, shared_batch_service.key)
    async with AsyncBatchClient(shared_batch_service.url, credential) as client:
        assert (await client.get_task(job_id, task_id)).state == "completed"
        assert [task.id async for task in client.list_tasks(job_id)] == [task_id]
        stream = await client.download_task_file(job_id, task_id, "stdout.txt")
        assert b"".join([piece async for piece in stream]) == b"hi\n"
        await (await client.begin_delete_job(job_id)).result()
