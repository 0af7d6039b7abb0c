"""A bad day on request: what the faults do, and that a driver gets through them with the same results."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.batch import BatchClient
from azure.batch import models as batch_models
from azure.core.exceptions import HttpResponseError

from azbatchwrap.batch import AzureBatch
from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin, Refused
from azbatchwrap.local.stack import Stack
from azbatchwrap.storage import AzureBatchStorage
from tests.fixtures_service import BatchService
from tests.fixtures_stack import LocalStack
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.waiting import wait_until

PATIENCE = 100.0
CALM = {
    "throttle": 0, "error": 0, "upload_error": 0, "spot_preemption": 0, "counts_lag": 0, "allocation_delay": 0,
    "node_quota": None, "job_quota": None,
}  # fmt: skip


def admin_of(service: BatchService) -> BatchAdmin:
    return BatchAdmin(service.url, service.account, Secret(service.key))


@pytest.fixture
def chaos(shared_batch_service: BatchService) -> Iterator[Any]:
    """Sets faults of the shared service, and takes them back."""
    admin = admin_of(shared_batch_service)
    yield lambda **changes: admin.ask("PATCH", "/_local/chaos", changes)
    admin.ask("PATCH", "/_local/chaos", CALM)


@pytest.fixture
def client(shared_batch_service: BatchService) -> Iterator[BatchClient]:
    """A client that does not try again."""
    with shared_batch_service.client(retry_total=0) as client:
        yield client


# A driver


def _drive(stack: LocalStack, folder: Path) -> list[tuple[object, ...]]:
    """Run tasks that succeed and one that fails, with what they leave; no node or time in the result."""
    folder.mkdir()
    (folder / "step.py").write_text(
        "def do_action(engine, *words):\n"
        "    if words[0] == 'bad': raise ValueError('as asked')\n"
        "    engine.data_to_upload('kept ' + words[0])\n"
        "    return list(words)\n"
    )
    settings = stack.settings(project=f"chaos-{secrets.token_hex(4)}", slots_per_node=4)
    with AzureBatchStorage(settings, hash_cache=folder / "hashes") as storage:
        storage.add_task_file_path(folder / "step.py")
        with AzureBatch(storage) as driver:
            pool_id = driver.create_pool()
            job_id = driver.create_a_job()
            driver.add_tasks_to_job(job_id, [("step.py", word) for word in ("one", "two", "bad", "three")])
            driver.wait_for_tasks(job_id, timeout=PATIENCE)
            found = [(r.state, r.value, r.error and r.error.type, len(r.outputs)) for r in driver.get_results(job_id)]
            driver.delete_all_jobs()
            driver.delete_pool(pool_id)
    return found


def test_a_driver_gets_the_same_results_on_a_bad_day(local_stack: LocalStack, tmp_path: Path) -> None:
    calm = _drive(local_stack, tmp_path / "calm")
    assert [state for state, *_ in calm] == ["succeeded", "succeeded", "failed", "succeeded"]
    stack = Stack(local_stack.folder)
    stack.chaos({"throttle": 0.2, "error": 0.05, "retry_after": 0, "seed": 7})
    try:
        assert _drive(local_stack, tmp_path / "bad") == calm
    finally:
        stack.chaos({"throttle": 0, "error": 0, "retry_after": 1})


def test_the_command_changes_faults_while_the_service_runs(local_stack: LocalStack) -> None:
    place = ("--data-dir", str(local_stack.folder))
    try:
        done = local_stack.run("local", "chaos", "set", *place, "--counts-lag", "120", "--seed", "5", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["counts_lag"] == 120
        shown = json.loads(local_stack.run("local", "chaos", "show", *place, "--json").stdout)
        assert (shown["counts_lag"], shown["seed"], shown["throttle"]) == (120, 5, 0)
        kept = json.loads((local_stack.folder / "batch" / "service.json").read_text())["chaos"]
        assert kept["counts_lag"] == 120
    finally:
        cleared = local_stack.run("local", "chaos", "clear", *place)
    assert cleared.returncode == 0
    assert "counts-lag        0.0" in cleared.stdout


@pytest.mark.parametrize("words", [("set",), ("set", "--throttle", "2"), ("set", "--seed", "many")])
def test_wrong_use_of_the_command_is_told(local_stack: LocalStack, words: tuple[str, ...]) -> None:
    assert local_stack.run("local", "chaos", *words).returncode == 2


def test_without_an_instance_the_command_says_what_to_do(local_stack: LocalStack, tmp_path: Path) -> None:
    done = local_stack.run("local", "chaos", "show", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "azbatchwrap local up" in done.stderr


# What each fault does


def _statuses(client: BatchClient, count: int) -> list[int]:
    found = []
    for _ in range(count):
        try:
            list(client.list_pools(select=["id"]))
        except HttpResponseError as error:
            found.append(error.status_code or 0)
        else:
            found.append(200)
    return found


def test_requests_are_throttled_and_refused_at_their_rates_and_alike_for_one_seed(
    client: BatchClient, chaos: Any
) -> None:
    chaos(throttle=0.3, error=0.2, seed=11)
    first = _statuses(client, 60)
    assert set(first) == {200, 429, 503}
    assert 8 <= first.count(429) <= 30
    chaos(seed=11)
    assert _statuses(client, 60) == first


def test_throttled_clients_hear_when_to_come_back(client: BatchClient, chaos: Any) -> None:
    chaos(throttle=1, retry_after=30)
    with pytest.raises(HttpResponseError) as caught:
        list(client.list_jobs())
    assert caught.value.status_code == 429
    assert caught.value.response is not None
    assert caught.value.response.headers["retry-after"] == "30"
    chaos(retry_after=1)


def test_quotas_are_reached_and_raised(client: BatchClient, chaos: Any) -> None:
    chaos(node_quota=0, job_quota=0)
    pool_id = add_pool(client, target_dedicated_nodes=2)
    pool = client.get_pool(pool_id)
    assert (pool.current_dedicated_nodes, pool.allocation_state) == (0, "steady")
    assert pool.resize_errors is not None
    assert [error.code for error in pool.resize_errors] == ["AccountCoreQuotaReached"]
    with pytest.raises(HttpResponseError) as refused:
        add_job(client, pool_id)
    assert refused.value.error.code == "ActiveJobAndScheduleQuotaReached"
    chaos(node_quota=None, job_quota=None)
    again = batch_models.BatchPoolResizeOptions(target_dedicated_nodes=2)
    client.begin_resize_pool(pool_id, again).result()
    pool = client.get_pool(pool_id)
    assert (pool.current_dedicated_nodes, pool.resize_errors) == (2, None)
    assert add_job(client, pool_id)


def test_counts_lag_behind_the_tasks(client: BatchClient, chaos: Any, pool_id: str) -> None:
    job_id = add_job(client, pool_id)
    completed(client, job_id, add_task(client, job_id, "echo early"))
    chaos(counts_lag=3600)
    completed(client, job_id, add_task(client, job_id, "echo late"))
    later = add_job(client, pool_id)
    completed(client, later, add_task(client, later, "echo later"))
    assert client.get_job_task_counts(job_id).task_counts.completed == 1
    assert client.get_job_task_counts(later).task_counts.completed == 0
    chaos(counts_lag=0)
    assert client.get_job_task_counts(job_id).task_counts.completed == 2


def test_uploads_fail_with_the_service_s_code(client: BatchClient, chaos: Any, pool_id: str) -> None:
    chaos(upload_error=1)
    job_id = add_job(client, pool_id)
    output = batch_models.OutputFile(
        file_pattern="../std*.txt",
        destination=batch_models.OutputFileDestination(
            container=batch_models.OutputFileBlobContainerDestination(container_url="http://127.0.0.1:9/c?sas")
        ),
        upload_options=batch_models.OutputFileUploadConfiguration(upload_condition="taskcompletion"),
    )
    task_id = add_task(client, job_id, "echo hi", output_files=[output])
    info = completed(client, job_id, task_id).execution_info
    assert (info.exit_code, info.failure_info.code) == (0, "FileUploadMiscError")


def test_spot_nodes_are_taken_away_and_their_tasks_run_again(client: BatchClient, chaos: Any, tmp_path: Path) -> None:
    pool_id = add_pool(client, target_dedicated_nodes=0, target_low_priority_nodes=1)
    job_id = add_job(client, pool_id)
    marks = tmp_path / "marks"
    task_id = add_task(client, job_id, f"echo began >> {marks}; while [ $(wc -l < {marks}) -lt 2 ]; do sleep 0.1; done")
    wait_until(marks.exists)
    chaos(spot_preemption=1)
    wait_until(lambda: [node.state for node in client.list_nodes(pool_id)] == ["preempted"])
    chaos(spot_preemption=0)
    info = completed(client, job_id, task_id).execution_info
    assert (info.exit_code, info.retry_count, info.requeue_count) == (0, 0, 0)
    assert marks.read_text() == "began\n" * 2


# The admin route


def test_the_admin_route_wants_the_key_and_knows_its_settings(shared_batch_service: BatchService) -> None:
    admin = admin_of(shared_batch_service)
    assert requests.get(f"{shared_batch_service.url}/_local/chaos", timeout=10).status_code == 403
    stranger = BatchAdmin(shared_batch_service.url, shared_batch_service.account, Secret("d3Jvbmc="))
    for ask, status in (
        (lambda: stranger.ask("GET", "/_local/chaos"), 403),
        (lambda: admin.ask("PATCH", "/_local/chaos", {"thottle": 1}), 400),
        (lambda: admin.ask("PATCH", "/_local/chaos", {"throttle": "much"}), 400),
        (lambda: admin.ask("PATCH", "/_local/chaos", [1]), 400),
        (lambda: admin.ask("PATCH", "/_local/chaos", {"seed": 0.5}), 400),
        (lambda: admin.ask("GET", "/_local/other"), 404),
        (lambda: admin.ask("PUT", "/_local/applications/..%2Fout", {"versions": []}), 400),
        (lambda: admin.ask("PUT", "/_local/applications/a", {"versions": [{"version": "..", "url": "u"}]}), 400),
        (lambda: admin.ask("PUT", "/_local/pools/none", {}), 404),
    ):
        with pytest.raises(Refused) as caught:
            ask()
        assert caught.value.status == status
    assert admin.ask("GET", "/_local/chaos")["throttle"] == 0


def test_a_service_starts_with_the_faults_of_an_older_release(tmp_path: Path) -> None:
    service = BatchService(tmp_path / "older", chaos={"throttle": 0.5, "a_fault_of_old": True})
    service.start()
    try:
        in_force = admin_of(service).ask("GET", "/_local/chaos")
        assert in_force["throttle"] == 0.5
        assert "a_fault_of_old" not in in_force
        assert "a_fault_of_old" in service.log
    finally:
        service.stop()
