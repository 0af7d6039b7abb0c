"""Mail to warm engines through Redis: a stream for each lane, which its engines share, and one for each mailbox.

The server's own user and password never leave this process. Engines of a lane get in as a user of the lane's, made
here, that may use the few commands they need on the lane's keys alone. The server is told the hash of its password; the
engines read the password into memory from a blob, by a signature for that blob.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from azbatchwrap import names
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.queues.redis import translated
from azbatchwrap.storage import AzureBatchStorage

from .mail import Letter, Mail

#: As in the engine: the group that all engines of a stream belong to, and the field that holds a call or answer.
GROUP, FIELD = "engines", "json"
#: All that a lane's engines may do, on its keys.
ENGINE_COMMANDS = "select xreadgroup xautoclaim xpending xclaim xack xdel xadd expire"
#: The lanes on a server with the times after which nobody needs them (a sorted set).
REGISTER = "azbw:lanes"
#: Milliseconds that the server waits for an answer before it says that there is none.
WAIT = 200
MOST_LETTERS = 32
#: Seconds after which a server that says nothing is gone.
TIMEOUT = 10.0


class RedisMail(Mail):
    """Through the server at a URL (redis:// or rediss://), whose user may make others (``ACL SETUSER``, Redis 6.2)."""

    def __init__(self, url: Secret, storage: AzureBatchStorage) -> None:
        super().__init__()
        try:
            import redis
        except ImportError as error:
            raise ConfigurationError("calls through Redis need its client: pip install 'azbatchwrap[redis]'") from error
        self.orders = {"redis": True}
        self._storage = storage
        self._url = urlsplit(url.reveal())
        self._redis: Any = redis.Redis.from_url(
            url.reveal(), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, protocol=2
        )
        self._name = f"Redis at {self._url.hostname}"
        self._password = secrets.token_urlsafe(32)
        self._lanes: dict[str, datetime] = {}
        #: For each lane's mailbox: the last letter that was read.
        self._read: dict[str, str] = {}
        self._run = ""

    def open(self, lane: str, expiry: datetime) -> None:
        with translated(self._name):
            if not self._lanes:
                self._run = self._run_id()
                self._remove_expired()
            self._make(lane, expiry)
        self._lanes[lane] = expiry
        self._read.setdefault(self.reply(lane), "0")

    def _make(self, lane: str, expiry: datetime) -> None:
        until = int(expiry.timestamp())
        self._make_user(lane)
        self._redis.zadd(REGISTER, {lane: until})
        self._make_stream(lane)
        self._redis.expireat(_calls(lane), until)

    def _make_user(self, lane: str) -> None:
        import redis

        digest = hashlib.sha256(self._password.encode()).hexdigest()
        allowed = [f"+{command}" for command in ENGINE_COMMANDS.split()]
        words = ("on", f"#{digest}", "resetkeys", f"~{_prefix(lane)}*", "resetchannels", "-@all", *allowed)
        try:
            self._redis.execute_command("ACL", "SETUSER", _user(lane), *words)
        except redis.ResponseError as error:
            raise ConfigurationError(
                f"{self._name} does not let us make a user for the engines (ACL SETUSER: {error}), "
                "and nodes never get its own password: take a server that does, or leave REDIS_URL away"
            ) from error

    def _make_stream(self, lane: str) -> None:
        import redis

        try:
            self._redis.xgroup_create(_calls(lane), GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there already
                raise

    def engines_address(self, lane: str, facts: JobFacts) -> str:
        storage, blob = self._storage, f"{names.args_prefix(facts.job_id)}redis-{self.client}.json"
        place = {
            "host": self._url.hostname,
            "port": self._url.port or 6379,
            "tls": self._url.scheme == "rediss",
            "db": int(unquote(self._url.path).strip("/") or 0),
            "user": _user(lane),
            "password": self._password,
            "calls": _calls(lane),
        }
        storage.write_bytes(storage.files_container, blob, orjson.dumps(place))
        return storage.blob_sas(storage.files_container, blob, "r", facts.sas_expiry)

    def reply(self, lane: str) -> str:
        return f"{_prefix(lane)}mail:{self.client}"

    def put(self, lane: str, data: bytes) -> None:
        with translated(self._name):
            self._redis.xadd(_calls(lane), {FIELD: data})

    def get(self) -> list[Letter]:
        with translated(self._name):
            found = self._redis.xread(dict(self._read), count=MOST_LETTERS, block=WAIT)
        letters = []
        for mailbox, entries in found:
            place = mailbox.decode()
            letters += [Letter(fields[FIELD.encode()], (place, number.decode())) for number, fields in entries]
            self._read[place] = entries[-1][0].decode()
        return letters

    def remove(self, letter: Letter) -> None:
        with translated(self._name):
            self._redis.xdel(*letter.receipt)

    def mend(self) -> bool:
        """After the server's restart: users are gone, and whatever it had not written down."""
        with translated(self._name):
            run = self._run_id()
            if run == self._run:
                return False
            for lane, expiry in self._lanes.items():
                self._make(lane, expiry)
        self._run, self._read = run, dict.fromkeys(self._read, "0")
        return True

    def close(self, *, leave_lanes: bool) -> None:
        try:
            with translated(self._name):
                for mailbox in self._read:
                    self._redis.delete(mailbox)
                for lane in () if leave_lanes else self._lanes:
                    self._remove(lane)
        finally:
            self._redis.close()

    def _remove_expired(self) -> None:
        """What clients that died, and lanes that many shared, have left on the server."""
        for lane in self._redis.zrangebyscore(REGISTER, 0, int(time.time())):
            self._remove(lane.decode())

    def _remove(self, lane: str) -> None:
        self._redis.execute_command("ACL", "DELUSER", _user(lane))
        self._redis.delete(_calls(lane))
        self._redis.zrem(REGISTER, lane)

    def _run_id(self) -> str:
        return str(self._redis.info("server")["run_id"])


def _prefix(lane: str) -> str:
    return f"azbw:{lane}:"


def _calls(lane: str) -> str:
    return f"{_prefix(lane)}calls"


def _user(lane: str) -> str:
    return f"azbw-{lane}"
