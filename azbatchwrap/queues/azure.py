"""A queue in Azure Storage: messages that hold a claim check in a storage queue, everything else in one container.

    requests/<key>   the request: a line of JSON facts, then its body; gone when it has ended
    results/<key>    the one result, created only if there is none: a line of JSON facts, then the answer
    dead/<key>       a dead letter, in the same form

The storage queue gives leases (visibility time-outs) and fences (pop receipts). It keeps no order by deadline or
priority, counts in whole seconds, and cannot say which messages are in flight: cancelling ends a request at once, and
its worker learns it at the next heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from azbatchwrap.config import StorageAccount
from azbatchwrap.errors import (
    AccessDenied,
    Conflict,
    NotFound,
    ServiceError,
    Throttled,
    Unreachable,
)
from azbatchwrap.names import container_slug
from azbatchwrap.queues.interface import Parse, Policy, Queue, deadline_result
from azbatchwrap.queues.records import (
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

T = TypeVar("T")
S = TypeVar("S")

#: Messages that one call of the service gives at most.
RECEIVE_LIMIT = 32
#: Calls under way at once, for one queue object.
CALLS = 16
#: A message may stay invisible this long at most (seconds); a later due time is met in steps.
LONGEST_DELAY = 7 * 86_400 - 1
#: Seconds that a message is held while its ending is written.
ENDING_TIME = 60
#: Requests are looked through for expired ones this often, for that reads the whole list (seconds).
SWEEP_INTERVAL = 30.0
#: A worker gets this long to write its own, better result of an expired request (seconds).
SWEEP_GRACE = 5.0
#: Results written by several clients may become visible a little out of order (seconds).
LISTING_SKEW = 10.0
#: Lines of history that travel with a message; it may have 64 KiB.
HISTORY_LINES = 20
HISTORY_LINE = 500
#: Seconds for one call.
TIMEOUT = 30


@dataclass(slots=True)
class _Receipt:
    """The message behind a claim: its present receipt, and the facts that travel with it."""

    message: Any
    facts: dict[str, Any]
    key: str
    fingerprint: str
    lease: float = ENDING_TIME


class AzureQueue(Queue):
    """The queue ``name`` in a storage account. ``parse`` reads messages that others put there."""

    def __init__(
        self,
        name: str,
        account: StorageAccount,
        parse: Parse,
        policy: Policy | None = None,
        *,
        sweep_interval: float = SWEEP_INTERVAL,
        sweep_grace: float = SWEEP_GRACE,
    ) -> None:
        self.name = f"azurequeue://{name}"
        self._slug = f"azbw-q-{container_slug(name)}"
        self._account, self._parse, self._policy = account, parse, policy or Policy()
        self._sweep_interval, self._sweep_grace = sweep_interval, sweep_grace
        self._swept_at = -math.inf
        self._held: dict[str, _Receipt] = {}
        self._returned: dict[str, float] = {}
        self._calls = asyncio.Semaphore(CALLS)
        self._clients: contextlib.AsyncExitStack | None = None
        self._queue: Any = None
        self._container: Any = None

    async def open(self) -> None:
        from azure.storage.blob.aio import ContainerClient
        from azure.storage.queue.aio import QueueClient

        stack = contextlib.AsyncExitStack()
        common: dict[str, Any] = {"connection_timeout": TIMEOUT, "read_timeout": TIMEOUT}
        secret = self._account.connection_string
        if secret is not None:
            text = secret.reveal()
            queue = QueueClient.from_connection_string(text, self._slug, **common)
            container = ContainerClient.from_connection_string(text, self._slug, **common)
        else:
            from azure.identity.aio import DefaultAzureCredential

            credential = await stack.enter_async_context(DefaultAzureCredential())
            blob_url = self._account.blob_url or ""
            queue = QueueClient(blob_url.replace(".blob.", ".queue."), self._slug, credential=credential, **common)
            container = ContainerClient(blob_url, self._slug, credential=credential, **common)
        self._queue = await stack.enter_async_context(queue)
        self._container = await stack.enter_async_context(container)
        self._clients = stack
        try:
            for client, create in ((queue, "create_queue"), (container, "create_container")):
                with contextlib.suppress(Conflict), self._translated():
                    await getattr(client, create)()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._clients is not None:
            await self._clients.aclose()
            self._clients = None

    # Putting

    async def put(self, items: Sequence[Item]) -> list[Put]:
        return await self._each(items, self._put)

    async def _put(self, item: Item) -> Put:
        key, fingerprint = _key(item.id), item.fingerprint
        ended = await self._read(f"results/{key}")
        if ended is not None:
            return Put.SAME if ended[0]["fingerprint"] == fingerprint else Put.CONFLICT
        facts = {
            "id": item.id, "fingerprint": fingerprint, "deadline": item.deadline, "priority": item.priority,
            "created": time.time(), "meta": item.meta.decode(),
        }  # fmt: skip
        if await self._create(f"requests/{key}", facts, item.body):
            await self._enqueue(key, item, facts)
            return Put.STORED
        known = await self._read(f"requests/{key}")
        if known is None or known[0]["fingerprint"] != fingerprint:
            return Put.CONFLICT if known is not None else Put.SAME
        # Whoever put it may have died before the message was in the queue.
        if not await self._is_enqueued(key):
            await self._enqueue(key, item, known[0])
        return Put.SAME

    async def _enqueue(self, key: str, item: Item, facts: dict[str, Any]) -> None:
        delay = min(LONGEST_DELAY, max(0, math.ceil(item.due - time.time())))
        text = orjson.dumps({"key": key, "due": item.due, "seen": 0}).decode()
        with self._translated():
            await self._queue.send_message(text, visibility_timeout=delay, time_to_live=-1, timeout=TIMEOUT)
            # Marks the request as queued, and lets a listing tell its deadline without reading it.
            marks = {"queued": "1", "deadline": repr(facts["deadline"]), "created": repr(facts["created"])}
            await self._container.get_blob_client(f"requests/{key}").set_blob_metadata(marks)

    async def _is_enqueued(self, key: str) -> bool:
        with contextlib.suppress(NotFound), self._translated():
            found = await self._container.get_blob_client(f"requests/{key}").get_blob_properties()
            return "queued" in (found.metadata or {})
        return True

    async def refuse(self, refused: Sequence[Refused]) -> None:
        await self._each(refused, self._refuse)

    async def _refuse(self, one: Refused) -> None:
        key, now = _key(one.id), time.time()
        if await self._read(f"requests/{key}") is not None:
            return
        result = Result(one.id, Code.INVALID_REQUEST, error=one.reason, finished=now)
        if await self._store(key, "", result):
            facts = {"id": one.id, "fingerprint": "", "deadline": 0.0, "priority": 0, "created": now, "meta": ""}
            await self._bury_blob(key, facts, one.raw, one.reason, [_line(one.reason)])

    # Claiming

    async def claim(self, limit: int, lease: float) -> list[Claim]:
        with self._translated():
            messages = [
                message
                async for message in self._queue.receive_messages(
                    messages_per_page=min(limit, RECEIVE_LIMIT),
                    visibility_timeout=max(1, math.ceil(lease)),
                    max_messages=min(limit, RECEIVE_LIMIT),
                )
            ]
        claims = await self._each(messages, self._open)
        found = [claim for claim in claims if isinstance(claim, Claim)]
        for claim in found:
            self._held[claim.token].lease = lease
        return found

    async def _open(self, message: Any) -> Claim | Code | None:
        """The claim behind a received message; or how the request has ended; or ``None``: not now."""
        facts = _message_facts(message.content)
        if facts is None:
            await self._take_in(message)
            return None
        found = await self._read(f"requests/{facts['key']}")
        if found is None:
            await self._delete(message)
            return None
        request, body = found
        now = time.time()
        if request["deadline"] <= now:
            await self._end(facts["key"], request, deadline_result(request["id"], facts.get("attempts", 0), now))
            await self._delete(message)
            return Code.DEADLINE_EXCEEDED
        crashes = _crashes(facts, message.dequeue_count)
        if crashes >= self._policy.max_crashes:
            await self._poison(message, facts, request, body, crashes)
            return Code.POISONED
        if facts["due"] > now + 1:
            facts |= {"seen": message.dequeue_count, "crashes": crashes}
            await self._update(message, facts, min(LONGEST_DELAY, math.ceil(facts["due"] - now)))
            return None
        token = f"{message.id} {message.pop_receipt}"
        self._held[token] = _Receipt(message, facts, facts["key"], request["fingerprint"])
        return Claim(
            request["id"], body, request["meta"].encode(), request["deadline"], token, facts.get("attempts", 0),
            facts.get("failures", 0), crashes, request["created"],
        )  # fmt: skip

    async def _take_in(self, message: Any) -> None:
        """A message that somebody else put into the storage queue."""
        content = message.content
        read = self._parse(content.encode() if isinstance(content, str) else bytes(content))
        if isinstance(read, Item):
            await self._put(read)
        else:
            await self._refuse(read)
        await self._delete(message)

    async def _poison(
        self, message: Any, facts: dict[str, Any], request: dict[str, Any], body: bytes, crashes: int
    ) -> None:
        text = f"{crashes} workers died while they handled it"
        history = [*facts.get("history", []), _line(text)]
        await self._bury_blob(facts["key"], request, body, text, history)
        result = Result(request["id"], Code.POISONED, None, facts.get("attempts", 0), text, finished=time.time())
        await self._end(facts["key"], request, result)
        await self._delete(message)

    async def begin(self, claims: Sequence[Claim]) -> list[bool]:
        return await self._each(claims, self._begin)

    async def _begin(self, claim: Claim) -> bool:
        held = self._held.get(claim.token)
        if held is None:
            return False
        held.facts |= {"crashes": claim.crashes, "begun": 1, "seen": held.message.dequeue_count - 1}
        return await self._hold(claim, held.lease)

    async def extend(self, claims: Sequence[Claim], lease: float) -> list[Held]:
        async def one(claim: Claim) -> Held:
            if not await self._hold(claim, lease):
                self._held.pop(claim.token, None)
                return Held.LOST
            ended = await self._read(f"results/{_key(claim.id)}")
            if ended is None:
                return Held.KEPT
            return Held.CANCELLED if ended[0]["code"] == Code.CANCELLED.value else Held.LOST

        return await self._each(claims, one)

    async def _hold(self, claim: Claim, seconds: float) -> bool:
        """Whether the claim's receipt still counts; it does for ``seconds`` from now."""
        held = self._held.get(claim.token)
        return held is not None and await self._update(held.message, held.facts, max(1, math.ceil(seconds)))

    # Ending

    async def complete(self, finished: Sequence[tuple[Claim, Result]]) -> list[bool]:
        return await self._each(finished, lambda pair: self._complete(*pair, bury=False))

    async def bury(self, buried: Sequence[tuple[Claim, Result]]) -> list[bool]:
        return await self._each(buried, lambda pair: self._complete(*pair, bury=True))

    async def _complete(self, claim: Claim, result: Result, *, bury: bool) -> bool:
        if not await self._hold(claim, ENDING_TIME):
            return False
        held = self._held.pop(claim.token)
        if bury and (found := await self._read(f"requests/{held.key}")) is not None:
            history = [*held.facts.get("history", []), _line(result.error)]
            await self._bury_blob(held.key, found[0], found[1], result.error, history)
        stored = await self._store(held.key, held.fingerprint, result)
        await self._remove(f"requests/{held.key}")
        await self._delete(held.message)
        return stored

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        return await self._each(retries, self._retry)

    async def _retry(self, one: Retry) -> bool:
        held = self._held.pop(one.claim.token, None)
        if held is None:
            return False
        facts = held.facts
        facts["history"] = [*facts.get("history", []), _line(one.reason)][-HISTORY_LINES:]
        facts |= {
            "attempts": one.attempts, "failures": one.failures, "crashes": one.claim.crashes, "begun": 0,
            "seen": held.message.dequeue_count, "due": one.due,
        }  # fmt: skip
        delay = min(LONGEST_DELAY, max(0, math.ceil(one.due - time.time())))
        return await self._update(held.message, facts, delay)

    # Clearing up

    async def reap(self) -> Reaped:
        endings = await self._look_through_visible()
        expired = endings.count(Code.DEADLINE_EXCEEDED)
        if time.monotonic() - self._swept_at >= self._sweep_interval:
            expired += await self._sweep()
            self._swept_at = time.monotonic()
        return Reaped(expired, endings.count(Code.OK), endings.count(Code.POISONED))

    async def _look_through_visible(self) -> list[Code]:
        """Handle what dead workers left. ``OK`` stands for a message that may be claimed again."""
        with self._translated():
            seen = await self._queue.peek_messages(max_messages=RECEIVE_LIMIT)
        if not any(_is_left(_message_facts(message.content), message.dequeue_count + 1) for message in seen):
            return []
        claims = []
        with self._translated():
            async for message in self._queue.receive_messages(
                messages_per_page=RECEIVE_LIMIT, visibility_timeout=ENDING_TIME, max_messages=RECEIVE_LIMIT
            ):
                left = _is_left(_message_facts(message.content), message.dequeue_count)
                claims.append((await self._open(message), left))
        endings = [one for one, _ in claims if isinstance(one, Code)]
        for claim, left in claims:
            if isinstance(claim, Claim):
                reason = "its worker's lease ended" if left else "looked at"
                await self._retry(Retry(claim, 0.0, claim.attempts, claim.failures, reason))
                endings += [Code.OK] * left
        return endings

    async def _sweep(self) -> int:
        until = time.time() - self._sweep_grace
        with self._translated():
            late = [
                blob.name.partition("/")[2]
                async for blob in self._container.list_blobs(name_starts_with="requests/", include=["metadata"])
                if float((blob.metadata or {}).get("deadline", "inf")) <= until
            ]
        return sum(await self._each(late, self._expire))

    async def _expire(self, key: str) -> bool:
        found = await self._read(f"requests/{key}")
        if found is None:
            return False
        await self._end(key, found[0], deadline_result(found[0]["id"], 0, time.time()))
        return True

    async def cancel(self, ids: Sequence[str]) -> list[Cancelled]:
        return await self._each(ids, self._cancel)

    async def _cancel(self, id_: str) -> Cancelled:
        key = _key(id_)
        found = await self._read(f"requests/{key}")
        if found is None:
            return Cancelled.UNKNOWN if await self._read(f"results/{key}") is None else Cancelled.FINISHED
        result = Result(id_, Code.CANCELLED, error="cancelled on request", finished=time.time())
        return Cancelled.DONE if await self._end(key, found[0], result) else Cancelled.FINISHED

    # Reading

    async def results(self, cursor: str, limit: int) -> Page:
        """The cursor holds the time of the last result known, and the place in a listing that is not through yet."""
        since, _, marker = cursor.partition(" ")
        known_until = float(since or 0)
        newest = known_until
        while True:
            with self._translated():
                pages = self._container.list_blobs(name_starts_with="results/", results_per_page=limit).by_page(
                    continuation_token=marker or None
                )
                blobs = [blob async for blob in await anext(pages)]
            marker = pages.continuation_token or ""
            new = [blob for blob in blobs if self._is_new(blob, known_until)]
            newest = max([newest, *(blob.last_modified.timestamp() for blob in blobs)])
            if new or not marker:
                break
        found = await self._each([blob.name for blob in new], self._read)
        self._returned.update((blob.name, blob.last_modified.timestamp()) for blob in new)
        place = f"{known_until!r} {marker}" if marker else repr(newest)
        return Page(tuple(_result(one) for one in found if one is not None), place)

    def _is_new(self, blob: Any, known_until: float) -> bool:
        if not known_until:
            return True
        at = blob.last_modified.timestamp()
        return bool(at >= known_until - LISTING_SKEW) and self._returned.get(blob.name) != at

    async def stats(self) -> Stats:
        now = time.time()
        deadlines, created = [], []
        with self._translated():
            async for blob in self._container.list_blobs(name_starts_with="requests/", include=["metadata"]):
                marks = blob.metadata or {}
                deadlines.append(float(marks.get("deadline", "inf")))
                created.append(float(marks.get("created", now)))
        results, dead = [await self._count(prefix) for prefix in ("results/", "dead/")]
        mine = len(self._held)
        age, slack = (now - min(created), min(deadlines) - now) if created else (None, None)
        return Stats(max(0, len(created) - mine), 0, min(mine, len(created)), results, dead, age, slack)

    async def _count(self, prefix: str) -> int:
        with self._translated():
            return sum([1 async for _ in self._container.list_blob_names(name_starts_with=prefix)])

    async def dead_letters(self, ids: Sequence[str] | None = None) -> list[DeadLetter]:
        if ids is None:
            with self._translated():
                names = [name async for name in self._container.list_blob_names(name_starts_with="dead/")]
        else:
            names = [f"dead/{_key(one)}" for one in ids]
        found = await self._each(names, self._read)
        letters = [_dead_letter(*one) for one in found if one is not None]
        return sorted(letters, key=lambda letter: letter.at)

    async def requeue(self, ids: Sequence[str], deadline: float | None = None) -> list[bool]:
        return await self._each(ids, lambda id_: self._requeue(id_, deadline))

    async def _requeue(self, id_: str, deadline: float | None) -> bool:
        key = _key(id_)
        found = await self._read(f"dead/{key}")
        if found is None or not found[0]["fingerprint"]:
            return False
        facts, body = found
        until = facts["deadline"] if deadline is None else deadline
        await self._remove(f"results/{key}")
        await self._put(Item(id_, body, until, facts["priority"], facts["meta"].encode()))
        await self._remove(f"dead/{key}")
        return True

    async def purge(self, ids: Sequence[str]) -> list[bool]:
        return await self._each(ids, lambda id_: self._remove(f"dead/{_key(id_)}"))

    # The service

    async def _end(self, key: str, request: dict[str, Any], result: Result) -> bool:
        stored = await self._store(key, request["fingerprint"], result)
        await self._remove(f"requests/{key}")
        return stored

    async def _store(self, key: str, fingerprint: str, result: Result) -> bool:
        facts = {
            "id": result.id, "fingerprint": fingerprint, "code": result.code.value, "status": result.status,
            "attempts": result.attempts, "error": result.error, "finished": result.finished,
        }  # fmt: skip
        return await self._create(f"results/{key}", facts, result.payload)

    async def _bury_blob(
        self, key: str, request: dict[str, Any], body: bytes, reason: str, history: Sequence[str]
    ) -> None:
        facts = {**request, "reason": reason, "history": list(history), "at": time.time()}
        with self._translated():
            await self._container.upload_blob(f"dead/{key}", orjson.dumps(facts) + b"\n" + body, overwrite=True)

    async def _create(self, name: str, facts: dict[str, Any], content: bytes) -> bool:
        """``False``: there is one of this name already."""
        try:
            with self._translated():
                await self._container.upload_blob(name, orjson.dumps(facts) + b"\n" + content, overwrite=False)
        except Conflict:
            return False
        return True

    async def _read(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        try:
            with self._translated():
                stream = await self._container.download_blob(name)
                head, _, content = (await stream.readall()).partition(b"\n")
        except NotFound:
            return None
        return orjson.loads(head), content

    async def _remove(self, name: str) -> bool:
        try:
            with self._translated():
                await self._container.delete_blob(name)
        except NotFound:
            return False
        return True

    async def _update(self, message: Any, facts: dict[str, Any], seconds: int) -> bool:
        """``False``: the receipt is stale."""
        try:
            with self._translated():
                new = await self._queue.update_message(
                    message.id, message.pop_receipt, content=orjson.dumps(facts).decode(), visibility_timeout=seconds
                )
        except (NotFound, Conflict):
            return False
        message.pop_receipt = new.pop_receipt
        return True

    async def _delete(self, message: Any) -> None:
        # Somebody else may hold it by now; then it finds the request ended, and deletes the message itself.
        with contextlib.suppress(NotFound, Conflict), self._translated():
            await self._queue.delete_message(message.id, message.pop_receipt)

    async def _each(self, things: Iterable[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
        async def one(thing: S) -> T:
            async with self._calls:
                return await work(thing)

        return list(await asyncio.gather(*(one(thing) for thing in things)))

    @contextlib.contextmanager
    def _translated(self) -> Any:
        """The SDK's errors as ours, by class and status."""
        from azure.core import exceptions

        try:
            yield
        except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
            raise Unreachable(f"{self.name} does not answer: {error}") from error
        except exceptions.HttpResponseError as error:
            word = getattr(error, "error_code", "") or ""
            code = str(getattr(word, "value", word))
            kinds = {404: NotFound, 409: Conflict, 412: Conflict, 401: AccessDenied, 403: AccessDenied}
            kind = kinds.get(error.status_code or 0, ServiceError)
            # A queue that exists with the same settings is told with status 204.
            exists = isinstance(error, exceptions.ResourceExistsError)
            if exists or code in {"PopReceiptMismatch", "InvalidQueryParameterValue"}:
                kind = Conflict
            elif error.status_code in {429, 500, 503}:
                kind = Throttled
            raise kind(f"{self.name}: {code or error.reason}", code=code, status=error.status_code) from error


def _key(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()[:40]


def _message_facts(content: object) -> dict[str, Any] | None:
    """What travels with a message of ours; ``None`` for somebody else's."""
    try:
        facts = orjson.loads(content)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        return None
    return facts if isinstance(facts, dict) and {"key", "seen", "due"} <= facts.keys() else None


def _crashes(facts: dict[str, Any], deliveries: int) -> int:
    """Workers that died with it. The first counts even if it only held the message, later ones only if it was sent."""
    before = int(facts.get("crashes", 0))
    if deliveries - 1 <= facts["seen"]:
        return before
    return before + int(facts.get("begun", 0)) if before else 1


def _is_left(facts: dict[str, Any] | None, deliveries: int) -> bool:
    """Whether a visible message was in the hands of a worker that died; ``deliveries`` counts the next one too."""
    return facts is not None and deliveries - 1 > facts["seen"]


def _result(found: tuple[dict[str, Any], bytes]) -> Result:
    facts, payload = found
    return Result(
        facts["id"], Code(facts["code"]), facts["status"], facts["attempts"], facts["error"], payload, facts["finished"]
    )


def _dead_letter(facts: dict[str, Any], body: bytes) -> DeadLetter:
    return DeadLetter(
        facts["id"], facts["reason"], body, facts["meta"].encode(), facts["deadline"], tuple(facts["history"]),
        facts["at"],
    )  # fmt: skip


def _line(text: str) -> str:
    return f"{time.time():.3f} {' '.join(text.split())}"[:HISTORY_LINE]
