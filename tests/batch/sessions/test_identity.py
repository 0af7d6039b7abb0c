"""Pools and jobs with a managed identity, on an instance with its management plane."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch import AzureBatch, Registry
from azbatchwrap.batch.access import chosen_identity
from azbatchwrap.batch.retry import retry_failed
from azbatchwrap.batch.service import at
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.storage import AzureBatchStorage
from tests.batch.sessions.conftest import DEADLINE
from tests.fixtures_aml import AmlStack

PLACE = "/subscriptions/s/resourceGroups/g/providers"
IDENTITY = f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/me"


def test_a_pool_with_an_identity_is_made_by_the_management_plane(
    aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch, work: ModuleType
) -> None:
    aml_stack.use(monkeypatch)
    policy = PoolPolicy.small(identity=IDENTITY, start_commands=["true"])
    settings = aml_stack.settings(project=f"identity-{secrets.token_hex(3)}")
    with Session(settings=settings, pool=policy) as session:
        assert session.submit(work.square, 7).result(DEADLINE) == 49
        pool = session.manager.pools.get(session.pool_id())
        assert [each["resourceId"] for each in pool["identity"]["userAssignedIdentities"]] == [IDENTITY]
        assert pool["startTask"]["userIdentity"]["autoUser"] == {"scope": "pool", "elevationLevel": "admin"}
        assert pool["enableAutoScale"]
        session.manager.delete_pool(pool["id"])


def test_registries_are_signed_in_to_as_the_pool(aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch) -> None:
    aml_stack.use(monkeypatch)
    registries = [Registry("mine.azurecr.io"), Registry("other.io", "me", "secret")]
    with AzureBatch(AzureBatchStorage(aml_stack.settings(project="registries"))) as batch:
        plan = {"container": "mine.azurecr.io/tool:1", "registries": registries, "identity": IDENTITY}
        pool_id = batch.create_pool(node_count=0, **plan)
        configured = batch.pools.get(pool_id)["virtualMachineConfiguration"]["containerConfiguration"]
        batch.delete_pool(pool_id)
    assert configured["containerImageNames"] == ["mine.azurecr.io/tool:1"]
    own, other = configured["containerRegistries"]
    assert own == {"registryServer": "mine.azurecr.io", "identityReference": {"resourceId": IDENTITY}}
    assert (other["registryServer"], other["username"]) == ("other.io", "me")
    assert "secret" not in json.dumps(configured)


def test_nodes_open_storage_as_their_pool(
    aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch, work: ModuleType, tmp_path: Path
) -> None:
    """No signature anywhere: files, long arguments, results as arguments and outputs all go by the identity."""
    aml_stack.use(monkeypatch)
    (tmp_path / "in.txt").write_text("given")
    settings = aml_stack.settings(project=f"identity-{secrets.token_hex(3)}")
    arguments: dict[str, Any] = {"pool": PoolPolicy.small(identity=IDENTITY), "inputs": [tmp_path / "in.txt"]}
    with Session(settings=settings, access="identity", **arguments) as session:
        given = session.submit(work.give, "out.txt")
        failed = session.submit(work.fail, 1)
        total = session.merge(work.total, [session.submit(work.square, n) for n in (1, 2, 3)])
        forgiving = session.options(on_failure="ignore").submit(work.total, [failed, session.submit(work.square, 4)])
        long = session.submit(work.largest, "x" * 50_000)
        assert "in.txt" in given.result(DEADLINE)
        assert given.files() == ["out.txt"]
        assert (total.result(DEADLINE), forgiving.result(DEADLINE)) == (14, 16)
        assert long.result(DEADLINE)["length"] == 50_000
        service = session.manager.service
        seen = [service.get(at("jobs", total.job_id)), *service.list(at("jobs", total.job_id, "tasks"))]
        assert "sig=" not in json.dumps(seen)
        session.manager.delete_pool(session.pool_id())


def test_failed_tasks_run_again_with_the_same_access(
    aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aml_stack.use(monkeypatch)
    (tmp_path / "1_task.py").write_text("def do_action(engine, word):\n    return int(word)\n")
    with AzureBatchStorage(aml_stack.settings(project=f"identity-{secrets.token_hex(3)}")) as storage:
        storage.add_task_file_path(tmp_path / "1_task.py")
        with AzureBatch(storage) as batch:
            pool_id = batch.create_pool(node_count=1, identity=IDENTITY)
            job_id = batch.create_a_job(access="identity")
            batch.add_tasks_to_job(job_id, [("1_task.py", "7"), ("1_task.py", "nothing")])
            assert [result.value for result in batch.get_results(job_id, timeout=DEADLINE)] == [7, None]
            again = retry_failed(batch, job_id)
            assert again is not None
            assert batch.jobs.facts(again).identity == IDENTITY
            (result,) = batch.get_results(again, timeout=DEADLINE)
            assert result.state == "failed"
            assert "invalid literal" in str(result.error)
            batch.delete_pool(pool_id)


def test_an_identity_takes_over_where_no_signature_lasts() -> None:
    assert chosen_identity(None, IDENTITY, signature_lasts=False) == IDENTITY
    assert chosen_identity(None, IDENTITY, signature_lasts=True) == ""
    assert chosen_identity("signature", IDENTITY, signature_lasts=True) == ""
    assert chosen_identity(None, "", signature_lasts=False) == ""  # which the job's plan refuses
    with pytest.raises(ConfigurationError, match="needs a pool that has one"):
        chosen_identity("identity", "", signature_lasts=True)
    with pytest.raises(ConfigurationError, match="'signature' or 'identity'"):
        chosen_identity("password", IDENTITY, signature_lasts=True)  # type: ignore[arg-type]


def test_a_job_of_weeks_has_signatures_that_can_be_taken_back(
    open_session: Callable[..., Session], work: ModuleType
) -> None:
    with open_session(limit="20d") as session:
        total = session.merge(work.total, [session.submit(work.square, n) for n in (1, 2)])
        assert total.result(DEADLINE) == 5
        service = session.manager.service
        seen = json.dumps([service.get(at("jobs", total.job_id)), *service.list(at("jobs", total.job_id, "tasks"))])
        assert seen.count("sig=") == sum(seen.count(f"si=azbatchwrap-{rights}&") for rights in ("r", "rl", "cw"))
