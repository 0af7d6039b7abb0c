"""Azure Resource Manager over plain HTTPS: one request per call, long-running operations waited for, errors translated.

What ARM documents as a resource is read and written here, and not through azure-ai-ml. Its clients decide by any error
that something is absent, name what they create at random, and wait in fixed steps; see docs/batchcreate.md.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azbatchwrap.backoff import parse_retry_after
from azbatchwrap.config.cloud import Cloud
from azbatchwrap.errors import (
    AccessDenied,
    Conflict,
    NotFound,
    ServiceError,
    Throttled,
    Unreachable,
    WaitTimeout,
)

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.credentials import AccessToken, TokenCredential

log = logging.getLogger(__name__)

Document = dict[str, Any]

#: Seconds for a connection, and between two pieces of an answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 20, 120
#: Attempts of a request that may be repeated: everything but a POST.
RETRIES = 5
#: A long-running operation is looked at this soon first (seconds), then as the service asks, or at least so often.
FIRST_LOOK, LOOK_INTERVAL = 0.1, 5.0
#: How long a long-running operation may take (seconds) before we stop waiting; it goes on without us.
OPERATION_TIMEOUT = 3600.0
#: Answers with status 404 that say more than that a resource is absent.
_NOT_ABSENT = frozenset({
    "subscriptionnotfound", "invalidsubscriptionid", "invalidresourcetype", "invalidresourcenamespace",
    "noregisteredproviderfound", "disallowedprovider", "invalidauthenticationtokentenant",
})  # fmt: skip
_DONE, _FAILED = {"succeeded", "completed", "ready"}, {"failed", "canceled", "cancelled"}


class OneToken:
    """A credential that asks for one token per audience, however many threads want one."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential
        self._tokens: dict[tuple[str, ...], AccessToken] = {}
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        with self._lock:
            token = self._tokens.get(scopes)
            # Five minutes before its end a token is as good as gone: an operation may take that long.
            if token is None or token.expires_on - time.time() < 300:
                token = self._tokens[scopes] = self._credential.get_token(*scopes)
            return token


