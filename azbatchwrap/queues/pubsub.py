"""Requests from a Google Cloud Pub/Sub subscription, results to a topic, with a SQLite file between.

A message is acknowledged when it is on this machine's disk, and from then on everything is as in `SqliteQueue`:
deadlines, retries, one result per id. Results wait in the file until the topic has taken them. A lost disk loses what
was acknowledged: keep the journal on a volume that outlives the machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import AccessDenied, ConfigurationError
from azbatchwrap.queues.interface import Parse, Policy
from azbatchwrap.queues.records import Code, Item, Page, Put, Refused, Result
from azbatchwrap.queues.sqlite import SqliteQueue

log = logging.getLogger(__name__)

#: Messages pulled, or results published, in one call.
BATCH = 100
#: How long one pull waits for messages, and how long publishing may take (seconds).
PULL_TIMEOUT, PUBLISH_TIMEOUT = 10.0, 30.0
#: Between looks for new results (seconds).
LOOK_INTERVAL = 0.25
BACKOFF = Backoff(attempts=None, base=0.5, cap=30.0)


class PubSubQueue(SqliteQueue):
    """``subscription`` of ``project``; without ``results_topic`` the results stay in the journal for `collect`."""

    def __init__(
        self,
        project: str,
        subscription: str,
        *,
        results_topic: str | None,
        journal: Path,
        parse: Parse,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(journal.expanduser().absolute(), policy)
        if not project or not subscription:
            raise ConfigurationError("a Pub/Sub queue is pubsub://PROJECT/SUBSCRIPTION?results=TOPIC&journal=PATH")
        self.name = f"pubsub://{project}/{subscription}"
        self._source = f"projects/{project}/subscriptions/{subscription}"
        self._topic = f"projects/{project}/topics/{results_topic}" if results_topic else None
        self._parse = parse
        self._loops: list[asyncio.Task[None]] = []
        self._publishing: asyncio.Task[None] | None = None
        self._published = self.path.with_name(self.path.name + ".published")

    async def open(self) -> None:
        try:
            from google.cloud import pubsub_v1  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ModuleNotFoundError as error:
            raise ConfigurationError("Pub/Sub queues need an extra: pip install 'azbatchwrap[gcp]'") from error
        subscriber = await self._signed_in(pubsub_v1.SubscriberClient)
        publisher = await self._signed_in(pubsub_v1.PublisherClient) if self._topic is not None else None
        await super().open()
        self._loops = [asyncio.create_task(self._forever(lambda: self._pull(subscriber)))]
        if publisher is not None:
            self._loops.append(asyncio.create_task(self._forever(lambda: self._publish(publisher))))

    async def _signed_in(self, make: Callable[[], Any]) -> Any:
        from google.auth.exceptions import GoogleAuthError

        try:
            return await asyncio.to_thread(make)
        except GoogleAuthError as error:
            raise AccessDenied(f"{self.name}: {error}") from error

    async def close(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []
        if self._publishing is not None:
            await asyncio.gather(self._publishing, return_exceptions=True)
        await super().close()

    async def _forever(self, step: Callable[[], Any]) -> None:
        attempt = 0
        while True:
            try:
                await step()
                attempt = 0
            except Exception as error:  # noqa: BLE001  whatever the service or the disk says, it is tried again
                attempt += 1
                log.warning("%s: %s: %s", self.name, type(error).__name__, error)
                await asyncio.sleep(BACKOFF.delay(attempt))

    async def _pull(self, subscriber: Any) -> None:
        from google.api_core.exceptions import DeadlineExceeded

        try:
            pulled = await asyncio.to_thread(
                subscriber.pull,
                request={"subscription": self._source, "max_messages": BATCH},
                timeout=PULL_TIMEOUT,
                retry=None,
            )
        except DeadlineExceeded:  # nothing was there
            return
        received = list(pulled.received_messages)
        if not received:
            return
        read = [self._parse(one.message.data) for one in received]
        items = [one for one in read if isinstance(one, Item)]
        for item, answer in zip(items, await self.put(items), strict=True):
            if answer is Put.CONFLICT:
                log.warning("message %s: another body came with an id that is taken; it is dropped", item.id)
        await self.refuse([one for one in read if isinstance(one, Refused)])
        ids = [one.ack_id for one in received]
        await asyncio.to_thread(
            subscriber.acknowledge, request={"subscription": self._source, "ack_ids": ids}, timeout=PULL_TIMEOUT
        )

    async def _publish(self, publisher: Any) -> None:
        cursor = self._published.read_text().strip() if self._published.exists() else ""
        page = await self.results(cursor, BATCH)
        if not page.results:
            await asyncio.sleep(LOOK_INTERVAL)
            return
        # To be finished even when this queue is closed meanwhile: what is published and not noted is published again.
        self._publishing = asyncio.create_task(self._publish_page(publisher, page))
        await asyncio.shield(self._publishing)

    async def _publish_page(self, publisher: Any, page: Page) -> None:
        waiting = [publisher.publish(self._topic, announcement(one), id=one.id[:1024]) for one in page.results]
        for one in waiting:
            await asyncio.to_thread(one.result, PUBLISH_TIMEOUT)
        # Only now: a crash before publishes some of them twice, never not at all.
        beside = self._published.with_name(self._published.name + ".new")
        beside.write_text(page.cursor)
        beside.replace(self._published)


def announcement(result: Result) -> bytes:
    """The seed's result message."""
    if result.code is Code.OK:
        return orjson.dumps({"id": result.id, "payload": orjson.Fragment(result.payload)})
    return orjson.dumps({"id": result.id, "error": f"{result.code.value}: {result.error}"})
