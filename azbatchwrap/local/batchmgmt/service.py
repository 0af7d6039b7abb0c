"""The Batch service of the instance as the management plane reaches it: by its own addresses, with the account's key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin, Refused
from azbatchwrap.local.arm.errors import ArmError

#: The api-version that we ask the data plane for.
VERSION = "2025-06-01"


class BatchService:
    """``settings`` are the management plane's ``batch``: account, key, url and the port for TLS."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.account: str = settings["account"]
        self.key = Secret(settings["key"])
        self.tls_endpoint = f"127.0.0.1:{settings['tls_port']}"
        self._admin = BatchAdmin(settings["url"], self.account, self.key)

    async def data(self, method: str, path: str, body: object = None) -> Any:
        """An operation of the data plane. Raises ArmError with the data plane's own refusal."""
        return await self._ask(method, path, body, {"api-version": VERSION})

    async def local(self, method: str, path: str, body: object = None) -> Any:
        """One of the service's own addresses, such as ``/applications/NAME``."""
        return await self._ask(method, f"/_local{path}", body, None)

    async def _ask(self, method: str, path: str, body: object, query: Mapping[str, str] | None) -> Any:
        try:
            return await asyncio.to_thread(self._admin.ask, method, quote(path), body, query=query)
        except Refused as refusal:
            raise ArmError(refusal.status, refusal.code, refusal.message) from refusal
        except OSError as error:
            raise ArmError(503, "ServiceUnavailable", f"The Batch service does not answer: {error}.") from error
