"""The page's HTTP side: who may look, the files of the page, its data, and the two things one can do there."""

from __future__ import annotations

import logging
import mimetypes
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

import orjson

from azbatchwrap.local.batch import jobs, tasks
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.web import account, output
from azbatchwrap.local.web.links import Gate
from azbatchwrap.local.web.query import BadQuery, whole
from azbatchwrap.local.web.task_lists import TaskLists, TooSlow
from azbatchwrap.local.web.traffic import Traffic

log = logging.getLogger(__name__)

Scope: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"

STATIC = Path(__file__).with_name("static")
#: A body is a link's secret at most.
MAX_BODY = 4096
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURE = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
#: Names of the page's own files.
_FILE = re.compile(r"/ui/([a-z_]+\.(?:css|js|svg))\Z")
_DATA = "/ui/api"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the browser."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to the page. ``path`` is still percent-encoded, header names are lower-case."""

    method: str
    scheme: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


def _problem(status: int, code: str, message: str) -> Answer:
    return Answer(status, orjson.dumps({"code": code, "message": message}))


_NO_SUCH_PAGE = _problem(404, "NotFound", "There is no such page.")


class Page:
    """Answers everything below ``/ui``."""

    def __init__(self, service: Service, traffic: Traffic) -> None:
        self._service = service
        self._traffic = traffic
        self._gate = Gate(service.shared_key.primary, service.settings.port)
        self._lists = TaskLists(service.store.path)
        #: Tells the answers of this run of the service from those of another.
        self._run = secrets.token_hex(4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        body = await _read_body(receive) if scope["method"] == "POST" else b""
        visit = Visit(scope["method"], scope["scheme"], scope["raw_path"].decode("latin-1"), query, headers, body)
        answer = await self._respond(visit)
        await _send(answer, send)

    async def _respond(self, visit: Visit) -> Answer:
        try:
            return await self._answer(visit)
        except BatchError as error:
            return _problem(error.status, error.code, error.message)
        except BadQuery as error:
            return _problem(400, "BadQuery", str(error))
        except TooSlow:
            return _problem(503, "TooSlow", "This takes too long: narrow the filter.")
        except Exception:
            log.exception("%s %s failed", visit.method, visit.path)
            return _problem(500, "InternalError", "The service met an error of its own; its log says more.")

    async def _answer(self, visit: Visit) -> Answer:
        self._gate.use(self._service.shared_key.primary)
        if visit.method == "GET" and (file := _FILE.match(visit.path)) is not None:
            return _static(file.group(1))
        if visit.method == "POST" and visit.path == f"{_DATA}/enter":
            return self._enter(visit)
        is_in = self._gate.admits(visit.headers.get("cookie", ""))
        if visit.method == "GET" and visit.path in {"/ui", "/ui/"}:
            return _static("index.html") if is_in else _static("locked.html", 401)
        if not is_in:
            return _problem(401, "NoSession", "Open the page by a link: azbatchwrap local open")
        return await self._admitted(visit)

    async def _admitted(self, visit: Visit) -> Answer:
        if not visit.path.startswith(_DATA + "/"):
            return _NO_SUCH_PAGE
        parts = tuple(unquote(part) for part in visit.path.removeprefix(_DATA + "/").split("/"))
        if visit.method == "GET":
            return await self._if_changed(parts, visit)
        if visit.method == "POST" and _is_own(visit):
            return self._leave(visit) if parts == ("leave",) else await self._act(parts)
        return _problem(403, "NotAllowed", "This comes from another page.")

    def _enter(self, visit: Visit) -> Answer:
        """Exchange a link's secret for a cookie."""
        cookie = self._gate.exchange(visit.body.decode("latin-1")) if _is_own(visit) else None
        if cookie is None:
            return _problem(403, "LinkRefused", "This link is wrong, too old, or was used before.")
        return Answer(204, headers=((b"set-cookie", cookie.encode()),))

    def _leave(self, visit: Visit) -> Answer:
        cookie = self._gate.leave(visit.headers.get("cookie", ""))
        return Answer(204, headers=((b"set-cookie", cookie.encode()),))

    async def _if_changed(self, parts: tuple[str, ...], visit: Visit) -> Answer:
        """The data, or 304 for a browser that has them already: looking again and again costs next to nothing."""
        tag = self._tag(parts)
        if tag is not None and visit.headers.get("if-none-match") == tag:
            return Answer(304)
        answer = await self._data(parts, visit.query)
        if tag is None or answer.status != 200:
            return answer
        return replace(answer, headers=(*answer.headers, (b"etag", tag.encode())))

    def _tag(self, parts: tuple[str, ...]) -> str | None:
        """Changes whenever these data may have; None for what comes from files, which change unseen."""
        store = self._service.store
        if store.is_open or "output" in parts or (parts[0] == "jobs" and len(parts) == 4):
            return None
        shows_traffic = parts[0] in {"overview", "traffic"} and not self._traffic.is_quiet
        return f'"{self._run}-{store.changes}-{store.is_short:d}-{int(time.monotonic()) if shows_traffic else 0}"'

    async def _data(self, parts: tuple[str, ...], query: Mapping[str, str]) -> Answer:
        match parts:
            case ("overview",):
                shown: Any = {**account.overview(self._service), "traffic": self._traffic.view()}
            case ("traffic",):
                refusals = [each.view() for each in reversed(self._traffic.refusals)]
                shown = {**self._traffic.view(), "refusals": refusals}
            case ("pools", pool_id):
                shown = account.pool(self._service, pool_id)
            case ("pools", pool_id, "nodes", node_id, "output"):
                return await self._output((pool_id, node_id), output.NODE, query)
            case ("jobs",):
                shown = account.jobs(self._service, query)
            case ("jobs", job_id, *rest):
                return await self._of_job(job_id, tuple(rest), query)
            case _:
                return _NO_SUCH_PAGE
        return Answer(200, orjson.dumps(shown))

    async def _of_job(self, job_id: str, parts: tuple[str, ...], query: Mapping[str, str]) -> Answer:
        job = self._service.job(job_id)
        match parts:
            case ():
                shown: Any = {**account.job(self._service, job_id), **await self._lists.timeline(job.number)}
            case ("tasks",):
                shown = await self._lists.page(job.number, query)
            case ("tasks", task_id):
                shown = await self._lists.task(job.number, task_id)
                if shown is None:
                    raise BatchError("TaskNotFound")
                shown["files"] = await output.listing(self._service, job.id, task_id)
            case ("tasks", task_id, "output"):
                return await self._output((job.id, task_id), output.TASK, query)
            case _:
                return _NO_SUCH_PAGE
        return Answer(200, orjson.dumps(shown))

    async def _output(self, place: tuple[str, str], kind: output.Kind, query: Mapping[str, str]) -> Answer:
        """A piece of a file as bytes; the headers say which piece of how many."""
        start = query.get("from", "")
        name, begin = query.get("file", "stdout.txt"), whole(start, "from") if start else None
        content, begin, size = await output.piece(self._service, kind, (*place, name), begin)
        headers = ((b"x-from", b"%d" % begin), (b"x-size", b"%d" % size))
        return Answer(200, content, "application/octet-stream", headers)

    async def _act(self, parts: tuple[str, ...]) -> Answer:
        match parts:
            case ("jobs", job_id, "terminate"):
                await jobs.terminate(self._service, output.ask("POST", (job_id,)))
            case ("jobs", job_id, "tasks", task_id, "terminate"):
                await tasks.terminate(self._service, output.ask("POST", (job_id, task_id)))
            case _:
                return _NO_SUCH_PAGE
        await self._service.store.committed()
        return Answer(204)


def _is_own(visit: Visit) -> bool:
    """Whether a POST comes from our own page. Cookies do not tell: pages on other ports of this host send them too."""
    origin, host = visit.headers.get("origin", ""), visit.headers.get("host", "")
    return bool(host) and origin == f"{visit.scheme}://{host}" and visit.headers.get("x-page") == "azbatchwrap"


@lru_cache(maxsize=64)
def _content(name: str) -> bytes | None:
    path = STATIC / name
    return path.read_bytes() if path.is_file() else None


def _static(name: str, status: int = 200) -> Answer:
    content = _content(name)
    if content is None:
        return _NO_SUCH_PAGE
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "text/plain"
    return Answer(status, content, f"{kind}; charset=utf-8")


async def _read_body(receive: Receive) -> bytes:
    """The body, as far as it may be read."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body[:MAX_BODY]


async def _send(answer: Answer, send: Send) -> None:
    headers = [*_SECURE, *answer.headers, (b"content-length", b"%d" % len(answer.body))]
    if answer.body:
        headers.append((b"content-type", answer.kind.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
