"""The management plane of the account: asked over TLS with a token, as Azure's is."""

from __future__ import annotations

import dataclasses

import pytest

from azbatchwrap.batch.management import Management, Quotas, management_of
from azbatchwrap.config import ManagementPlane
from azbatchwrap.errors import AccessDenied, ConfigurationError, NotFound
from tests.fixtures_aml import AmlStack


@pytest.fixture
def management(aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch) -> Management:
    aml_stack.use(monkeypatch)
    return management_of(aml_stack.settings())


def test_quotas_and_sizes(management: Management) -> None:
    assert management.quotas() == Quotas(350, 100, {}, 100, 300)
    size = management.sizes()["standard_d2s_v3"]
    assert (size.cores, size.memory, size.family) == (2, 8.0, "standardDSv3Family")
    management.close()


def test_another_subscription_has_no_such_account(aml_stack: AmlStack, monkeypatch: pytest.MonkeyPatch) -> None:
    aml_stack.use(monkeypatch)
    plane = aml_stack.settings().management
    assert plane is not None
    with pytest.raises(NotFound, match="no Batch account another"):
        Management(plane, "another").quotas()
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(AccessDenied, match="az login"):
        Management(plane, "localbatch").quotas()


def test_what_is_not_configured_is_said(aml_stack: AmlStack) -> None:
    without = dataclasses.replace(aml_stack.settings(), management=None)
    with pytest.raises(ConfigurationError, match="AZURE_SUBSCRIPTION_ID"):
        management_of(without)
    with pytest.raises(ConfigurationError, match="must begin with https"):
        Management(ManagementPlane("s", "http://127.0.0.1:1/metadata"), "a").quotas()
