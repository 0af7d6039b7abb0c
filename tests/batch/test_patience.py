"""Accounts without room: waited out, or explained."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.batch import AzureBatch
from azbatchwrap.batch.patience import Patience, seconds_of
from azbatchwrap.batch.service import Json
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.errors import Conflict, ManifestError, ResizeFailed
from azbatchwrap.local.stack import Options, Stack
from azbatchwrap.progress import NullProgress
from azbatchwrap.storage import AzureBatchStorage
from tests.fixtures_stack import LocalStack, clean_environment, ended_stack, local_variables

DEADLINE = 60.0
AWAKE = {"node_quota": None, "job_quota": None}
Limit = Callable[..., object]


class Said(NullProgress):
    """Calls ``then`` when something is said, and remembers it."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.lines: list[str] = []
        self._then = then

    def message(self, text: str) -> None:
        self.lines.append(text)
        self._then()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """An instance of these tests' own, since its quotas are reached."""
    from azbatchwrap import config

    folder = tmp_path_factory.mktemp("instance")
    with ended_stack(folder):
        Stack(folder).up(Options(max_processes=2))
        endpoint = config.read_endpoint(folder)
        assert endpoint is not None
        yield LocalStack(folder, clean_environment(folder) | local_variables(endpoint), endpoint)


@pytest.fixture
def limit(stack: LocalStack) -> Iterator[Limit]:
    yield lambda **quotas: Stack(stack.folder).chaos(quotas)
    Stack(stack.folder).chaos(AWAKE)


@pytest.fixture
def open_batch(stack: LocalStack) -> Iterator[Callable[..., AzureBatch]]:
    opened: list[AzureBatch] = []

    def open_one(**options: Any) -> AzureBatch:
        storage = AzureBatchStorage(stack.settings(project=f"room-{secrets.token_hex(3)}"))
        opened.append(AzureBatch(storage, **options))
        return opened[-1]

    yield open_one
    for batch in opened:
        for job_id in batch.delete_all_jobs():
            assert job_id
        batch.delete_all_pools()
        batch.close()


def test_a_pool_gets_its_nodes_once_there_is_room(limit: Limit, open_batch: Callable[..., AzureBatch]) -> None:
    limit(node_quota=0)
    said = Said(lambda: limit(**AWAKE))
    batch = open_batch(progress=said)
    pool_id = batch.create_pool(node_count=2)
    assert batch.wait_for_pool(pool_id, DEADLINE) == 2
    assert "0 of 2 nodes: AccountCoreQuotaReached" in said.lines[0]


def test_without_patience_the_error_says_what_to_do(limit: Limit, open_batch: Callable[..., AzureBatch]) -> None:
    batch = open_batch(patience=0)
    pool_id = batch.create_pool(node_count=1)
    limit(job_quota=0)
    with pytest.raises(Conflict, match="end some"):
        batch.create_a_job(pool_id)
    limit(node_quota=0)
    with pytest.raises(ResizeFailed, match="higher quota"):
        batch.create_pool(node_count=1, wait=True)


def test_a_job_is_made_once_others_have_ended(limit: Limit, open_batch: Callable[..., AzureBatch]) -> None:
    said = Said(lambda: limit(**AWAKE))
    batch = open_batch(progress=said)
    pool_id = batch.create_pool(node_count=1)
    limit(job_quota=0)
    assert batch.create_a_job(pool_id)
    assert "ActiveJobAndScheduleQuotaReached" in said.lines[0]


@pytest.mark.parametrize("quota", [{"node_quota": 0}, {"job_quota": 0}])
def test_a_session_says_what_it_lacks(limit: Limit, stack: LocalStack, quota: dict[str, int]) -> None:
    limit(**quota)
    settings = stack.settings(project=f"room-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=PoolPolicy.small(), patience=0) as session:
        error = session.submit(math.factorial, 3).exception(DEADLINE)
    assert isinstance(error, ResizeFailed if "node_quota" in quota else Conflict)
    assert "higher quota" in str(error)


def test_warm_calls_wait_no_longer_for_nodes_than_their_session(limit: Limit, stack: LocalStack) -> None:
    limit(node_quota=0)
    settings = stack.settings(project=f"room-{secrets.token_hex(3)}")
    with (
        Session(settings=settings, pool=PoolPolicy.small(), patience=0.5) as session,
        session.interactive(engines=1) as warm,
    ):
        error = warm.submit(math.factorial, 3).exception(DEADLINE)
    assert isinstance(error, ResizeFailed)


def test_a_session_waits_for_a_job(limit: Limit, stack: LocalStack) -> None:
    limit(job_quota=0)
    said = Said(lambda: limit(**AWAKE))
    settings = stack.settings(project=f"room-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=PoolPolicy.small(), progress=said) as session:
        assert session.submit(math.factorial, 3).result(DEADLINE) == 6


def test_a_run_says_what_it_lacks(limit: Limit, stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "1_task.py").write_text("def do_action(engine):\n    return 1\n")
    (tmp_path / "task.json").write_text('{"JOB_MANIFEST": [{"TASK_MODULE": "1_task.py"}]}')
    limit(node_quota=0)
    done = stack.run("run", "task.json", "--patience", "0", "--new-pool", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "AccountCoreQuotaReached" in done.stderr
    assert "ask Azure for a higher quota" in done.stderr
    assert stack.run("run", "task.json", "--patience", "soon", folder=tmp_path).returncode == 2


def refuse(code: str) -> Callable[[], Json]:
    def create() -> Json:
        raise Conflict("no", code=code, status=409)

    return create


def test_patience_ends() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    patience = Patience(60, 15, clock=lambda: now[0], sleep=sleep)
    with pytest.raises(Conflict):
        patience.wait_out(refuse("PoolQuotaReached"))
    assert now == [60]
    with pytest.raises(Conflict):
        patience.wait_out(refuse("PoolExists"))
    assert now == [60]


def test_patience_as_users_write_it() -> None:
    assert (seconds_of("30m"), seconds_of(5), seconds_of(0), seconds_of("0")) == (1800, 5, 0, 0)
    with pytest.raises(ManifestError):
        seconds_of("a while")
