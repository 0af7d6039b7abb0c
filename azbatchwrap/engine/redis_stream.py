"""Calls from a Redis stream: the few commands that a warm engine needs, over a connection of its own.

Who reads a call from the stream's group has it pending until it is acknowledged. What has been pending for longer than
a lease belongs to whoever claims it next. Source: https://redis.io/docs/latest/develop/data-types/streams/ and the
protocol's specification, RESP2.
"""

from __future__ import annotations

import socket
import threading
import time

from .storage_queue import Message, QueueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

#: The group that all engines of a stream belong to, and the field of an entry that holds the call or answer.
GROUP, FIELD = "engines", "json"
#: Milliseconds that the server waits for a call before it says that there is none.
WAIT = 500
#: Seconds after which a server that says nothing is gone.
TIMEOUT = 10.0
#: An answer is sent this often, with so many seconds after each attempt; a mailbox that nobody empties lives a day.
ATTEMPTS, PAUSE, MAILBOX_LIFE = 5, 0.2, 86_400


class Refused(Exception):
    """The server's own words for why it did not do what it was asked."""


class Stream:
    """The calls of one lane. ``place`` says where they are and with which user and password engines get in."""

    def __init__(self, place: dict[str, Any], consumer: str) -> None:
        self._place = place
        self._key = place["calls"]
        self._consumer = consumer
        self._line: _Line | None = None
        self._turn = threading.Lock()
        self._next_claim = 0.0

    def get(self, lease: int) -> Message | None:
        """The next call, ours until nobody has renewed it for ``lease`` seconds; None when there is none for a while."""
        now = time.monotonic()
        if now >= self._next_claim:
            self._next_claim = now + lease / 3
            left_behind = self._claim(lease)
            if left_behind is not None:
                return left_behind
        words = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", 1, "BLOCK", WAIT, "STREAMS", self._key, ">")
        found = self._ask(words)[0]
        return None if not found else _message(found[0][1][0], 1)

    def _claim(self, lease: int) -> Message | None:
        """A call whose engine has not renewed it in time."""
        words = ("XAUTOCLAIM", self._key, GROUP, self._consumer, lease * 1000, "0", "COUNT", 1)
        found = self._ask(words)[0][1]
        if not found or found[0][1] is None:
            return None
        identity = found[0][0]
        pending = self._ask(("XPENDING", self._key, GROUP, identity, identity, 1))[0]
        # Its engine may have ended it in this moment.
        return _message(found[0], int(pending[0][3])) if pending else None

    def renew(self, message: Message, lease: int) -> None:
        """Begin the lease anew."""
        self._ask(("XCLAIM", self._key, GROUP, self._consumer, 0, message.identity, "JUSTID"))

    def delete(self, message: Message) -> None:
        """Take a call off the stream for good."""
        self._ask(("XACK", self._key, GROUP, message.identity), ("XDEL", self._key, message.identity))

    def answer(self, call: dict[str, Any], data: bytes) -> None:
        """Put an answer into the caller's mailbox."""
        mailbox = call["reply"]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._ask(("XADD", mailbox, "*", FIELD, data), ("EXPIRE", mailbox, MAILBOX_LIFE))
            except QueueError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE * attempt)
            else:
                return

    def rest(self, quiet: float, took: float) -> None:
        """Nothing to do between two looks: the server has waited already."""

    def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """What the server answers to each of these."""
        with self._turn:
            try:
                if self._line is None:
                    self._line = _Line(self._place)
                answers = self._line.ask(commands)
            except (OSError, ValueError, Refused) as error:
                if self._line is not None:
                    self._line.close()
                    self._line = None
                reason = str(error) if isinstance(error, Refused) else type(error).__name__
                raise QueueError(f"{commands[0][0]}: {reason}") from None
        return answers


class _Line:
    """A connection whose user has been let in."""

    def __init__(self, place: dict[str, Any]) -> None:
        self._socket = socket.create_connection((place["host"], place["port"]), TIMEOUT)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if place["tls"]:
                import ssl

                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=place["host"])
            self._answers = self._socket.makefile("rb")
            self.ask([("AUTH", place["user"], place["password"]), ("SELECT", place["db"])])
        except BaseException:
            self._socket.close()
            raise

    def ask(self, commands: Any) -> list[Any]:
        """Send commands in one go. Raises Refused for the first that the server did not like."""
        self._socket.sendall(b"".join(map(_written, commands)))
        answers = [_read(self._answers) for _ in commands]
        for answer in answers:
            if isinstance(answer, Refused):
                raise answer
        return answers

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def _written(command: tuple[Any, ...]) -> bytes:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def _read(file: BinaryIO) -> Any:
    """One answer: bytes, a number, a list of answers, None, or what was refused."""
    line = file.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        return Refused(rest.decode("utf-8", "replace"))
    number = int(rest)
    if kind == b":":
        return number
    if number < 0:
        return None
    if kind == b"*":
        return [_read(file) for _ in range(number)]
    data = file.read(number + 2)
    if len(data) < number + 2:
        raise ConnectionResetError
    return data[:-2]


def _message(entry: Any, tries: int) -> Message:
    identity, fields = entry
    known = dict(zip(fields[::2], fields[1::2]))
    return Message(identity.decode(), "", known.get(FIELD.encode(), b""), tries)
