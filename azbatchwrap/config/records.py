"""What configuration comes down to: frozen records, their secrets masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn


class Secret:
    """Text that shows as ``***`` wherever it is printed; only `reveal` gives it away.

    It cannot be pickled: what is pickled travels to nodes, and no secret may.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: account keys never leave this process")


@dataclass(frozen=True, slots=True)
class BatchAccount:
    """``key`` is base64; ``None`` means that ``DefaultAzureCredential`` signs in."""

    name: str
    url: str
    key: Secret | None


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """``connection_string`` is ``None`` when ``DefaultAzureCredential`` signs in at ``blob_url``."""

    connection_string: Secret | None
    name: str
    blob_url: str | None


@dataclass(frozen=True, slots=True)
class ManagementPlane:
    """What knows quotas and gives pools their identity. ``metadata_url`` describes its cloud; empty: the public one."""

    subscription: str
    metadata_url: str = ""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What a new pool looks like. ``sku`` is a prefix: the newest verified image that matches is taken."""

    node_count: int = 1
    vm_size: str = "standard_d2s_v3"
    publisher: str = "canonical"
    offer: str = "ubuntu-24_04-lts"
    sku: str = "server"
    slots_per_node: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the library needs to know; ``sources`` tells for each key which layer gave it.

    ``redis`` is the URL, with user and password, of the server that carries calls to warm nodes.
    """

    batch: BatchAccount
    storage: StorageAccount
    pool: PoolSettings
    project: str
    is_local: bool
    sources: Mapping[str, str] = field(repr=False, hash=False)
    warnings: tuple[str, ...] = ()
    redis: Secret | None = None
    #: None where no subscription is configured, or only one that has nothing to do with the account.
    management: ManagementPlane | None = None
