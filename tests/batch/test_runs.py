"""What a run needs around `AzureBatch`: the pool that does, failed tasks as new ones, logs, and the account's checks."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import responses

from azbatchwrap.batch import AzureBatch
from azbatchwrap.batch.checks import checks
from azbatchwrap.batch.logs import follow_log, kept_log, read_log
from azbatchwrap.batch.retry import failed_records, retry_failed
from azbatchwrap.batch.reuse import choose_pool, empty_pool, give_back
from azbatchwrap.batch.service import at
from azbatchwrap.config import Settings
from azbatchwrap.errors import ConfigurationError, NotFound, ServiceError
from azbatchwrap.manifest import TaskRecord
from azbatchwrap.storage import AzureBatchStorage
from tests.batch.conftest import URL, Door
from tests.fixtures_stack import LocalStack

PATIENCE = 90.0
TASKS = {
    "echo.py": "def do_action(engine, *args):\n    print('said')\n    return list(args)\n",
    "fail.py": "def do_action(engine, *args):\n    raise ValueError('always')\n",
    "wait.py": (
        "import pathlib, time\n"
        "def do_action(engine, stop):\n"
        "    print('begun', flush=True)\n"
        "    while not pathlib.Path(stop).exists(): time.sleep(0.05)\n"
        "    print('ended')\n"
    ),
}


@pytest.fixture
def settings(local_stack: LocalStack) -> Settings:
    """Settings of a project that no other test has."""
    return local_stack.settings(project=f"runs-{secrets.token_hex(4)}", slots_per_node=4)


@pytest.fixture
def batch(settings: Settings, tmp_path: Path) -> Iterator[AzureBatch]:
    with AzureBatchStorage(settings, hash_cache=tmp_path / "hashes") as storage:
        for name, text in TASKS.items():
            (tmp_path / name).write_text(text)
            storage.add_task_file_path(tmp_path / name)
        with AzureBatch(storage) as manager:
            yield manager
            manager.delete_all_jobs()
            manager.delete_all_pools()


def test_the_first_run_makes_a_pool_and_the_next_uses_it(batch: AzureBatch, settings: Settings) -> None:
    made = choose_pool(batch)
    assert (made.how, made.ours) == ("made", True)
    again = choose_pool(batch)
    assert (again.pool_id, again.how, again.ours) == (made.pool_id, "used again", False)
    assert choose_pool(batch, always_new=True).pool_id != made.pool_id
    for other in (replace(settings.pool, slots_per_node=2), replace(settings.pool, vm_size="standard_d4s_v5")):
        with AzureBatch(batch.storage, replace(settings, pool=other)) as different:
            assert choose_pool(different).how == "made"


def test_more_nodes_are_asked_for_but_none_is_taken_away(batch: AzureBatch, settings: Settings) -> None:
    pool_id = choose_pool(batch).pool_id
    with AzureBatch(batch.storage, replace(settings, pool=replace(settings.pool, node_count=2))) as wanting:
        grown = choose_pool(wanting)
        assert (grown.pool_id, grown.how, grown.ours) == (pool_id, "used again, with 2 nodes instead of 1", False)
        wanting.wait_for_pool(timeout=PATIENCE)
    assert choose_pool(batch).how == "used again"
    assert batch.pools.get(pool_id)["targetDedicatedNodes"] == 2


def test_an_emptied_pool_is_filled_again(batch: AzureBatch) -> None:
    pool_id = choose_pool(batch).pool_id
    batch.wait_for_pool(timeout=PATIENCE)
    job_id = batch.create_a_job()
    assert not empty_pool(batch, pool_id), "a job needs its nodes"
    batch.terminate_job(job_id)
    _until(lambda: batch.jobs.facts(job_id).ended)
    assert empty_pool(batch, pool_id)
    _until(lambda: batch.pools.get(pool_id)["allocationState"] == "steady")
    filled = choose_pool(batch)
    assert (filled.pool_id, filled.ours) == (pool_id, True)
    assert batch.wait_for_pool(timeout=PATIENCE) == 1


def test_a_run_that_is_off_gives_its_pool_back(batch: AzureBatch) -> None:
    made = choose_pool(batch)
    again = choose_pool(batch)
    assert "left as it was" in give_back(batch.pools, again)
    assert batch.pools.get(made.pool_id)["state"] == "active"
    batch.wait_for_pool(timeout=PATIENCE)
    assert empty_pool(batch, made.pool_id)
    _until(lambda: batch.pools.get(made.pool_id)["allocationState"] == "steady")
    filled = choose_pool(batch)
    _until(lambda: "emptied again" in give_back(batch.pools, filled))
    assert "deleted again" in give_back(batch.pools, made)


def test_failed_tasks_become_records_again(batch: AzureBatch) -> None:
    choose_pool(batch)
    job_id = batch.create_a_job()
    given = [
        TaskRecord(0, None, "echo.py", ("fine",)),
        TaskRecord(1, "bad", "fail.py", ("x" * 20_000, {"k": None}), retries=1, timeout=60.0, slots=2),
        TaskRecord(2, "child", "echo.py", ("größe",), inputs=(), depends_on=("bad", "task-000001")),
        TaskRecord(3, None, "fail.py", (), chain=False),
    ]
    batch.add_tasks_to_job(job_id, given)
    batch.wait_for_tasks(job_id, PATIENCE)
    expected = [
        replace(given[1], index=0),
        replace(given[2], index=1, depends_on=("bad",)),
        replace(given[3], index=2, id="task-000004"),
    ]
    assert failed_records(batch.service, batch.storage, job_id) == expected

    again = retry_failed(batch, job_id)
    assert again is not None
    results = batch.get_results(again, timeout=PATIENCE)
    assert [(result.task_id, result.state) for result in results] == [
        ("bad", "failed"), ("child", "cancelled"), ("task-000004", "failed"),
    ]  # fmt: skip
    assert "always" in str(results[0].error)


def test_a_job_without_failures_is_not_run_again(batch: AzureBatch) -> None:
    choose_pool(batch)
    job_id = batch.create_a_job()
    batch.add_tasks_to_job(job_id, ("echo.py", "x"))
    batch.wait_for_tasks(job_id, PATIENCE)
    assert retry_failed(batch, job_id) is None
    with pytest.raises(NotFound):
        retry_failed(batch, "no-such-job")


def test_tasks_of_a_job_that_ended_before_they_ran_are_run_again(batch: AzureBatch, tmp_path: Path) -> None:
    choose_pool(batch)
    job_id = batch.create_a_job()
    batch.add_tasks_to_job(job_id, [("wait.py", [str(tmp_path / "never")])] * 6)
    batch.terminate_job(job_id)
    _until(lambda: batch.jobs.facts(job_id).state == "completed")
    assert len(failed_records(batch.service, batch.storage, job_id)) == 6


def test_tasks_of_others_are_not_run_again(door: Door) -> None:
    path = f"{URL}/jobs/theirs"
    stranger = {"id": "t", "state": "completed", "commandLine": "true"}
    door.answers.add(responses.GET, f"{path}/tasks", json={"value": [stranger]})
    door.answers.add(responses.GET, path, json={"id": "theirs", "state": "active"})
    with pytest.raises(ConfigurationError, match="task t was not submitted by azbatchwrap"):
        failed_records(door.service, _NoBlobs(), "theirs")


def test_a_log_is_followed_to_its_end_and_kept_after_it(batch: AzureBatch, tmp_path: Path) -> None:
    choose_pool(batch)
    job_id = batch.create_a_job()
    stop = tmp_path / "stop"
    batch.add_tasks_to_job(job_id, {"TASK_MODULE": "wait.py", "TASK_INPUT": [str(stop)], "ID": "t"})
    pieces: list[bytes] = []
    follower = threading.Thread(target=lambda: pieces.extend(follow_log(batch.service, job_id, "t", interval=0.05)))
    follower.start()
    _until(lambda: b"begun" in b"".join(pieces))
    assert b"".join(read_log(batch.service, job_id, "t")) == b"begun\n"
    stop.touch()
    follower.join(PATIENCE)
    assert b"".join(pieces) == b"begun\nended\n"
    container = batch.jobs.facts(job_id).output_container
    _until(lambda: batch.jobs.facts(job_id) and _kept(batch, container, job_id) == b"begun\nended\n")
    with pytest.raises(NotFound):
        list(follow_log(batch.service, job_id, "t", "nothing.txt"))
    with pytest.raises(ConfigurationError):
        list(follow_log(batch.service, job_id, "t", "../../secret"))
    with pytest.raises(NotFound):
        list(follow_log(batch.service, job_id, "no-such-task"))


def test_the_checks_of_an_account(settings: Settings) -> None:
    found = {check.name: check for check in checks(settings)}
    assert all(found[name].ok for name in ("batch account", "storage account", "image", "pools"))
    assert "0 pools" in found["pools"].detail


def test_a_wrong_key_is_one_failed_check_and_never_shown(settings: Settings) -> None:
    assert settings.batch.key is not None
    wrong = type(settings.batch.key)("d3Jvbmc=")
    found = list(checks(replace(settings, batch=replace(settings.batch, key=wrong))))
    assert [check.name for check in found if check.ok is False] == ["batch account"]
    assert "d3Jvbmc=" not in json.dumps([check.detail for check in found])


class _NoBlobs:
    def read_json(self, container: str, blob: str) -> object:
        raise NotFound(f"{container}/{blob}")


def _kept(batch: AzureBatch, container: str, job_id: str) -> bytes:
    try:
        return kept_log(batch.storage, container, job_id, "t", "stdout.txt")
    except NotFound:
        return b""


def _until(condition: object) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_refusal_is_raised_and_not_logged_by_the_sdk(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    for method, status in ((responses.GET, 404), (responses.HEAD, 404), (responses.DELETE, 500)):
        door.answers.add(method, f"{URL}/jobs/x", status=status, body=b"<html>")
    for method in ("GET", "HEAD"):
        with pytest.raises(NotFound):
            door.service.request(method, at("jobs", "x"))
    with pytest.raises(ServiceError):
        door.service.request("DELETE", at("jobs", "x"))
    assert [record.name for record in caplog.records if record.name.startswith("azure.batch")] == []
