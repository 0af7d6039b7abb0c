"""The Pub/Sub queue with Google's own client, against a small server that speaks the part of the protocol it uses."""

from __future__ import annotations

import json
import time
from pathlib import Path

from azbatchwrap.queues import Code, Result
from azbatchwrap.queues.pubsub import PubSubQueue
from tests.queues.broker import Broker
from tests.queues.conftest import eventually, parse


async def test_messages_come_from_the_subscription_and_results_go_to_the_topic(broker: Broker, tmp_path: Path) -> None:
    deadline = time.time() + 60
    broker.waiting = {
        "1": json.dumps({"id": "a", "body": "{}", "deadline": deadline}).encode(),
        "2": json.dumps({"id": "a", "body": "{}", "deadline": deadline}).encode(),  # delivered twice
        "3": b"\xffnonsense",
    }
    broker.refusals = 1
    queue = PubSubQueue("project", "requests", results_topic="answers", journal=tmp_path / "journal", parse=parse)
    async with queue:
        [claim] = await eventually(lambda: queue.claim(10, 30))  # type: ignore[misc]
        assert claim.id == "a"
        ok = Result("a", Code.OK, 200, 1, payload=b'{"x": 1}', finished=time.time())
        assert await queue.complete([(claim, ok)]) == [True]

        async def both() -> bool:
            return len(broker.published) == 2 and not broker.waiting

        await eventually(both)
    answers = {one["id"]: one for one in broker.published}
    assert answers.pop("a") == {"id": "a", "payload": {"x": 1}}
    [refused] = answers.values()
    assert refused["error"].startswith("INVALID_REQUEST")


async def test_a_restart_publishes_nothing_again(broker: Broker, tmp_path: Path) -> None:
    broker.waiting = {"1": b"nonsense"}
    for _ in range(2):
        queue = PubSubQueue("project", "requests", results_topic="answers", journal=tmp_path / "journal", parse=parse)
        async with queue:
            pulls = broker.pulls

            async def settled(pulls: int = pulls) -> bool:
                return len(broker.published) == 1 and broker.pulls > pulls + 3

            await eventually(settled)
    assert len(broker.published) == 1
