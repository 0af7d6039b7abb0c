"""The Speech SDK's WebSocket messages ("USP"): headers, a blank line and JSON, or binary audio behind its headers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The WebSocket subprotocol that the SDKs ask for.
SUBPROTOCOL = "USP"
#: Offsets and durations count in these: 100 ns.
TICKS_PER_SECOND = 10_000_000


class MessageError(ValueError):
    """A message that is not USP: says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a client. ``path`` says what it is: speech.config, speech.context, audio, telemetry, …"""

    path: str
    request_id: str
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; an empty one when it is none."""
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}


def ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_SECOND)


def parse_text(text: str) -> Message:
    """A text message. Raises MessageError when its headers name no path."""
    head, _, body = text.partition("\r\n\r\n")
    return _message(head, body.encode())


def parse_binary(data: bytes) -> Message:
    """A binary message: two bytes with the headers' length (big-endian), the headers, the audio."""
    if len(data) < 2:
        raise MessageError("a binary message begins with two bytes that give the length of its headers")
    length = struct.unpack_from(">H", data)[0]
    if len(data) < 2 + length:
        raise MessageError(f"the headers should be {length} bytes long, but the message has only {len(data) - 2}")
    return _message(data[2 : 2 + length].decode("utf-8", "replace"), data[2 + length :])


def _message(head: str, body: bytes) -> Message:
    headers = {}
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()  # the JavaScript SDK writes a blank after the colon, others none
    path = headers.get("path", "").lower()
    if not path:
        raise MessageError("the message has no Path header")
    return Message(path, headers.get("x-requestid", ""), body)


def format_text(path: str, request_id: str, body: Mapping[str, Any]) -> str:
    """A message of the service."""
    text = json.dumps(body, ensure_ascii=False) if body else ""
    return f"X-RequestId:{request_id}\r\nContent-Type:application/json; charset=utf-8\r\nPath:{path}\r\n\r\n{text}"
