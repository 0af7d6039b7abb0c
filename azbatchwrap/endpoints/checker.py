"""`EndpointStatusChecker`: whether an endpoint is ready for work. Subclass it where a connection says too little."""

from __future__ import annotations

from .endpoint import Endpoint
from .extensible import Extensible


class EndpointStatusChecker(Extensible):
    """Asks the endpoint for a sign of life.

    HTTP: a GET of the option ``health_path`` answers below 400, or without that option the port takes connections.
    WebSocket: the port takes connections. Subprocess and in-process: always ready. The pool limits how long
    a check may take, and an exception means "not ready", so an implementation just asks.
    """

    async def check(self, endpoint: Endpoint) -> bool:
        """Whether ``endpoint`` is ready for work."""
        return endpoint.connection is not None and await endpoint.connection.check()
