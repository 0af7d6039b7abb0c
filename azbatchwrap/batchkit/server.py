"""The REST mode: batches submitted, followed and deleted over HTTP; each in a folder of its own, kept over restarts."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hmac
import json
import logging
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from azbatchwrap.endpoints import parse_endpoints
from azbatchwrap.endpoints.ending import end_tasks
from azbatchwrap.errors import ConfigurationError

from .batch import Batch
from .dispatch import Dispatcher
from .journal import RunPaths, write_beside
from .openapi import PAGE, describe
from .options import RunOptions
from .submitted import DELETED, DONE, MAX_WAIT, REQUEST_FILE, RUNNING, STATES, Submitted
from .types import BatchConfig, BatchRequest, file_stats

log = logging.getLogger(__name__)

#: A submitted document may list very many files (bytes).
MAX_BODY = 1 << 30
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
#: Reachable without a token: they tell nothing.
OPEN_PATHS = {"/health", "/ready", "/", "/docs", "/openapi.json"}


class BatchServer:
    """Serves one dispatcher. `start` takes up the batches that an earlier process left, and listens."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        batch_type: type[BatchRequest],
        config: BatchConfig,
        options: RunOptions,
        *,
        reload: Callable[[], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._batch_type = batch_type
        self._config = config
        self._options = options
        self._reload = reload
        base = options.scratch_folder or RunPaths(config.output_folder).internal
        self._folder = base / "batches"
        self._known: dict[str, Submitted] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = True
        self._runner: web.AppRunner | None = None
        self.port = options.server.port

    def batches(self) -> Iterable[Batch]:
        return [known.batch for known in self._known.values() if known.batch is not None]

    def accept_no_more(self) -> None:
        self._accepting = False

    async def all_done(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # --- life ---

    async def start(self) -> None:
        """Raises ConfigurationError: no token on an open address, port in use, folder not writable."""
        server = self._options.server
        if server.host not in LOOPBACK and not server.token:
            raise ConfigurationError(f"listening on {server.host} needs a token: others could submit any file")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"scratch folder {self._folder}: {error.strerror}") from error
        self._take_up()
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, server.host, server.port)
        try:
            await site.start()
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else error.strerror
            raise ConfigurationError(f"port {server.port} on {server.host}: {reason}") from error
        self.port = self._runner.addresses[0][1]
        write_beside(self._folder / "listening.json", json.dumps({"host": server.host, "port": self.port}).encode())
        log.info("listening on http://%s:%d/docs", server.host, self.port)

    async def stop(self) -> None:
        (self._folder / "listening.json").unlink(missing_ok=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await end_tasks(self._tasks)

    def _take_up(self) -> None:
        """Batches of an earlier process: done ones are listed, others go on."""
        for folder in sorted(path for path in self._folder.iterdir() if (path / REQUEST_FILE).is_file()):
            try:
                known, document = Submitted.kept(folder)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: its request cannot be read (%s); left alone", folder, error)
                continue
            self._known[known.id] = known
            if known.state != DONE:
                self._begin(known, document)

    def _begin(self, known: Submitted, document: dict[str, Any]) -> None:
        task = asyncio.create_task(self._do(known, document), name=f"batch {known.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _request_of(self, folder: Path, document: dict[str, Any]) -> BatchRequest:
        names = (self._batch_type.__name__, *self._batch_type.type_names)
        if document.get("type", names[0]) not in names:
            raise ConfigurationError(f"type: this server takes {' or '.join(names)}, not {document['type']!r}")
        return self._batch_type.from_json(document, dataclasses.replace(self._config, output_folder=folder))

    async def _do(self, known: Submitted, document: dict[str, Any]) -> None:
        try:
            request = await asyncio.to_thread(self._request_of, known.paths.folder, document)
            known.batch = await self._dispatcher.submit(request, known.paths.folder)
            if known.state == DELETED:
                await self._dispatcher.end(known.batch)
                shutil.rmtree(known.paths.folder, ignore_errors=True)
                return
            known.enter(RUNNING)
            await known.batch.done.wait()
            await self._dispatcher.end(known.batch)
            if known.batch.fault:
                await asyncio.to_thread(known.keep_fault, known.batch.fault)
        except (ConfigurationError, OSError) as error:
            known.fault = str(error)
        except Exception as error:
            known.fault = f"{type(error).__name__}: {error}"
            log.exception("batch %s cannot be done", known.id)
        if known.batch is not None:
            known.last_counts = file_stats(known.batch.counts)
        if known.state != DELETED:
            known.enter(DONE)

    # --- HTTP ---

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        application.add_routes(
            [
                web.post("/submit", self._submit),
                web.get("/status", self._status),
                web.get("/watch", self._watch),
                web.get("/list", self._list),
                web.put("/delete", self._delete),
                web.post("/delete", self._delete),
                web.delete("/delete", self._delete),
                web.get("/endpoints", self._show_endpoints),
                web.put("/endpoints", self._put_endpoints),
                web.post("/reload", self._reload_now),
                web.get("/ready", self._ready),
                web.get("/health", self._health),
                web.get("/openapi.json", self._openapi),
                web.get("/docs", self._docs),
                web.get("/", self._docs),
            ]
        )
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except web.HTTPException as error:
            allowed = error.headers.get("Allow")
            return _fault(error.status, error.reason, {"Allow": allowed} if allowed else None)
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return _fault(500, "this is a fault of the server; its log tells more")

    def _refusal(self, request: web.Request) -> web.Response | None:
        server = self._options.server
        if server.token:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
            if request.path not in OPEN_PATHS and not hmac.compare_digest(given, server.token.encode()):
                return _fault(401, "this needs the header Authorization: Bearer <token>")
        elif (request.url.host or "") not in LOOPBACK:
            # A page in somebody's browser must not reach us under a name of its own.
            return _fault(403, f"this server is called {server.host}")
        return None

    async def _submit(self, request: web.Request) -> web.Response:
        if not self._accepting:
            return _fault(503, "the server is ending")
        body = await request.read()
        try:
            document = orjson.loads(body)
        except ValueError as error:
            return _fault(400, f"the body is no JSON: {error}")
        if not isinstance(document, dict):
            return _fault(400, "the body is a JSON object")
        batch_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        folder = self._folder / batch_id
        try:
            await asyncio.to_thread(self._request_of, folder, document)
        except ConfigurationError as error:
            return _fault(400, str(error))
        known = Submitted(batch_id, folder, time.time())
        await asyncio.to_thread(known.keep, body)
        self._known[batch_id] = known
        self._begin(known, document)
        return web.json_response(known.facts())

    async def _status(self, request: web.Request) -> web.Response:
        known = self._named(request)
        wait = request.query.get("wait", "")
        if wait.lower() not in {"", "0", "false", "no"}:
            await known.reaches(DONE, MAX_WAIT if wait.lower() in {"true", "yes"} else _seconds("wait", wait))
        return web.json_response(known.facts())

    async def _watch(self, request: web.Request) -> web.Response:
        known = self._named(request)
        target = request.query.get("target_state", DONE).lower()
        if target not in STATES[:3]:
            return _fault(400, "target_state is waiting, running or done")
        text = request.query.get("timeout", "")
        await known.reaches(target, _seconds("timeout", text) if text else MAX_WAIT)
        return web.json_response(known.facts())

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([known.facts() for known in self._known.values()])

    async def _delete(self, request: web.Request) -> web.Response:
        known = self._named(request)
        known.enter(DELETED)
        if known.batch is not None:
            await self._dispatcher.end(known.batch)
            known.batch.done.set()
        await asyncio.to_thread(shutil.rmtree, known.paths.folder, ignore_errors=True)
        self._known.pop(known.id, None)
        return web.json_response(known.facts())

    async def _show_endpoints(self, _: web.Request) -> web.Response:
        return web.json_response(self._dispatcher.pool.facts())

    async def _put_endpoints(self, request: web.Request) -> web.Response:
        try:
            document = orjson.loads(await request.read())
            self._dispatcher.pool.apply(parse_endpoints(document, parse=self._options.parse))
        except (ValueError, ConfigurationError) as error:
            return _fault(400, str(error))
        return await self._show_endpoints(request)

    async def _reload_now(self, request: web.Request) -> web.Response:
        self._reload()
        return await self._show_endpoints(request)

    async def _ready(self, _: web.Request) -> web.Response:
        usable = self._dispatcher.pool.usable()
        ready = self._accepting and usable > 0
        return web.json_response({"ready": ready, "usable_endpoints": usable}, status=200 if ready else 503)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(describe(self._batch_type, needs_token=bool(self._options.server.token)))

    async def _docs(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    def _named(self, request: web.Request) -> Submitted:
        batch_id = request.query.get("batch_id")
        if not batch_id:
            raise web.HTTPBadRequest(reason="batch_id is missing")
        if batch_id not in self._known:
            raise web.HTTPNotFound(reason="there is no such batch")
        return self._known[batch_id]


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:
        raise web.HTTPBadRequest(reason=f"{name} is a number of seconds up to {MAX_WAIT:.0f}")
    return seconds


def _fault(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=headers)
