"""A small program that plays Blob storage: containers with a signature, listings in pages, blocks, faults on demand."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

SIGNATURE = "sp=rcwl&sig=a%2Bb%2F%3D"
PAGE = 3


@dataclass
class BlobServer:
    containers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    #: path -> statuses to answer first, 0 closes the connection in the middle of the body.
    faults: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    silent: set[str] = field(default_factory=set)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    most_at_once: int = 0
    base: str = ""
    _now: int = 0
    _blocks: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    _runner: web.AppRunner | None = None

    async def start(self) -> BlobServer:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{container}", self.container)
        app.router.add_route("*", "/{container}/{name:.+}", self.blob)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    def url(self, container: str, name: str = "", signature: str = SIGNATURE) -> str:
        path = f"/{name}" if name else ""
        return f"{self.base}/{container}{path}?{signature}"

    async def container(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        blobs = self.containers[request.match_info["container"]]
        prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
        names = sorted(name for name in blobs if name.startswith(prefix) and name >= marker)
        page, following = names[:PAGE], names[PAGE : PAGE + 1]
        listed = "".join(f"<Blob><Name>{escape(name)}</Name></Blob>" for name in page)
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{listed}</Blobs>'
            f"<NextMarker>{escape(following[0]) if following else ''}</NextMarker></EnumerationResults>"
        )
        return web.Response(body=body.encode(), content_type="application/xml")

    async def blob(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(0)
            return await (self._put(request) if request.method == "PUT" else self._get(request))
        finally:
            self._now -= 1

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.requests.append(f"{request.method} {request.path}")
        if request.query.get("sig") != "a+b/=":
            return _error(403, "AuthenticationFailed")
        if request.match_info["container"] not in self.containers:
            return _error(404, "ContainerNotFound")
        faults = self.faults[request.path]
        if faults and faults[0]:
            return _error(faults.pop(0), "ServerBusy")
        return None

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.silent:
            await asyncio.sleep(3600)
        content = self.containers[request.match_info["container"]].get(request.match_info["name"])
        if content is None:
            return _error(404, "BlobNotFound")
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        if self.faults[request.path]:
            self.faults[request.path].pop(0)
            await response.write(content[: len(content) // 2])
            request.transport.close()
            return response
        for start in range(0, len(content), 1 << 20):
            await response.write(content[start : start + (1 << 20)])
        return response

    async def _put(self, request: web.Request) -> web.Response:
        container, name = request.match_info["container"], request.match_info["name"]
        body = await request.read()
        what = request.query.get("comp")
        if what == "block":
            self._blocks[name][request.query["blockid"]] = body
        elif what == "blocklist":
            blocks = self._blocks.pop(name)
            ids = [part.split("<")[0] for part in body.decode().split("<Latest>")[1:]]
            self.containers[container][name] = b"".join(blocks[one] for one in ids)
        elif request.headers.get("x-ms-blob-type") == "BlockBlob":
            self.containers[container][name] = body
        else:
            return _error(400, "MissingRequiredHeader")
        self.headers[name] = dict(request.headers)
        return web.Response(status=201)


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, headers={"x-ms-error-code": code})
