"""Asks the Batch service of this machine at its own addresses (``/_local/…``), signed with the account's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from azbatchwrap.config import Secret

#: The service is on this machine (seconds).
TIMEOUT = 30.0
#: Standard headers after Content-Type that a signature covers and that are not sent here: Date to Range.
_NOT_SENT = [""] * 6


class Refused(Exception):
    """The service refused; ``status`` and ``code`` are its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message


class BatchAdmin:
    """One account of the service at ``url``. Blocking; every call is one short connection."""

    def __init__(self, url: str, account: str, key: Secret) -> None:
        self._url, self._account, self._key = urlsplit(url), account, key

    def ask(self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None) -> Any:
        """The JSON answer, ``None`` when it is empty. ``path`` begins with a slash and is percent-encoded already.

        Raises Refused, and OSError when nobody answers.
        """
        sent = b"" if body is None else json.dumps(body).encode()
        date = formatdate(usegmt=True)
        kind = "application/json; odata=minimalmetadata" if sent else ""
        length = str(len(sent)) if sent else ""
        lines = [method, "", "", length, "", kind, *_NOT_SENT, f"ocp-date:{date}"]
        signed = "\n".join(lines) + f"\n/{self._account}{path}"
        signed += "".join(f"\n{name}:{value}" for name, value in sorted((query or {}).items()))
        digest = hmac.new(base64.b64decode(self._key.reveal()), signed.encode(), hashlib.sha256).digest()
        headers = {
            "Authorization": f"SharedKey {self._account}:{base64.b64encode(digest).decode()}",
            "ocp-date": date,
            **({"Content-Type": kind} if kind else {}),
        }
        words = "&".join(f"{name}={value}" for name, value in (query or {}).items())
        return self._send(method, f"{path}?{words}" if words else path, sent or None, headers)

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=TIMEOUT)
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the Batch service gave no answer: {error!r}") from error
        finally:
            connection.close()
        found = json.loads(content) if content else None
        if answer.status >= 400:
            said = found or {}
            raise Refused(answer.status, said.get("code", ""), _message(said))
        return found


def _message(said: Mapping[str, Any]) -> str:
    text = str(said.get("message", {}).get("value", "")).partition("\n")[0]
    values = "; ".join(f"{each['key']}: {each['value']}" for each in said.get("values", ()))
    return f"{text} ({values})" if values else text