@dataclass(slots=True)
class Arm:
    """The management plane of one cloud. Safe to use from several threads."""

    cloud: Cloud
    credential: TokenCredential
    operation_timeout: float = OPERATION_TIMEOUT
    #: Waits so many seconds: a parameter so that tests of long operations need no time.
    pause: Callable[[float], object] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _clients: dict[str, PipelineClient[Any, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, path: str, version: str) -> Document | None:
        """The resource, or ``None`` when it is absent. Only a 404 says that; every other refusal is raised."""
        try:
            return self.get(path, version)
        except NotFound as error:
            if error.code.lower() in _NOT_ABSENT:
                raise
            return None

    def get(self, path: str, version: str, **query: str) -> Document:
        return self._send("GET", path, version, query=query).body

    def pages(self, path: str, version: str, **query: str) -> Iterator[Document]:
        """Every item of a list."""
        body = self.get(path, version, **query)
        while True:
            yield from body.get("value", ())
            following = body.get("nextLink")
            if not following:
                return
            body = self._send("GET", self._own(following), "").body

    def put(self, path: str, version: str, body: Document, **query: str) -> Document:
        """Make or replace a resource, wait until it is there, and return what the service shows then."""
        answer = self._send("PUT", path, version, body, query)
        self._wait(answer, path, version)
        if answer.has_operation or _state(answer.body) not in {"", "succeeded"}:
            return self.get(path, version)
        return answer.body

    def delete(self, path: str, version: str, **query: str) -> None:
        """Delete a resource and wait until it is gone. One that is gone already is fine."""
        try:
            answer = self._send("DELETE", path, version, query=query)
        except NotFound as error:
            if error.code.lower() in _NOT_ABSENT:
                raise
            return
        if answer.status == 202 or answer.has_operation:
            self._wait(answer, path, version)

    def post(self, path: str, version: str, body: Document | None = None, **query: str) -> Document:
        """An action that may be repeated, such as listing keys."""
        return self._send("POST", path, version, body or {}, query).body

    def submit(self, url: str, body: Document, headers: Mapping[str, str]) -> Document:
        """POST to a batch endpoint, once: what may start a job is never sent twice in silence.

        Raises Unreachable when no answer came, so that nobody knows whether it was taken.
        """
        if urlsplit(url).scheme != "https":
            raise ServiceError(f"the endpoint's address {url!r} is no https address: no token is sent there")
        return self._request("POST", url, body, headers, self.cloud.scoring_audience, repeat=False).body

    # Waiting

    def sleep(self, seconds: float) -> None:
        """Raises WaitTimeout when the run was stopped meanwhile."""
        wait = self._stopping.wait if self.pause is None else self.pause
        wait(seconds)
        if self._stopping.is_set():
            raise WaitTimeout("stopped while the service was at work; it goes on by itself")

    def stop(self) -> None:
        """Let every wait end soon."""
        self._stopping.set()

    # Requests

    def _send(
        self, method: str, path: str, version: str, body: Document | None = None, query: Mapping[str, str] | None = None
    ) -> _Answer:
        url = path if path.startswith("https://") else self.cloud.manager + path
        words = [f"{name}={value}" for name, value in (query or {}).items()]
        words += [f"api-version={version}"] if version else []
        url += ("&" if "?" in url else "?") + "&".join(words) if words else ""
        return self._request(method, url, body, {}, self.cloud.audience)

    def _request(
        self,
        method: str,
        url: str,
        body: Document | None,
        headers: Mapping[str, str],
        audience: str,
        *,
        repeat: bool = True,
    ) -> _Answer:
        from azure.core.exceptions import AzureError
        from azure.core.rest import HttpRequest

        sent = {"Accept": "application/json", **headers}
        request = HttpRequest(method, url, headers=sent, json=body)
        what = f"{method} {urlsplit(url).path}"
        try:
            response = self._client(audience).send_request(request, retry_total=RETRIES if repeat else 0)
            text = response.text()
        except AzureError as error:
            raise _no_answer(error, what, self.cloud) from error
        if response.status_code >= 400:
            raise refusal(response.status_code, text, what, response.headers.get("Retry-After"))
        return _Answer(response.status_code, dict(response.headers), _decoded(text))

    def _client(self, audience: str) -> PipelineClient[Any, Any]:
        from azure.core import PipelineClient
        from azure.core.pipeline import policies
        from azure.core.pipeline.transport import RequestsTransport

        with self._lock:
            if audience not in self._clients:
                self._clients[audience] = PipelineClient(
                    base_url=self.cloud.manager,
                    policies=[
                        policies.RequestIdPolicy(),
                        policies.UserAgentPolicy("azbatchwrap-batchcreate"),
                        policies.RetryPolicy(retry_total=RETRIES, retry_backoff_factor=0.5, retry_backoff_max=30),
                        policies.BearerTokenCredentialPolicy(self.credential, f"{audience}/.default"),
                    ],
                    transport=RequestsTransport(connection_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT),
                )
            return self._clients[audience]

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    # Long-running operations

    def _own(self, url: str) -> str:
        """``url`` when it lies on the management plane: an answer must not choose where our token goes."""
        if urlsplit(url).netloc.lower() != urlsplit(self.cloud.manager).netloc.lower():
            raise ServiceError(f"the service points to {url}, which is not on {self.cloud.manager}")
        return url

    def _wait(self, answer: _Answer, path: str, version: str) -> None:
        """Until the operation is over. Raises ServiceError when it failed, WaitTimeout when it takes too long."""
        deadline = time.monotonic() + self.operation_timeout
        interval = FIRST_LOOK
        while not self._is_over(answer, path, version):
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"{path} is not ready after {self.operation_timeout:.0f} s. The service goes on by itself: run the "
                    f"command again later, it continues where it is"
                )
            self.sleep(interval)
            interval = LOOK_INTERVAL if answer.retry_after is None else max(answer.retry_after, FIRST_LOOK)

    def _is_over(self, answer: _Answer, path: str, version: str) -> bool:
        address = answer.headers_lower.get("azure-asyncoperation")
        if address:
            return _is_final(self._send("GET", self._own(address), "").body, path)
        address = answer.headers_lower.get("location")
        if address and answer.status in {201, 202}:
            return self._send("GET", self._own(address), "").status != 202
        if _state(answer.body) in {"", *_DONE}:
            return True
        return _is_final(self.get(path, version), path)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: Document

    @property
    def headers_lower(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    @property
    def has_operation(self) -> bool:
        return bool(self.headers_lower.keys() & {"azure-asyncoperation", "location"})

    @property
    def retry_after(self) -> float | None:
        """Seconds; ``Retry-After: 0`` means at once."""
        return parse_retry_after(self.headers_lower.get("retry-after"))


def _decoded(text: str) -> Document:
    try:
        body = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {"value": body}


def _state(document: Document) -> str:
    properties = document.get("properties") or {}
    state = properties.get("provisioningState") if isinstance(properties, dict) else ""
    return str(state or "").lower()


def _is_final(document: Document, path: str) -> bool:
    """Raises ServiceError for an operation that failed."""
    state = str(document.get("status") or "").lower() or _state(document)
    if state in _FAILED:
        error = document.get("error") or (document.get("properties") or {}).get("error") or {}
        code, message = _cause(error)
        raise ServiceError(f"{path}: the operation {state}: {message or 'no reason was given'}", code=code)
    return state in _DONE or not state


def _no_answer(error: Exception, what: str, cloud: Cloud) -> ServiceError:
    from azure.core.exceptions import ClientAuthenticationError

    if isinstance(error, ClientAuthenticationError):
        return AccessDenied(f"nobody is signed in to {cloud.manager}: {error}. Try `az login`", code="NotSignedIn")
    return Unreachable(f"{what}: no answer from {cloud.manager}: {error}")


def refusal(status: int, text: str, what: str, retry_after: str | None = None) -> ServiceError:
    """The error that an answer with ``status`` and body ``text`` stands for."""
    body = _decoded(text)
    error = body.get("error") or body
    code, message = _cause(error if isinstance(error, dict) else {"message": str(error)})
    said = f"{what}: {status} {code}: {message or text[:300] or 'no reason was given'}{_advice(status, code)}"
    if status in {429, 503}:
        return Throttled(said, code=code, status=status, retry_after=parse_retry_after(retry_after))
    kinds = {404: NotFound, 401: AccessDenied, 403: AccessDenied, 409: Conflict, 412: Conflict}
    return kinds.get(status, ServiceError)(said, code=code, status=status)


def _cause(error: Mapping[str, Any]) -> tuple[str, str]:
    """Code and text; what lies deeper says more."""
    code, message = str(error.get("code") or ""), str(error.get("message") or "")
    details = [each for each in error.get("details") or () if isinstance(each, dict)]
    inner = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in details)
    return code, f"{message} ({inner})" if inner else message


_ADVICE = {
    "authorizationfailed": "ask for the role Contributor on the resource group (or the subscription, to make the group)",
    "subscriptionnotfound": "check subid, and which account is signed in (`az account show`)",
    "quotaexceeded": "ask for more cores (portal: quotas), or choose another batch_vm_size, batch_vm_max or region",
    "clustercorequotareached": "ask for more cores (portal: quotas), or choose another batch_vm_size, batch_vm_max or region",
    "skunotavailable": "choose another batch_vm_size or region",
    "endpointnamealreadytaken": "choose an endpoint_name that nobody has in this region",
    "storageaccountalreadytaken": "choose another workspace name: the account's name is made from it",
}


def _advice(status: int, code: str) -> str:
    advice = _ADVICE.get(code.lower()) or (_ADVICE["authorizationfailed"] if status == 403 else "")
    return f" [{advice}]" if advice else ""
