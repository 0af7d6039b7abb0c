"""One storage account: its client, what signs our own requests, and the scoped signatures nodes get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from azbatchwrap.config import StorageAccount, is_loopback
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.storage.faults import translated

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.storage.blob import BlobServiceClient, UserDelegationKey

#: The version of the protocol that our own requests speak: old enough for every cloud and emulator.
PROTOCOL_VERSION = "2021-12-02"
#: Seconds for a connection and for the next bytes of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 20, 120
#: Azure signs no user-delegation key that lives longer (Get User Delegation Key, "Remarks").
USER_DELEGATION_LIMIT = timedelta(days=7)
#: Nodes' clocks and ours differ; a signature we start this much earlier is valid at once everywhere.
CLOCK_SKEW = timedelta(minutes=5)
_TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - the name of a scope, no secret
#: Headers in the order in which Shared Key signs them (Authorize with Shared Key, Blob service).
_SIGNED_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


class Account:
    """A storage account that a connection string or an identity opens. Safe to share between threads."""

    def __init__(self, given: StorageAccount, credential: TokenCredential | None = None) -> None:
        if given.blob_url is None:
            raise ConfigurationError(f"the storage account {given.name} has no blob address: give its BlobEndpoint")
        self.name = given.name
        self.blob_url = given.blob_url.rstrip("/")
        self.is_local = is_loopback(self.blob_url)
        self._key = _account_key(given)
        self._credential = credential
        self._connection = given.connection_string
        self._client: BlobServiceClient | None = None
        self._token: AccessToken | None = None
        self._delegation: tuple[UserDelegationKey, datetime] | None = None
        self._lock = threading.RLock()

    @property
    def key(self) -> bytes | None:
        """What signs; ``None`` for an identity."""
        return self._key

    @property
    def queue_url(self) -> str:
        """Where the account's queues are: as its connection string says, else beside its blobs."""
        given = "" if self._connection is None else self._connection.reveal()
        for part in given.split(";"):
            name, _, value = part.partition("=")
            if name.strip().lower() == "queueendpoint":
                return value.rstrip("/")
        return self.blob_url.replace(".blob.", ".queue.", 1)

    # -- the SDK's client, for everything that is not hot --

    @property
    def client(self) -> BlobServiceClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        options: dict[str, Any] = {"connection_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT}
        if self.is_local:
            options["use_env_settings"] = False  # a proxy does not know this machine's ports
        if self._connection is not None:
            return BlobServiceClient.from_connection_string(self._connection.reveal(), **options)
        return BlobServiceClient(self.blob_url, credential=self._token_credential(), **options)

    def _token_credential(self) -> TokenCredential:
        with self._lock:
            if self._credential is None:
                from azure.identity import DefaultAzureCredential

                self._credential = DefaultAzureCredential()
            return self._credential

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    # -- our own requests --

    def url(self, container: str, blob: str) -> str:
        """The address of a blob, or of the container when ``blob`` is empty."""
        name = quote(blob, safe="~/", errors="surrogateescape")
        return f"{self.blob_url}/{container}/{name}" if name else f"{self.blob_url}/{container}"

    def signed(self, method: str, url: str, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
        """``headers`` plus those that authorise the request. The address itself never carries a secret."""
        full = {**headers, "x-ms-version": PROTOCOL_VERSION, "x-ms-date": formatdate(usegmt=True)}
        if self._key is None:
            full["Authorization"] = f"Bearer {self._bearer()}"
        else:
            signature = self._shared_key(self._key, method, url, full, query)
            full["Authorization"] = f"SharedKey {self.name}:{signature}"
        return full

    def _bearer(self) -> str:
        """A token for some minutes more. Kept here, since not every credential keeps its own."""
        with self._lock:
            if self._token is None or self._token.expires_on < time.time() + CLOCK_SKEW.total_seconds():
                with translated("signing in to storage"):
                    self._token = self._token_credential().get_token(_TOKEN_SCOPE)
            return self._token.token

    def _shared_key(
        self, key: bytes, method: str, url: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        low = {name.lower(): value for name, value in headers.items()}
        if low.get("content-length") == "0":
            del low["content-length"]
        lines = [method, *(low.get(name, "") for name in _SIGNED_HEADERS)]
        lines += [f"{name}:{low[name]}" for name in sorted(low) if name.startswith("x-ms-")]
        lines.append(f"/{self.name}{urlsplit(url).path}")
        lines += [f"{name}:{query[name]}" for name in sorted(query)]
        return base64.b64encode(hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()

    # -- what nodes get --

    def longest_signature(self) -> timedelta | None:
        """How long a signature may live at most: ``None`` without a limit (an account key signs it)."""
        return None if self._key is not None else USER_DELEGATION_LIMIT - CLOCK_SKEW

    def container_signature(
        self, container: str, permissions: str, expiry: datetime | timedelta, *, policy: str = ""
    ) -> str:
        """A query string that opens ``container`` alone, for ``permissions`` (such as ``rl``) until ``expiry``.

        With ``policy``, a stored access policy of the container that says the permissions, it ends with that one too.
        """
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        end, common = self._terms(expiry)
        allowed = _permissions(ContainerSasPermissions.from_string, permissions)
        return generate_container_sas(
            self.name, container, permission=None if policy else allowed, expiry=end, policy_id=policy or None, **common
        )

    def blob_signature(
        self, container: str, blob: str, permissions: str, expiry: datetime | timedelta, *, policy: str = ""
    ) -> str:
        """A query string that opens one blob; ``policy`` as in `container_signature`."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        end, common = self._terms(expiry)
        allowed = _permissions(BlobSasPermissions.from_string, permissions)
        return generate_blob_sas(
            self.name,
            container,
            blob,
            permission=None if policy else allowed,
            expiry=end,
            policy_id=policy or None,
            **common,
        )

    def _terms(self, expiry: datetime | timedelta) -> tuple[datetime, dict[str, Any]]:
        now = datetime.now(timezone.utc)
        end = now + expiry if isinstance(expiry, timedelta) else expiry
        if end <= now:
            raise ConfigurationError(f"a signature that ends at {end:%Y-%m-%d %H:%M} UTC would be over already")
        # Plain http only where the account itself has nothing else: an emulator on this machine.
        protocol = "https" if self.blob_url.startswith("https:") else "https,http"
        if self._key is not None:
            return end, {"account_key": base64.b64encode(self._key).decode(), "protocol": protocol}
        return end, {"user_delegation_key": self._delegation_key(now, end), "protocol": protocol}

    def _delegation_key(self, now: datetime, end: datetime) -> UserDelegationKey:
        start = now - CLOCK_SKEW
        longest = start + USER_DELEGATION_LIMIT
        if end > longest:
            raise ConfigurationError(
                "signing in by identity, nodes can be given access for 7 days at most, and this work may take longer: "
                "set a shorter wall-clock limit, use an account key or a stored access policy, or give the pool an identity"
            )
        with self._lock:
            if self._delegation is None or self._delegation[1] < end:
                with translated(f"asking {self.blob_url} for a user-delegation key"):
                    self._delegation = (self.client.get_user_delegation_key(start, longest), longest)
            return self._delegation[0]


def _account_key(given: StorageAccount) -> bytes | None:
    if given.connection_string is None:
        return None
    for part in given.connection_string.reveal().split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "accountkey":
            return base64.b64decode(value)
    raise ConfigurationError("the storage connection string has no AccountKey, so nothing can be signed for nodes")


def _permissions(parse: Callable[[str], Any], letters: str) -> Any:
    parsed = parse(letters)
    # The SDK leaves out what it does not know, and the node would find out.
    if not letters or set(str(parsed)) != set(letters):
        raise ConfigurationError(f"{letters!r} are not permissions of a blob or container")
    return parsed
