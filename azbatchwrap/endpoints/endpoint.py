"""`Endpoint`: what a processor gets to talk to, whatever stands behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from azbatchwrap.errors import EndpointDown

from .spec import EndpointSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said. Endpoints without HTTP answer with status 200."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class Connection(Protocol):
    """One way to talk to endpoints. Every failure of the other side is an error of `azbatchwrap.errors`."""

    async def request(
        self, body: bytes, *, method: str, path: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Answer: ...

    async def check(self) -> bool:
        """A sign of life that costs the endpoint as little as possible."""
        ...

    async def close(self) -> None: ...


class Endpoint:
    """An endpoint in use: its configuration, and `request` to talk to it.

    Pickled (for a worker process) it is its configuration alone: use ``url`` and ``options`` there.
    """

    __slots__ = ("connection", "loop", "spec")

    def __init__(self, spec: EndpointSpec, connection: Connection | None = None) -> None:
        self.spec = spec
        self.connection = connection
        self.loop = asyncio.get_running_loop() if connection is not None else None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def url(self) -> str:
        return self.spec.url

    @property
    def options(self) -> Mapping[str, Any]:
        return self.spec.options

    async def request(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send ``body`` and wait for the answer. ``timeout``: seconds; without it the item's time limit holds.

        Raises EndpointDown (no connection, broken off), Throttled (429, 503) or ServiceError (other answers from 400).
        """
        if self.connection is None:
            raise EndpointDown(
                f"{self.name}: a worker process has no connection of its own; use endpoint.url", sent=False
            )
        return await self.connection.request(body, method=method, path=path, headers=headers, timeout=timeout)

    def call(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """`request` for processors that run in threads: blocks until the answer is there."""
        if self.loop is None:
            raise EndpointDown(
                f"{self.name}: a worker process has no connection of its own; use endpoint.url", sent=False
            )
        asking = self.request(body, method=method, path=path, headers=headers, timeout=timeout)
        return asyncio.run_coroutine_threadsafe(asking, self.loop).result()

    def __reduce__(self) -> tuple[type[Endpoint], tuple[EndpointSpec]]:
        return (Endpoint, (self.spec,))

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.url!r})"
