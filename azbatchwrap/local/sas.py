"""Signed addresses of the instance's storage account, made without the storage SDK: a service that signs stays small."""

from __future__ import annotations

import base64
import hmac
import time
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from azbatchwrap.config import Secret, parse_storage

#: The version of the service whose form of signature this is.
VERSION = "2021-08-06"
#: Nodes sign when they use an address. What is on its way then has this long (seconds).
LIFETIME = 24 * 3600


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """An account and its key (base64). ``blob_url`` has no slash at its end."""

    name: str
    blob_url: str
    key: str = field(repr=False)

    @classmethod
    def of(cls, connection_string: Secret) -> StorageAccount:
        """Raises ConfigurationError for what is no connection string with a key."""
        account = parse_storage(connection_string.reveal())
        assert account.connection_string is not None
        assert account.blob_url is not None
        parts = dict(part.partition("=")[::2] for part in account.connection_string.reveal().split(";"))
        return cls(account.name, account.blob_url, parts["AccountKey"])

    def container(self, name: str) -> str:
        """The address of a container, signed for reading and listing."""
        return f"{self.blob_url}/{quote(name)}?{self._signature(name, 'rl')}"

    def signed(self, url: str, permissions: str) -> str | None:
        """``url`` with a signature for its container; None when it is of another account.

        ``permissions`` are letters in the service's order, such as ``rl`` or ``cw``.
        """
        place = url.partition("?")[0]
        if not place.startswith(f"{self.blob_url}/"):
            return None
        container = place.removeprefix(f"{self.blob_url}/").partition("/")[0]
        return f"{place}?{self._signature(container, permissions)}" if container else None

    def _signature(self, container: str, permissions: str) -> str:
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + LIFETIME))
        # In this order, those that are not used empty: permissions, start, expiry, resource, identifier, addresses,
        # protocol, version, kind of resource, snapshot, encryption scope, and five headers of the answer.
        fields = [
            permissions,
            "",
            expiry,
            f"/blob/{self.name}/{container}",
            "",
            "",
            "",
            VERSION,
            "c",
            "",
            "",
            *[""] * 5,
        ]
        digest = hmac.digest(base64.b64decode(self.key), "\n".join(fields).encode(), "sha256")
        signature = base64.b64encode(digest).decode()
        return urlencode({"sv": VERSION, "sr": "c", "sp": permissions, "se": expiry, "sig": signature})
