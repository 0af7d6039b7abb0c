"""HTTP endpoints of the tests' own, which misbehave on request, on a thread with a loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from aiohttp import web

#: Whoever waits for something waits this long (seconds): the machine may be busy.
PATIENCE = 60.0


class Server:
    """One endpoint. ``bodies`` counts what was asked; ``answer`` may be replaced to misbehave; if it raises
    ConnectionResetError, the line is cut."""

    def __init__(self, owner: Servers) -> None:
        self._owner = owner
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.bodies: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.healthy: Callable[[], web.Response] = lambda: web.json_response({"status": "ok"})
        self.answer: Callable[[str, int], Any] = lambda body, _: web.json_response({"got": body})
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> int:
        return sum(self.bodies.values())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/health":
            return self.healthy()
        body = (await request.read()).decode()
        self.bodies[body] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            answer = self.answer(body, self.bodies[body])
            return await answer if asyncio.iscoroutine(answer) else answer
        except ConnectionResetError:
            if request.transport is not None:  # else the other side has cut it
                request.transport.abort()
            return web.Response()
        finally:
            self.in_flight -= 1

    def start(self) -> None:
        self._owner.run(self._start())

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    def stop(self) -> None:
        """As a container that is killed: connections break, the port refuses."""
        if self._runner is not None:
            self._owner.run(self._runner.cleanup())
            self._runner = None


class Servers:
    """Makes endpoints: ``servers.new()``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._made: list[Server] = []

    def new(self, **behaviour: Any) -> Server:
        server = Server(self)
        for name, value in behaviour.items():
            assert hasattr(server, name)
            setattr(server, name, value)
        server.start()
        self._made.append(server)
        return server

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        running: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return running.result(PATIENCE)

    def close(self) -> None:
        for server in self._made:
            server.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
