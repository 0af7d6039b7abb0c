"""The Batch service of the instance as the management plane reaches it: by its own addresses, with the account's key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.admin import BatchAdmin, Refused
from azbatchwrap.local.arm.errors import ArmError

#: The api-version that we ask the data plane for.
VERSION = "2025-06-01"


class BatchService:
    """``settings`` are the management plane's ``batch``: account, key, url and the port for TLS."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.account: str = settings["account"]
        self.keys = (Secret(settings["key"]), Secret(settings.get("second_key") or settings["key"]))
        self._url: str = settings["url"]
        self._instance: str | None = settings.get("instance")
        self.tls_endpoint = f"127.0.0.1:{settings['tls_port']}"
        self._admin = BatchAdmin(self._url, self.account, self.keys[0])

    async def renew_key(self, which: Literal["primary", "secondary"]) -> None:
        """A new key in place of the old one, for the service, the instance and ourselves. Raises ArmError."""
        from azbatchwrap.local.stack import Stack  # the instance that started this process

        if self._instance is None:
            raise ArmError(409, "OperationNotSupported", "This Batch service is no instance's: its keys stay.")
        try:
            primary, secondary = await asyncio.to_thread(Stack(Path(self._instance)).renew_key, which)
        except ConfigurationError as error:
            raise ArmError(503, "ServiceUnavailable", str(error)) from error
        self.keys = (primary, secondary)
        self._admin = BatchAdmin(self._url, self.account, primary)

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
