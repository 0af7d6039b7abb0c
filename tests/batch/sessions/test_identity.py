"""Pools and jobs with a managed identity, on an instance with its management plane."""

from __future__ import annotations

import secrets
from types import ModuleType

import pytest

from azbatchwrap.batch.sessions import PoolPolicy, Session
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
        assert pool["identity"]["userAssignedIdentities"] == [{"resourceId": IDENTITY}]
        assert pool["startTask"]["userIdentity"]["autoUser"] == {"scope": "pool", "elevationLevel": "admin"}
        assert pool["enableAutoScale"]
        session.manager.delete_pool(pool["id"])
