"""Azure Storage queues of the account: what warm nodes and their clients write to each other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import urllib3

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import ConfigurationError, Conflict, NotFound, ServiceError
from azbatchwrap.storage.account import CONNECT_TIMEOUT, PROTOCOL_VERSION, READ_TIMEOUT, Account
from azbatchwrap.storage.faults import RETRIED_STATUSES, no_answer, refused

#: Messages that one request brings at most (Get Messages, "URI parameters").
MOST_MESSAGES = 32
PATIENCE = Backoff(attempts=6, base=0.3, cap=10.0)


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is invisible to others for a while; ``receipt`` allows to delete it."""

    identity: str
    receipt: str
    text: str


class Queues:
    """The queues of one account. Safe to share between threads."""

    def __init__(self, account: Account, url: str) -> None:
        self._account = account
        self.url = url.rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=16, timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT), retries=False
        )

    def close(self) -> None:
        """Ends its connections."""
        self._pool.clear()

    def create(self, name: str) -> None:
        """Makes a queue; one that is there is fine."""
        try:
            self._send("PUT", name)
        except Conflict as error:
            if error.code != "QueueAlreadyExists":
                raise

    def delete(self, name: str) -> None:
        """Deletes a queue with its messages; one that is gone is fine."""
        try:
            self._send("DELETE", name)
        except NotFound:
            return

    def put(self, name: str, text: str) -> None:
        """Adds a message that stays until it is taken. ``text`` holds nothing that XML escapes."""
        body = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
        self._send("POST", f"{name}/messages", {"messagettl": "-1"}, body)

    def get(self, name: str, seconds: int) -> list[Message]:
        """Takes up to 32 messages, which nobody else sees for ``seconds``."""
        query = {"numofmessages": str(MOST_MESSAGES), "visibilitytimeout": str(seconds)}
        body = self._send("GET", f"{name}/messages", query)
        return [
            Message(*(item.findtext(key) or "" for key in ("MessageId", "PopReceipt", "MessageText")))
            for item in (ET.fromstring(body) if b"<MessageId>" in body else ())  # noqa: S314 (our own account's answer)
        ]

    def remove(self, name: str, message: Message) -> None:
        """Deletes a message that was got; one that is gone is fine."""
        try:
            self._send("DELETE", f"{name}/messages/{message.identity}", {"popreceipt": message.receipt})
        except NotFound:
            return

    def signature(self, name: str, permissions: str, expiry: datetime) -> str:
        """The address of one queue that allows ``permissions`` (as ``pu``: take and change) until ``expiry``.

        Source: Create a service SAS, "Construct the signature string". Raises ConfigurationError without a key.
        """
        key = self._account.key
        if key is None:
            raise ConfigurationError(
                "warm nodes need a signature for a queue, which only an account key gives: set "
                "AZURE_STORAGE_CONNECTION_STRING, or use tasks (submit, map) instead of interactive()"
            )
        end = expiry.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        protocol = "https" if self.url.startswith("https:") else "https,http"
        resource = f"/queue/{self._account.name}/{name}"
        lines = [permissions, "", end, resource, "", "", protocol, PROTOCOL_VERSION]
        signed = base64.b64encode(hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
        query = {"sp": permissions, "se": end, "spr": protocol, "sv": PROTOCOL_VERSION, "sig": signed}
        return f"{self.url}/{name}?{urlencode(query)}"

    def _send(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b"") -> bytes:
        attempt = 1
        while True:
            try:
                return self._attempt(method, path, query or {}, body)
            except ServiceError as error:
                if (error.status is not None and error.status not in RETRIED_STATUSES) or PATIENCE.exhausted(attempt):
                    raise
            time.sleep(PATIENCE.delay(attempt))
            attempt += 1

    def _attempt(self, method: str, path: str, query: dict[str, str], body: bytes) -> bytes:
        url, doing = f"{self.url}/{path}", f"queue {path.partition('/')[0]}: {method}"
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/xml"}
        signed = self._account.signed(method, url, headers, query)
        address = f"{url}?{urlencode(query)}" if query else url
        try:
            answer = self._pool.request(method, address, body=body, headers=signed)
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(doing, f"{type(error).__name__}: {error}") from error
        if answer.status < 300:
            return answer.data
        code = answer.headers.get("x-ms-error-code", "")
        raise refused(doing, answer.status, code, retry_after=answer.headers.get("Retry-After"))
