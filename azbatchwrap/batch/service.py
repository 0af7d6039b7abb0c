"""The one door to Azure Batch: sends requests, retries them, pages lists, and turns every failure into our errors."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import orjson

from azbatchwrap.backoff import Backoff, parse_retry_after
from azbatchwrap.errors import (
    AccessDenied,
    ConfigurationError,
    Conflict,
    NotFound,
    ServiceError,
    Throttled,
    Unreachable,
)
from azbatchwrap.storage.dry import check_may_write

if TYPE_CHECKING:
    from azure.batch import BatchClient
    from azure.core.exceptions import AzureError, HttpResponseError

    from azbatchwrap.config import BatchAccount

_log = logging.getLogger(__name__)

Json = dict[str, Any]

#: The wire's own form; Azure Batch refuses plain application/json.
JSON_TYPE = "application/json; odata=minimalmetadata"
#: Seconds. The service gives itself 30 s for a request, so an answer after 60 s will not come.
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: Connections kept open at once; urllib3 would keep 10 and open and close the rest for every request.
CONNECTIONS = 64
#: Answers that another attempt may turn into a success. 409 is not among them: state decides, not luck.
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
#: The most items Azure Batch puts on a page.
PAGE = 1000

_ACCESS = "Check the account's name, key or role assignment, and this machine's clock."
#: What to do about a refusal, by its code or else its status.
_WAYS_OUT = {
    "401": _ACCESS,
    "403": _ACCESS,
    "ActiveJobAndScheduleQuotaReached": (
        "The account has as many active jobs as it may: end some (`azbatchwrap job list`, `job cancel`) or ask Azure for a "
        "higher quota."
    ),
    "PoolQuotaReached": "The account has as many pools as it may: delete idle ones (`azbatchwrap pool list`, clean_up()).",
    "PoolBeingResized": "Wait until it has the nodes asked for (wait_for_pool), then resize it again.",
    "JobCompleted": "The job has ended and takes nothing more: create_a_job() makes another one.",
    "JobBeingTerminated": "The job is ending and takes nothing more: create_a_job() makes another one.",
}
#: What is missing, by the code that says so: its name stands behind this part of the address.
_MISSING = {
    "PoolNotFound": ("pools", "pool"),
    "JobNotFound": ("jobs", "job"),
    "TaskNotFound": ("tasks", "task"),
    "NodeNotFound": ("nodes", "node"),
    "FileNotFound": ("files", "file"),
    # Answers to HEAD have no body, and only files are asked for so.
    "NotFound": ("files", "file"),
}
_SIGNATURE = re.compile(r"(?i)(\bsig=)[^&\s\"'<>]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``body`` of a JSON answer, ``content`` of a file.

    ``uncertain``: an earlier attempt was lost on the way and may have been carried out.
    """

    headers: Mapping[str, str]
    body: Json
    content: bytes = b""
    uncertain: bool = False


