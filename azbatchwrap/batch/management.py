"""The management plane of a Batch account: what only it knows (quotas, VM sizes) and may do (pools with an identity)."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azbatchwrap.config import ManagementPlane, Settings
from azbatchwrap.config.cloud import described_at
from azbatchwrap.errors import AccessDenied, ConfigurationError, NotFound, Unreachable

from .service import Json, redact, refusal

if TYPE_CHECKING:
    from azure.mgmt.batch import BatchManagementClient

#: Seconds for a connection, and for the next bytes of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
#: The data plane's spelling -> the management plane's.
_SPELLINGS = {"nodeAgentSKUId": "nodeAgentSkuId", "virtualMachineImageId": "id", "username": "userName"}
#: Members of a pool that both planes call alike.
_SHARED = ("vmSize", "taskSlotsPerNode", "taskSchedulingPolicy", "metadata", "startTask", "networkConfiguration")
#: Words that the management plane writes with capitals.
_WORDS = {"pool": "Pool", "task": "Task", "nonadmin": "NonAdmin", "admin": "Admin", "spread": "Spread", "pack": "Pack"}


@dataclass(frozen=True, slots=True)
class MachineSize:
    """A VM size that a location offers to Batch. ``memory`` is in GB; quotas are counted per ``family``."""

    name: str
    family: str
    cores: int
    memory: float

    def __str__(self) -> str:
        return f"{self.name}: {self.cores} cores, {self.memory:g} GB, {self.family}"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What the account may have; ``None`` where its subscription decides. ``families`` only where they are enforced."""

    dedicated_cores: int | None
    low_priority_cores: int | None
    families: Mapping[str, int] = field(default_factory=dict)
    pools: int | None = None
    jobs: int | None = None


class Management:
    """The management side of one Batch account. Every call may raise a `ServiceError` or a ConfigurationError."""

    def __init__(self, plane: ManagementPlane, account: str) -> None:
        self._plane = plane
        self._account = account
        self._client: BatchManagementClient | None = None
        self._found: Any = None

    def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            self._client.close()

    def quotas(self) -> Quotas:
        """What the account may have. Raises NotFound when the subscription has no such account."""
        account = self._place()
        families = (
            account.dedicated_core_quota_per_vm_family or ()
            if account.dedicated_core_quota_per_vm_family_enforced
            else ()
        )
        return Quotas(
            account.dedicated_core_quota,
            account.low_priority_core_quota,
            {str(one.name).lower(): int(one.core_quota) for one in families},
            account.pool_quota,
            account.active_job_and_job_schedule_quota,
        )

    def sizes(self) -> dict[str, MachineSize]:
        """The VM sizes of the account's location, by their names in lower case."""
        location = str(self._place().location)
        with _translated("asking for the VM sizes"):
            listed = list(self._open().location.list_supported_virtual_machine_skus(location))
        found = (_size(each) for each in listed)
        return {size.name.lower(): size for size in found}

    def create_pool(self, body: Json, identity: str = "") -> None:
        """Make the pool that ``body`` describes in the data plane's words, with a user-assigned identity."""
        group, pool_id = _group(str(self._place().id)), str(body["id"])
        wanted: Json = {"properties": as_properties(body)}
        if identity:
            wanted["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
        with _translated(f"making pool {pool_id}"):
            content = io.BytesIO(json.dumps(wanted).encode())
            self._open().pool.create(group, self._account, pool_id, content, headers={"If-None-Match": "*"})

    def _place(self) -> Any:
        """The account, looked up by its name: it says its resource group, its location and its quotas."""
        if self._found is None:
            with _translated("looking for the Batch account"):
                for account in self._open().batch_account.list():
                    if str(account.name).lower() == self._account.lower():
                        self._found = account
        if self._found is None:
            raise NotFound(
                f"subscription {self._plane.subscription} has no Batch account {self._account}", code="AccountNotFound"
            )
        return self._found

    def _open(self) -> BatchManagementClient:
        if self._client is None:
            self._client = _client(self._plane)
        return self._client


def management_of(settings: Settings) -> Management:
    """The management side of the configured account. Raises ConfigurationError where none is configured."""
    if settings.management is None:
        raise ConfigurationError("the management plane needs the account's subscription: set AZURE_SUBSCRIPTION_ID")
    return Management(settings.management, settings.batch.name)


def as_properties(body: Json) -> Json:
    """A pool in the data plane's words as the ``properties`` that the management plane takes."""
    properties: Json = {name: _respelled(body[name]) for name in _SHARED if name in body}
    properties["deploymentConfiguration"] = {
        "virtualMachineConfiguration": _respelled(body["virtualMachineConfiguration"])
    }
    if body.get("enableAutoScale"):
        scale = {"formula": body["autoScaleFormula"], "evaluationInterval": body["autoScaleEvaluationInterval"]}
        properties["scaleSettings"] = {"autoScale": scale}
    else:
        targets = {name: body[name] for name in ("targetDedicatedNodes", "targetLowPriorityNodes")}
        properties["scaleSettings"] = {"fixedScale": targets}
    return properties


def _respelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_respelled(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        _SPELLINGS.get(name, name): _WORDS.get(inner, inner)
        if isinstance(inner, str) and _is_word(name)
        else _respelled(inner)
        for name, inner in value.items()
    }


def _is_word(name: str) -> bool:
    return name in {"scope", "elevationLevel", "nodeFillType"}


def _size(listed: Any) -> MachineSize:
    able = {str(one.name): str(one.value) for one in listed.capabilities or ()}
    return MachineSize(
        str(listed.name), str(listed.family_name), int(able.get("vCPUs", "0")), float(able.get("MemoryGB", "0"))
    )


def _group(resource_id: str) -> str:
    parts = resource_id.split("/")
    return parts[[part.lower() for part in parts].index("resourcegroups") + 1]


def _client(plane: ManagementPlane) -> BatchManagementClient:
    try:
        from azure.identity import DefaultAzureCredential
        from azure.mgmt.batch import BatchManagementClient
    except ImportError as error:
        raise ConfigurationError(f"{error}. Install what it takes: pip install 'azbatchwrap[mgmt]'") from error
    cloud = described_at(plane.metadata_url)
    # A cloud of one's own is in no list of authorities that could be asked for.
    credential = DefaultAzureCredential(disable_instance_discovery=not cloud.is_public)
    return BatchManagementClient(
        credential,
        plane.subscription,
        base_url=cloud.manager,
        credential_scopes=[f"{cloud.audience}/.default"],
        connection_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
    )


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the SDK as ours, by their code."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        yield
    except ClientAuthenticationError as error:
        raise AccessDenied(f"{what}: no token: {error.message}. Try `az login`", code="NoToken") from error
    except HttpResponseError as error:
        code = str(getattr(error.error, "code", "") or error.reason or "")
        raise refusal(
            code, redact(f"{what}: {error.status_code} {code}: {error.message}"), error.status_code
        ) from error
    except AzureError as error:
        raise Unreachable(f"{what}: no answer: {redact(str(error.message))}", code="Unreachable") from error
