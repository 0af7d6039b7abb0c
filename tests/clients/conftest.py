"""Fixtures: what the clients' programs need to know of a running instance."""

from __future__ import annotations

from typing import Any

import pytest

from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin
from azbatchwrap.local.arm.blobs import Blobs
from azbatchwrap.local.arm.names import TENANT
from azbatchwrap.local.stack import Stack
from tests.fixtures_aml import AmlStack

#: A container that nodes upload their logs to, and an application that is there before the clients come.
LOGS = "client-logs"
APPLICATION = "of-the-fixture"


@pytest.fixture(scope="session")
def client_settings(aml_stack: AmlStack) -> dict[str, Any]:
    """What a program reads from its standard input, but for its ``prefix``."""
    batch = Stack(aml_stack.folder).endpoint()["batch"]
    storage = aml_stack.endpoint.storage.connection_string
    assert storage is not None
    blobs = Blobs(storage.reveal())
    blobs.ensure(LOGS)
    versions = [{"version": "1.0", "url": "http://127.0.0.1:9/nobody-asks-for-it.zip"}]
    admin = BatchAdmin(batch["url"], batch["account"], Secret(batch["key"]))
    admin.ask("PUT", f"/_local/applications/{APPLICATION}", {"versions": versions})
    return {
        **{name: batch[name] for name in ("url", "tls_url", "account", "key")},
        "authority": aml_stack.url,
        "metadata_url": aml_stack.environment["ARM_CLOUD_METADATA_URL"],
        "tenant_id": TENANT,
        "client_id": aml_stack.client_id,
        "client_secret": aml_stack.client_secret,
        "subscription_id": aml_stack.subscription,
        "ca_bundle": aml_stack.bundle,
        "container_url": blobs.signed(LOGS, writes=True),
    }
