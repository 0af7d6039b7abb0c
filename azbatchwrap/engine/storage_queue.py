"""The few requests of Azure Storage queues that a warm engine makes, each allowed by a signature for one queue."""

from __future__ import annotations

import base64
import http.client
import threading
import time
from typing import NamedTuple
from urllib.parse import quote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "2021-12-02"
TIMEOUT = 60.0
ATTEMPTS, PAUSE = 5, 0.2
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
#: Seconds between two looks into an empty queue: (seconds since the last call, pause), the last one for all times after.
PAUSES = ((2.0, 0.008), (30.0, 0.05), (float("inf"), 0.5))
#: A pause is at least this many times as long as the last look took: a busy service answers sooner when asked less.
PATIENCE = 1.5
#: Open connections by thread (one at a time may use it), scheme and host: opening one takes longer than a request.
_connections: dict[tuple[int, str, str], http.client.HTTPConnection] = {}


class QueueError(Exception):
    """The service refused or did not answer. The message never has the address, which holds a signature."""


class Message:
    """A call under its lease, which ``tries`` engines have taken so far."""

    def __init__(self, identity: str, receipt: str, data: bytes, tries: int) -> None:
        self.identity = identity
        self.receipt = receipt
        self.data = data
        self.tries = tries


class Answer(NamedTuple):
    """Status, headers and body of an answer."""

    status: int
    receipt: str
    body: bytes


class Queue:
    """A queue at an address with its signature."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.scheme, parts.netloc)
        self._path = parts.path
        self._signature = parts.query

    def get(self, lease: int) -> Message | None:
        """The next message, invisible to others for ``lease`` seconds; None when there is none."""
        body = self._send("GET", "/messages", f"visibilitytimeout={lease}&").body.decode()
        if "<MessageId>" not in body:
            return None
        return Message(
            _element(body, "MessageId"),
            _element(body, "PopReceipt"),
            _decoded(_element(body, "MessageText")),
            int(_element(body, "DequeueCount")),
        )

    def put(self, data: bytes) -> None:
        """Add a message that stays until it is taken."""
        body = b"<QueueMessage><MessageText>%b</MessageText></QueueMessage>" % base64.b64encode(data)
        self._send("POST", "/messages", "messagettl=-1&", body)

    def answer(self, call: dict[str, Any], data: bytes) -> None:
        """Put an answer into the caller's mailbox."""
        Queue(call["reply"]).put(data)

    def rest(self, quiet: float, took: float) -> None:
        """Pause before the next look: ``quiet`` seconds since the last call, the last look ``took`` seconds."""
        pause = next(pause for age, pause in PAUSES if quiet <= age)
        time.sleep(max(pause, PATIENCE * took))

    def renew(self, message: Message, lease: int) -> None:
        """Keep a message invisible for ``lease`` seconds from now."""
        query = f"popreceipt={quote(message.receipt, safe='')}&visibilitytimeout={lease}&"
        message.receipt = self._send("PUT", f"/messages/{message.identity}", query).receipt or message.receipt

    def delete(self, message: Message) -> None:
        """Take a message off the queue for good."""
        self._send("DELETE", f"/messages/{message.identity}", f"popreceipt={quote(message.receipt, safe='')}&")

    def _send(self, method: str, path: str, query: str, body: bytes = b"") -> Answer:
        address = f"{self._path}{path}?{query}{self._signature}"
        return _request(self._place, method, address, body, {"Content-Type": "application/xml"})


def put_blob(url: str, data: bytes) -> None:
    """Write a blob at an address with its signature."""
    parts = urlsplit(url)
    headers = {"x-ms-blob-type": "BlockBlob"}
    _request((parts.scheme, parts.netloc), "PUT", f"{parts.path}?{parts.query}", data, headers)


def _request(place: tuple[str, str], method: str, address: str, body: bytes, headers: dict[str, str]) -> Answer:
    for attempt in range(1, ATTEMPTS + 1):
        connection = _connection(place)
        try:
            connection.request(method, address, body=body, headers={"x-ms-version": VERSION, **headers})
            response = connection.getresponse()
            answer = Answer(response.status, response.getheader("x-ms-popreceipt", "") or "", response.read())
        except (OSError, http.client.HTTPException) as error:
            _drop(place)
            reason = type(error).__name__
        else:
            if answer.status < 300:
                return answer
            reason = f"HTTP status {answer.status}"
            if answer.status not in RETRIED:
                break
        if attempt < ATTEMPTS:
            time.sleep(PAUSE * attempt)
    raise QueueError(f"{method} {address.partition('?')[0]}: {reason}")


def _connection(place: tuple[str, str]) -> http.client.HTTPConnection:
    key = (threading.get_ident(), *place)
    if key not in _connections:
        kind = http.client.HTTPSConnection if place[0] == "https" else http.client.HTTPConnection
        _connections[key] = kind(place[1], timeout=TIMEOUT)
    return _connections[key]


def _drop(place: tuple[str, str]) -> None:
    connection = _connections.pop((threading.get_ident(), *place), None)
    if connection is not None:
        connection.close()


def close_connections() -> None:
    """Close what this thread has opened: it is about to end."""
    mine = threading.get_ident()
    for key in [key for key in _connections if key[0] == mine]:
        _connections.pop(key).close()


def _element(text: str, name: str) -> str:
    """The content of an element that appears once; none of those we read holds anything that XML escapes."""
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]


def _decoded(text: str) -> bytes:
    """A message's bytes; none of one that is not ours."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""
