"""How nodes open storage: by signed addresses that last a job's life, or as the managed identity of their pool."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal, get_args

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.storage import AzureBatchStorage

from .service import Json

#: Signatures that live longer refer to a stored access policy. Those of jobs with the default limit live a little shorter.
LONG_LIFE = timedelta(days=8)
#: What a user may ask for. Without a wish signatures are used, and the identity where none could last long enough.
AccessKind = Literal["signature", "identity"]


def identity_reference(identity: str) -> Json:
    """What stands beside an address that this identity opens; nothing for a signed one."""
    return {"identityReference": {"resourceId": identity}} if identity else {}


def chosen_identity(wish: AccessKind | None, pool_identity: str, *, signature_lasts: bool) -> str:
    """The identity that opens storage for a job's nodes; empty for signatures. Raises ConfigurationError."""
    if wish is not None and wish not in get_args(AccessKind):
        raise ConfigurationError(f"access is 'signature' or 'identity', not {wish!r}")
    if wish == "identity" and not pool_identity:
        raise ConfigurationError(
            "access='identity' needs a pool that has one: PoolPolicy(identity=…), create_pool(identity=…)"
        )
    return pool_identity if wish == "identity" or (wish is None and not signature_lasts) else ""


def identity_of(pool: Json) -> str:
    """The resource id of a pool's first user-assigned identity; empty without one."""
    found = (pool.get("identity") or {}).get("userAssignedIdentities") or ()
    return str(found[0]["resourceId"]) if found else ""


@dataclass(frozen=True, slots=True)
class Access:
    """Addresses for the nodes of one job: signed until ``expiry``, or bare ones, for ``identity`` to open."""

    storage: AzureBatchStorage
    expiry: datetime | timedelta
    identity: str = ""

    def container(self, name: str, permissions: str) -> str:
        """A container's address; ``permissions`` (such as ``rl``) are those that a signature gives."""
        if self.identity:
            return self.storage.account.url(name, "")
        return self.storage.container_sas(name, permissions, self.expiry, policy=self._policy(name, permissions))

    def blob(self, container: str, blob: str) -> str:
        """The address of a blob to read."""
        if self.identity:
            return self.storage.account.url(container, blob)
        return self.storage.blob_sas(container, blob, "r", self.expiry, policy=self._policy(container, "r"))

    def _policy(self, container: str, permissions: str) -> str:
        """What a signature refers to that lives so long that somebody may want it back."""
        end = self.expiry
        life = end - datetime.now(timezone.utc) if isinstance(end, datetime) else end
        return self.storage.stored_policy(container, permissions) if life > LONG_LIFE else ""

    def file(self, container: str, blob: str, path: str) -> Json:
        """The blob as a file of a task, at ``path``."""
        return {"httpUrl": self.blob(container, blob), "filePath": path, **identity_reference(self.identity)}
