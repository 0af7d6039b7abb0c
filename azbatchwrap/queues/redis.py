"""A queue in Redis 7 or later: sorted sets and hashes, every change one Lua script (see the folder lua).

Leases and deadlines go by the server's clock, so workers on many machines agree. What is accepted survives as far as
the server's persistence reaches: with ``appendonly yes`` and ``appendfsync always`` nothing that it has answered for is
lost; with ``everysec``, a second or two of it when the server is killed while the disk is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.errors import AccessDenied, ConfigurationError, ServiceError, Throttled, Unreachable
from azbatchwrap.queues.interface import HISTORY_LENGTH, REAP_LIMIT, Policy, Queue
from azbatchwrap.queues.records import (
    LATEST_DEADLINE,
    Cancelled,
    Claim,
    Code,
    DeadLetter,
    Held,
    Item,
    Page,
    Put,
    Reaped,
    Refused,
    Result,
    Retry,
    Stats,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCRIPTS = Path(__file__).with_name("lua")
#: Scripts for what was accepted already: they may run when the server is at its memory limit, or it would never end.
FREEING = frozenset({"claim", "begin", "extend", "complete", "retry", "reap", "cancel", "stats"})
#: One script holds up the whole server: what one call takes at most.
BATCH_LIMIT = 200
#: Attempts to reconnect before a call fails.
RECONNECTS = 3
#: A server that does not answer within this time is gone (seconds).
TIMEOUT = 10.0


class RedisQueue(Queue):
    """The queue ``queue`` on the server at ``url`` (redis://host:port/db, rediss:// for TLS, unix:///path/of/socket?db=0).

    ``delayed_key`` and ``channel`` give the sorted set of delayed messages another name, and name a channel on which
    results are published as they are stored.
    """

    def __init__(
        self,
        url: str,
        queue: str = "azbatchwrap",
        policy: Policy | None = None,
        *,
        password: str | None = None,
        delayed_key: str | None = None,
        channel: str = "",
    ) -> None:
        self._url = url
        self._password = password
        self._policy = policy or Policy()
        base = f"{{{queue}}}:"
        self._keys = [base, delayed_key or f"{base}delayed", channel]
        self._owner = secrets.token_hex(8)
        self._claims = 0
        self._scripts: dict[str, Any] = {}
        self._redis: Redis | None = None
        self.name = f"{_without_password(url)}?queue={queue}"

    @property
    def redis(self) -> Redis:
        if self._redis is None:
            raise ServiceError(f"the queue {self.name} is closed", code="Closed")
        return self._redis

    async def open(self) -> None:
        redis = connect(self._url, self._password)
        try:
            await self._check_version(redis)
        except BaseException:
            await redis.aclose()
            raise
        prelude = (SCRIPTS / "prelude.lua").read_text()
        for path in SCRIPTS.glob("*.lua"):
            flags = "#!lua flags=allow-oom\n" if path.stem in FREEING else "#!lua\n"
            self._scripts[path.stem] = redis.register_script(flags + prelude + path.read_text())
        self._redis = redis

    async def _check_version(self, redis: Redis) -> None:
        with self._translated():
            facts = await redis.info("server")
        version = str(facts["redis_version"])
        if int(version.partition(".")[0]) < 7:
            raise ConfigurationError(f"{self.name}: Redis {version} is too old, 7 or later is needed")

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None

    async def put(self, items: Sequence[Item]) -> list[Put]:
        rows = [(i.id, i.fingerprint, i.rank, i.due, i.deadline, i.meta, i.body) for i in items]
        return [Put(one.decode()) async for one in self._run("put", rows)]

    async def refuse(self, refused: Sequence[Refused]) -> None:
        async for _ in self._run("refuse", [(one.id, one.raw, one.reason) for one in refused]):
            pass

    async def claim(self, limit: int, lease: float) -> list[Claim]:
        self._claims += 1
        token = f"{self._owner}-{self._claims}"
        rows = await self._script("claim", [min(limit, BATCH_LIMIT), lease, token, REAP_LIMIT, 5 * BATCH_LIMIT])
        return [_claim(id_, fields, token) for id_, fields in rows]

    async def begin(self, claims: Sequence[Claim]) -> list[bool]:
        return [bool(one) async for one in self._run("begin", [(c.id, c.token) for c in claims])]

    async def extend(self, claims: Sequence[Claim], lease: float) -> list[Held]:
        answers = self._run("extend", [(c.id, c.token) for c in claims], lease)
        return [Held(one.decode()) async for one in answers]

    async def complete(self, finished: Sequence[tuple[Claim, Result]]) -> list[bool]:
        return [bool(one) async for one in self._run("complete", _endings(finished), 0)]

    async def bury(self, buried: Sequence[tuple[Claim, Result]]) -> list[bool]:
        return [bool(one) async for one in self._run("complete", _endings(buried), 1)]

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        rows = [(r.claim.id, r.claim.token, r.due, r.attempts, r.failures, " ".join(r.reason.split())) for r in retries]
        return [bool(one) async for one in self._run("retry", rows, HISTORY_LENGTH)]

    async def reap(self) -> Reaped:
        policy = self._policy
        return Reaped(*await self._script("reap", [REAP_LIMIT, policy.max_crashes, policy.retention, HISTORY_LENGTH]))

    async def cancel(self, ids: Sequence[str]) -> list[Cancelled]:
        return [Cancelled(one.decode()) async for one in self._run("cancel", [(one,) for one in ids])]

    async def results(self, cursor: str, limit: int) -> Page:
        with self._translated():
            entries: Any = await self.redis.xrange(
                f"{self._keys[0]}results", f"({cursor}" if cursor else "-", "+", limit
            )
        found = tuple(_result(fields) for _, fields in entries)
        return Page(found, entries[-1][0].decode() if entries else cursor)

    async def stats(self) -> Stats:
        ready, delayed, leased, results, dead, oldest, deadline, now = await self._script("stats", [])
        age = float(now) - float(oldest) if oldest else None
        return Stats(ready, delayed, leased, results, dead, age, float(deadline) - float(now) if deadline else None)

    async def dead_letters(self, ids: Sequence[str] | None = None) -> list[DeadLetter]:
        base = self._keys[0]
        with self._translated():
            if ids is None:
                members: Any = await self.redis.zrange(f"{base}dead", 0, -1)
                ids = [one.decode() for one in members]
            pipeline = self.redis.pipeline(transaction=False)
            for one in ids:
                pipeline.hgetall(f"{base}d:{one}")
            found = await pipeline.execute()
        return [_dead_letter(id_, fields) for id_, fields in zip(ids, found, strict=True) if fields]

    async def requeue(self, ids: Sequence[str], deadline: float | None = None) -> list[bool]:
        head = ["" if deadline is None else deadline, LATEST_DEADLINE]
        return [bool(one) async for one in self._run("requeue", [(one,) for one in ids], *head)]

    async def purge(self, ids: Sequence[str]) -> list[bool]:
        base = self._keys[0]
        with self._translated():
            pipeline = self.redis.pipeline(transaction=True)
            for one in ids:
                pipeline.zrem(f"{base}dead", one)
                pipeline.delete(f"{base}d:{one}")
            return [bool(one) for one in (await pipeline.execute())[::2]]

    async def _run(self, name: str, rows: Sequence[tuple[Any, ...]], *head: Any) -> AsyncIterator[Any]:
        """The script's answers for ``rows``, asked for in batches that do not hold up the server."""
        for start in range(0, len(rows), BATCH_LIMIT):
            flat = [value for row in rows[start : start + BATCH_LIMIT] for value in row]
            answers = await self._script(name, [*head, *flat])
            if isinstance(answers, list):
                for one in answers:
                    yield one

    async def _script(self, name: str, arguments: list[Any]) -> Any:
        with self._translated():
            return await self._scripts[name](keys=self._keys, args=arguments, client=self.redis)

    @contextlib.contextmanager
    def _translated(self) -> Any:
        with translated(self.name):
            yield


def connect(url: str, password: str | None = None) -> Redis:
    """A client for the server. Raises ConfigurationError when the package redis is missing or the URL is none."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import ExponentialBackoff
        from redis.exceptions import ConnectionError as Disconnected
    except ModuleNotFoundError as error:
        raise ConfigurationError("queues in Redis need an extra: pip install 'azbatchwrap[redis]'") from error
    given: dict[str, Any] = {"password": password} if password else {}
    # A connection that lay idle may be dead. Every script may run twice: the second time it changes nothing, or what
    # it claimed comes back when the lease ends.
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), RECONNECTS)
    try:
        client = Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=retry, retry_on_error=[Disconnected],
            **given,
        )  # fmt: skip
        pool = client.connection_pool
        pool.connection_class = _fast(pool.connection_class)
        return client
    except ValueError as error:
        raise ConfigurationError(f"{_without_password(url)!r} is not a Redis URL: {error}") from error


def _fast(kind: type[Any]) -> type[Any]:
    """A connection that packs commands in C: our scripts take hundreds of arguments at once."""
    try:
        from hiredis import pack_command
    except ModuleNotFoundError:  # slower, and as good
        return kind

    class PackedInC(kind):  # type: ignore[misc]
        def pack_command(self, *args: Any) -> list[bytes]:
            packed: list[bytes] = [pack_command(args)] if args[0] == "EVALSHA" else super().pack_command(*args)
            return packed

    return PackedInC


@contextlib.contextmanager
def translated(name: str) -> Any:
    """Redis's errors as ours: by class, and a server's refusals by their first word, which is their code."""
    from redis import exceptions

    try:
        yield
    except exceptions.AuthenticationError as error:
        raise AccessDenied(f"{name} refused the password", code="NOAUTH") from error
    except (exceptions.OutOfMemoryError, exceptions.BusyLoadingError, exceptions.ReadOnlyError) as error:
        raise Throttled(f"{name}: {error}", code=type(error).__name__) from error
    except exceptions.ResponseError as error:
        code = str(error).split(" ", 1)[0]
        kind = Throttled if code in {"OOM", "LOADING", "BUSY", "MISCONF", "READONLY"} else ServiceError
        raise kind(f"{name}: {error}", code=code) from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError, asyncio.TimeoutError) as error:
        raise Unreachable(f"{name} does not answer: {error}") from error


def _claim(id_: bytes, fields: list[bytes], token: str) -> Claim:
    body, meta, deadline, attempts, failures, crashes, created = fields
    return Claim(
        id_.decode(), body, meta, float(deadline), token, int(attempts), int(failures), int(crashes), float(created)
    )


def _endings(finished: Sequence[tuple[Claim, Result]]) -> list[tuple[Any, ...]]:
    return [
        (c.id, c.token, r.code.value, "" if r.status is None else r.status, r.attempts, r.error, r.payload)
        for c, r in finished
    ]


def _result(fields: dict[bytes, bytes]) -> Result:
    return Result(
        id=fields[b"id"].decode(),
        code=Code(fields[b"code"].decode()),
        status=int(fields[b"status"]) if fields[b"status"] else None,
        attempts=int(fields[b"attempts"]),
        error=fields[b"error"].decode(errors="replace"),
        payload=fields[b"payload"],
        finished=float(fields[b"finished"]),
    )


def _dead_letter(id_: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=id_,
        reason=fields[b"reason"].decode(errors="replace"),
        body=fields[b"body"],
        meta=fields[b"meta"],
        deadline=float(fields[b"deadline"]),
        history=tuple(fields.get(b"history", b"").decode(errors="replace").splitlines()),
        at=float(fields[b"at"]),
    )


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
