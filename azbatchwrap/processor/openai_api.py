"""The HTTP side of files and batches: what the `openai` client asks for, at /v1/files and /v1/batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import BodyPartReader, web

from azbatchwrap.errors import NotFound
from azbatchwrap.processor.files import FILE_LIMIT
from azbatchwrap.processor.openai_batches import Batches, InvalidBatch

#: Records in one page of a list.
PAGE, LONGEST_PAGE = 20, 100


class OpenAIRoutes:
    """Handlers over ``batches``."""

    def __init__(self, batches: Batches) -> None:
        self._batches, self._store = batches, batches.store

    def add_to(self, application: web.Application) -> None:
        add = application.router.add_route
        for method, path, handler in (
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files", self.list_files),
            ("GET", "/v1/files/{id}", self.show_file),
            ("DELETE", "/v1/files/{id}", self.delete_file),
            ("GET", "/v1/files/{id}/content", self.download),
            ("POST", "/v1/batches", self.create),
            ("GET", "/v1/batches", self.list_batches),
            ("GET", "/v1/batches/{id}", self.show_batch),
            ("POST", "/v1/batches/{id}/cancel", self.cancel),
        ):
            add(method, path, _with_errors(handler))

    async def upload(self, request: web.Request) -> web.Response:
        purpose, record = "", None
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise InvalidBatch("nested parts are not known", "file")
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file":
                record = self._store.new_file(part.filename or "upload", "")
                await self._keep(part, record["id"])
        if record is None:
            raise InvalidBatch("there is no file", "file")
        if not purpose:
            self._store.content(record["id"]).unlink()
            raise InvalidBatch("there is no purpose", "purpose")
        return _json(self._store.save_file(record | {"purpose": purpose}))

    async def _keep(self, part: BodyPartReader, file_id: str) -> None:
        path, size = self._store.content(file_id), 0
        with path.open("wb") as file:
            while chunk := await part.read_chunk(1 << 18):
                size += len(chunk)
                if size > FILE_LIMIT:
                    path.unlink()
                    raise InvalidBatch(f"the file has more than {FILE_LIMIT} bytes", "file")
                await asyncio.to_thread(file.write, chunk)

    async def list_files(self, request: web.Request) -> web.Response:
        return _json(_page(self._store.files(request.query.get("purpose")), request))

    async def show_file(self, request: web.Request) -> web.Response:
        return _json(self._store.file(request.match_info["id"]))

    async def delete_file(self, request: web.Request) -> web.Response:
        file_id = request.match_info["id"]
        self._store.delete_file(file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def download(self, request: web.Request) -> web.StreamResponse:
        record = self._store.file(request.match_info["id"])
        return web.FileResponse(self._store.content(record["id"]), headers={"Content-Type": "application/octet-stream"})

    async def create(self, request: web.Request) -> web.Response:
        try:
            given = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise InvalidBatch(f"the body is no JSON: {error}", "body") from error
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(given, dict) or not isinstance(given.get(name), str):
                raise InvalidBatch(f"{name} is missing", name)
        return _json(
            self._batches.create(
                given["input_file_id"], given["endpoint"], given["completion_window"], given.get("metadata")
            )
        )

    async def list_batches(self, request: web.Request) -> web.Response:
        return _json(_page(self._store.batches(), request))

    async def show_batch(self, request: web.Request) -> web.Response:
        return _json(self._store.batch(request.match_info["id"]))

    async def cancel(self, request: web.Request) -> web.Response:
        return _json(await self._batches.cancel(request.match_info["id"]))


def _page(records: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
    after, limit = request.query.get("after"), request.query.get("limit", "")
    if after is not None:
        places = [number for number, record in enumerate(records) if record["id"] == after]
        records = records[places[0] + 1 :] if places else []
    count = min(LONGEST_PAGE, int(limit)) if limit.isdecimal() and int(limit) else PAGE
    shown = records[:count]
    return {
        "object": "list", "data": shown, "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None, "has_more": len(records) > count,
    }  # fmt: skip


def _with_errors(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotFound as error:
            return _error(404, str(error), None)
        except InvalidBatch as error:
            return _error(400, str(error), error.param)

    return answer


def _error(status: int, message: str, param: str | None) -> web.Response:
    facts = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return _json({"error": facts}, status)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
