"""Stored access policies: what long-lived signatures refer to, so that they can be taken back."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from azbatchwrap.storage.account import Account
from azbatchwrap.storage.faults import translated

#: Seconds until a new one must be in force, and between two looks: Azure needs half a minute for it.
PATIENCE, PAUSE = 90.0, 2.0


class StoredPolicies:
    """Our stored access policies in the containers of one account. Safe to share between threads."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._there: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def of(self, container: str, permissions: str) -> str:
        """The id of the container's policy for these permissions (such as ``rl``), made if need be.

        Who removes it takes back every signature that refers to it. Empty where no account key signs: only its
        signatures can refer to one. Raises NotFound for a container that does not exist.
        """
        if self._account.key is None:
            return ""
        with self._lock:
            if (container, permissions) not in self._there:
                with translated(f"giving container {container} a stored access policy"):
                    self._ensure(container, permissions)
                self._there.add((container, permissions))
        return _id(permissions)

    def _ensure(self, container: str, permissions: str) -> None:
        from azure.storage.blob import AccessPolicy

        client = self._account.client.get_container_client(container)
        settings = client.get_container_access_policy()
        policies = {each.id: each.access_policy for each in settings["signed_identifiers"]}
        if _id(permissions) in policies:
            return
        policies[_id(permissions)] = AccessPolicy(permission=permissions)
        client.set_container_access_policy(policies, public_access=settings["public_access"])
        self._wait(container, permissions)

    def _wait(self, container: str, permissions: str) -> None:
        """Until signatures may refer to it: then one is not refused for its own sake, whatever it allows."""
        from azure.core.exceptions import HttpResponseError
        from azure.storage.blob import ContainerClient

        query = self._account.container_signature(container, permissions, timedelta(hours=1), policy=_id(permissions))
        deadline = time.monotonic() + PATIENCE
        with ContainerClient.from_container_url(
            f"{self._account.url(container, '')}?{query}", use_env_settings=not self._account.is_local, retry_total=0
        ) as client:
            while True:
                try:
                    next(iter(client.list_blobs(results_per_page=1)), None)
                except HttpResponseError as error:
                    if getattr(error, "error_code", "") == "AuthorizationPermissionMismatch":
                        return  # known, and not for lists
                    if error.status_code != 403 or time.monotonic() >= deadline:
                        raise
                    time.sleep(PAUSE)
                else:
                    return


def _id(permissions: str) -> str:
    return f"azbatchwrap-{permissions}"