class Service:
    """Azure Batch over the SDK's own client (its signing, proxies, certificates) in the wire's JSON.

    Raises the branches of `ServiceError`, each with the service's ``code`` and the HTTP ``status``.
    """

    def __init__(
        self,
        account: BatchAccount,
        *,
        backoff: Backoff | None = None,
        read_timeout: float = READ_TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.account = account
        self._backoff = backoff or Backoff()
        self._read_timeout = read_timeout
        self._sleep = sleep
        self._client: BatchClient | None = None
        self._opening = threading.Lock()

    @property
    def url(self) -> str:
        """Address of the account, without a trailing slash."""
        return str(self.account.url).rstrip("/")

    def request(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request with its retries. ``path`` is below the account, its parts quoted (see `at`)."""
        if method not in {"GET", "HEAD"}:
            check_may_write()
        try:
            return self._with_retries(method, path, body, query, headers)
        except _Failure as failure:
            raise failure.error from failure.cause

    def get(self, path: str, *, select: Sequence[str] = ()) -> Json:
        """One entity, only the fields in ``select`` where given. Raises NotFound."""
        return self.request("GET", path, query=_options("", select)).body

    def find(self, path: str, *, select: Sequence[str] = ()) -> Json | None:
        """As `get`, with ``None`` for what does not exist."""
        try:
            return self.get(path, select=select)
        except NotFound:
            return None

    def create(self, path: str, body: Json, *, entity: str) -> None:
        """Create what ``entity`` names, once: a Conflict after a lost answer is a success if the thing there is ours.

        Ours is told by equal metadata, so ``body`` should carry a metadata entry that nothing else has.
        """
        try:
            self._with_retries("POST", path, body, None, None)
        except _Failure as failure:
            there = self.find(entity) if failure.uncertain and isinstance(failure.error, Conflict) else None
            if there is None or metadata(there) != metadata(body):
                raise _taken(failure.error, entity) from failure.cause

    def delete(self, path: str) -> bool:
        """Ask for the end of an entity. False when there was none; one that is being deleted already is fine."""
        try:
            self.request("DELETE", path)
        except NotFound:
            return False
        except Conflict as error:
            if not error.code.endswith("BeingDeleted"):
                raise
        return True

    def list(
        self,
        path: str,
        *,
        filter: str = "",  # noqa: A002
        select: Sequence[str] = (),
        page: int = PAGE,
        query: Mapping[str, str] | None = None,
    ) -> Iterator[Json]:
        """Every item of a list, fetched page by page as they are consumed. ``filter`` is OData."""
        query = {"maxresults": str(page), **_options(filter, select), **(query or {})}
        while True:
            body = self.request("GET", path, query=query).body
            yield from body.get("value", ())
            following = body.get("odata.nextLink")
            if not following:
                return
            # Only the query of the link is used: what an answer says must not choose where our key's signature goes.
            query = dict(parse_qsl(urlsplit(following).query.replace("+", "%2B")))

    def download_end(self, path: str, size: int) -> bytes:
        """The last ``size`` bytes of a task's or node's file; empty when it is not there (any more)."""
        headers = {"Accept": "application/octet-stream"}
        try:
            length = int(self.request("HEAD", path, headers=headers).headers.get("Content-Length", "0"))
            if length == 0:
                return b""
            wanted = {**headers, "ocp-range": f"bytes={max(0, length - size)}-{length - 1}"}
            return self.request("GET", path, headers=wanted).content[-size:]
        except (NotFound, Conflict):
            return b""

    def lose_patience(self) -> None:
        """From now on try twice at most: for the end of a script, where nobody wants to wait."""
        self._backoff = Backoff(attempts=2, base=0.2)

    def close(self) -> None:
        """Give back the connections. A closed service opens again when it is used."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _with_retries(
        self,
        method: str,
        path: str,
        body: Json | bytes | None,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        content = orjson.dumps(body) if isinstance(body, dict) else body
        attempt, uncertain = 0, False
        while True:
            attempt += 1
            try:
                answer = self._once(method, path, content, query or {}, headers or {})
            except _Failure as failure:
                uncertain = failure.uncertain = uncertain or failure.uncertain
                if not failure.retry or self._backoff.exhausted(attempt):
                    raise
                delay = self._backoff.delay(attempt, retry_after=failure.retry_after)
                _log.info("%s %s failed, attempt %d; next in %.1f s: %s", method, path, attempt, delay, failure.error)
                self._sleep(delay)
            else:
                return replace(answer, uncertain=True) if uncertain else answer

    def _once(
        self, method: str, path: str, content: bytes | None, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Answer:
        from azure.core.exceptions import AzureError
        from azure.core.rest import HttpRequest

        client = self._client or self._open()
        sent = {"Accept": "application/json", **headers}
        if content is not None:
            sent["Content-Type"] = JSON_TYPE
        params = {**query, "api-version": client._config.api_version}  # noqa: SLF001 (the SDK offers no other way to its version)
        request = HttpRequest(method, self.url + path, params=params, headers=sent, content=content)
        what = f"{method} {self.url}{path}"
        try:
            # Streamed, because otherwise the SDK decodes every body before we do.
            response = client.send_request(request, stream=True)
            content_read = response.read()
        except AzureError as error:
            raise _translate(error, what) from error
        if sent["Accept"] != "application/json":
            return Answer(response.headers, {}, content_read)
        return Answer(response.headers, _decoded(content_read, what))

    def _open(self) -> BatchClient:
        with self._opening:
            if self._client is None:
                self._client = _client(self.account, self._read_timeout)
            return self._client


def at(*parts: str) -> str:
    """A path from parts as they are: ``at("jobs", job_id)``.

    Raises ConfigurationError for parts that would lead to another place than they name.
    """
    for part in parts:
        if part in {"", ".", ".."}:
            raise ConfigurationError(f"{part!r} is not a name that the service can have")
    return "".join("/" + quote(part, safe="") for part in parts)


def metadata(entity: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a pool or job as a dictionary."""
    return {item["name"]: item.get("value", "") for item in entity.get("metadata") or ()}


def as_metadata(entries: Mapping[str, str]) -> list[Json]:
    """`metadata` the other way round."""
    return [{"name": name, "value": value} for name, value in entries.items()]


def quoted(text: str) -> str:
    """``text`` as a string of an OData filter."""
    return "'" + text.replace("'", "''") + "'"


def parse_time(text: str) -> datetime:
    """A time of the service: UTC, with up to seven digits of a second, one more than Python holds."""
    seconds, _, fraction = text.rstrip("Zz").partition(".")
    return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")


def wire_time(moment: datetime) -> str:
    """``moment`` as the service writes times."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def redact(text: str) -> str:
    """``text`` without the signatures of SAS URLs."""
    return _SIGNATURE.sub(r"\1***", text)


def refusal(code: str, message: str, status: int | None = None, *, retry_after: float | None = None) -> ServiceError:
    """The error for a service's ``code`` and ``status``; never by the words of the message."""
    if status == 404 or code.endswith("NotFound"):
        return NotFound(message, code=code, status=status)
    if status in (401, 403) or code in ("AuthenticationFailed", "InsufficientAccountPermissions"):
        return AccessDenied(message, code=code, status=status)
    if status in (429, 503) or code in ("TooManyRequests", "ServerBusy"):
        return Throttled(message, code=code, status=status, retry_after=retry_after)
    if status in (409, 412) or code.endswith("Exists"):
        return Conflict(message, code=code, status=status)
    return ServiceError(message, code=code, status=status)


class _Failure(Exception):
    """One failed attempt: the error it would become, and whether another attempt makes sense."""

    def __init__(
        self, error: ServiceError, cause: Exception, *, retry: bool, uncertain: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.cause = cause
        self.retry = retry
        self.uncertain = uncertain
        self.retry_after = retry_after


def _client(account: BatchAccount, read_timeout: float) -> BatchClient:
    from azure.batch import BatchClient
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.core.pipeline.transport import RequestsTransport
    from requests import Session
    from requests.adapters import HTTPAdapter

    class Refusals(SansIOHTTPPolicy[Any, Any]):
        """Raises for a refusal before the SDK does, which logs a traceback for each body it did not read as JSON."""

        def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
            answer = response.http_response
            if answer.status_code >= 300:
                with contextlib.suppress(AzureError):  # what is cut off counts as unread
                    answer.read()
                raise HttpResponseError(response=answer)

    session = Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    timeouts = {"connection_timeout": CONNECT_TIMEOUT, "read_timeout": read_timeout}
    # Retries are ours (`_with_retries`): the SDK's would multiply with them and know nothing of lost answers.
    return BatchClient(
        account.url.rstrip("/"),
        _credential(account),
        retry_total=0,
        per_retry_policies=[Refusals()],
        transport=RequestsTransport(session=session, **timeouts),
        **timeouts,
    )


def _credential(account: BatchAccount) -> Any:
    if account.key is not None:
        from azure.core.credentials import AzureNamedKeyCredential

        return AzureNamedKeyCredential(account.name, account.key.reveal())
    if not account.url.startswith("https:"):
        raise ConfigurationError(
            f"{account.url}: without an account key an identity is used, and its token must not travel over plain http. "
            "Set AZURE_BATCH_ACCESS_KEY, or use the account's https address."
        )
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def _options(filter_text: str, select: Sequence[str]) -> dict[str, str]:
    options = {}
    if filter_text:
        options["$filter"] = filter_text
    if select:
        options["$select"] = ",".join(select)
    return options


def _decoded(content: bytes, what: str) -> Json:
    """The JSON object in ``content``. A body cut off, or replaced by a proxy, counts as an answer lost on the way."""
    try:
        body = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError as error:
        raise _broken(what, str(error), error) from error
    if not isinstance(body, dict):
        raise _broken(what, "not a JSON object", TypeError(type(body).__name__))
    return body


def _broken(what: str, why: str, cause: Exception) -> _Failure:
    error = ServiceError(f"{what}: the answer is broken: {why}", code="BrokenAnswer")
    return _Failure(error, cause, retry=True, uncertain=True)


def _translate(error: AzureError, what: str) -> _Failure:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError

    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _refused(error, what)
    if isinstance(error, ClientAuthenticationError):
        return _Failure(
            AccessDenied(f"{what}: no token: {error.message}", code="NoToken"), error, retry=False, uncertain=False
        )
    hint = " Is it running? `azbatchwrap local status` tells." if "//127.0.0.1" in what or "//localhost" in what else ""
    unreachable = Unreachable(f"{what}: no answer: {redact(_why(error))}.{hint}", code="Unreachable")
    # A connection that never came about carried no request; anything later may have done its work.
    return _Failure(unreachable, error, retry=True, uncertain=not isinstance(error, ServiceRequestError))


def _why(error: AzureError) -> str:
    """What went wrong on the way, without the names of the layers that handed it up."""
    inner: Any = getattr(error, "inner_exception", None)
    reason = getattr(inner.args[0], "reason", None) if inner is not None and inner.args else None
    text = str(reason or error.message)
    return (text.partition("): ")[2] or text).rstrip(".")


def _refused(error: HttpResponseError, what: str) -> _Failure:
    status = error.status_code or 0
    response: Any = error.response
    headers: Mapping[str, str] = response.headers if response is not None else {}
    code, message = _reason(error)
    retry_after = parse_retry_after(headers.get("Retry-After"))
    request_id = headers.get("request-id")
    text = _missing(code, what) + redact(f"{what}: {status} {code}: {message}")
    if request_id:
        text += f" (request {request_id})"
    way_out = _WAYS_OUT.get(code) or _WAYS_OUT.get(str(status))
    if way_out:
        text += f"\n{way_out}"
    retry = status in RETRIED_STATUSES or (200 <= status < 300)
    return _Failure(
        refusal(code, text, status, retry_after=retry_after),
        error,
        retry=retry,
        uncertain=retry and status not in (429, 503),
        retry_after=retry_after,
    )


def _taken(error: ServiceError, entity: str) -> ServiceError:
    """``error``, naming what is there already where that is what it says: the address of a creation does not."""
    if not error.code.endswith("Exists"):
        return error
    kind, name = entity.split("/")[-2:]
    text = f"there is a {kind.removesuffix('s')} {unquote(name)!r} already: {error}"
    return refusal(error.code, text, error.status)


def _missing(code: str, what: str) -> str:
    """What there is none of, in words, where the code and the address of the request tell."""
    folder, kind = _MISSING.get(code, ("", ""))
    _, there, names = what.partition(f"/{folder}/")
    if not kind or not there:
        return ""
    name = names if kind == "file" else names.partition("/")[0]
    return f"there is no {kind} {unquote(name)!r}: "


def _reason(error: HttpResponseError) -> tuple[str, str]:
    """Code and message of an error body, or the reason phrase when the body is not the service's."""
    reason = error.reason or "no reason given"
    try:
        response: Any = error.response
        body = orjson.loads(response.read())
        code, message = body["code"], body["message"]["value"].partition("\nRequestId:")[0]
        values = "; ".join(f"{item['key']}: {item['value']}" for item in body.get("values") or ())
    except Exception:  # noqa: BLE001 (a proxy's page, a cut body, an unread stream: all the same here)
        return reason.replace(" ", ""), reason
    return str(code), f"{message} ({values})" if values else str(message)
