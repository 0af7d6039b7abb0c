"""The seed's queues: requests and results on Redis channels, retries in a sorted set.

What arrives on the request channel is stored in Redis before anything else happens to it, and from then on is as safe
as in `RedisQueue`. What is published while no processor listens is lost: that is how Redis channels work. With
several processors each hears every message; the ids tell that it is the same one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import AzBatchWrapError
from azbatchwrap.queues.interface import Parse, Policy
from azbatchwrap.queues.records import Item, Put, Refused
from azbatchwrap.queues.redis import BATCH_LIMIT, RedisQueue, connect, translated

log = logging.getLogger(__name__)

#: The seed's names.
REQUESTS, RETRIES, RESULTS = "batch-queue", "batch-sortedset-retry", "batch-queue-result"
#: How long one look at the channel waits for a message (seconds).
LISTEN_INTERVAL = 0.5
RECONNECT = Backoff(attempts=None, base=0.2, cap=5.0)


class RedisChannelsQueue(RedisQueue):
    """Listens on channel ``requests``, publishes on ``results``; delayed messages are in the sorted set ``retries``."""

    def __init__(
        self,
        url: str,
        parse: Parse,
        *,
        requests: str = REQUESTS,
        retries: str = RETRIES,
        results: str = RESULTS,
        policy: Policy | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(url, requests, policy, password=password, delayed_key=retries, channel=results)
        self._server, self._secret, self._parse, self._requests = url, password, parse, requests
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns when the channel is listened to."""
        await super().open()
        listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listener = asyncio.create_task(self._listen(listening))
        await listening
        log.warning("%s: what is published on %r while no processor listens is lost", self.name, self._requests)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        await super().close()

    async def _listen(self, listening: asyncio.Future[None]) -> None:
        attempt = 0
        while True:
            redis = connect(self._server, self._secret)
            try:
                with translated(self.name):
                    async with redis.pubsub(ignore_subscribe_messages=True) as channel:
                        await channel.subscribe(self._requests)
                        if not listening.done():
                            listening.set_result(None)
                        attempt = 0
                        await self._receive(channel)
            except AzBatchWrapError as error:
                if not listening.done():
                    listening.set_exception(error)
                    return
                attempt += 1
                log.warning("%s: messages may be lost until it answers again: %s", self.name, error)
                await asyncio.sleep(RECONNECT.delay(attempt))
            finally:
                await redis.aclose()

    async def _receive(self, channel: Any) -> None:
        while True:
            heard = await channel.get_message(timeout=LISTEN_INTERVAL)
            batch: list[bytes] = []
            while heard is not None:
                batch.append(heard["data"])
                if len(batch) >= BATCH_LIMIT:
                    break
                heard = await channel.get_message(timeout=0)
            if batch:
                await self._keep([self._parse(raw) for raw in batch])

    async def _keep(self, messages: list[Item | Refused]) -> None:
        """Store what was heard; it exists nowhere else, so this does not give up."""
        items = [one for one in messages if isinstance(one, Item)]
        refused = [one for one in messages if isinstance(one, Refused)]
        attempt = 0
        while items or refused:
            try:
                answers = await self.put(items)
                for item, answer in zip(items, answers, strict=True):
                    if answer is Put.CONFLICT:
                        log.warning("message %s: another body came with an id that is taken; it is dropped", item.id)
                items = []
                await self.refuse(refused)
                refused = []
            except AzBatchWrapError as error:
                attempt += 1
                log.warning("%s: cannot store what was heard: %s", self.name, error)
                await asyncio.sleep(RECONNECT.delay(attempt))
