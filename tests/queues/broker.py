"""A small server that speaks the part of Google Cloud Pub/Sub that the queue uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Broker:
    """Gives out what waits until it is acknowledged; keeps what is published. ``refusals``: publishes to fail."""

    waiting: dict[str, bytes] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    pulls: int = 0
    refusals: int = 0

    async def pull(self, _request: Any, _context: Any) -> Any:
        from google.pubsub_v1 import types

        self.pulls += 1
        if not self.waiting:
            await asyncio.sleep(0.05)
        messages = [{"ack_id": key, "message": {"data": data, "message_id": key}} for key, data in self.waiting.items()]
        return types.PullResponse(received_messages=messages)

    async def acknowledge(self, request: Any, _context: Any) -> Any:
        from google.protobuf import empty_pb2

        for key in request.ack_ids:
            self.waiting.pop(key, None)
        return empty_pb2.Empty()

    async def publish(self, request: Any, context: Any) -> Any:
        import grpc
        from google.pubsub_v1 import types

        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not now")
        self.published += [json.loads(message.data) for message in request.messages]
        return types.PublishResponse(message_ids=[str(number) for number in range(len(request.messages))])


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Broker, str]]:
    """A broker and its address."""
    import grpc
    from google.pubsub_v1 import types

    broker = Broker()

    def method(handler: Any, request: Any, answer: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(handler, request.deserialize, answer)

    server = grpc.aio.server()
    subscriber = {
        "Pull": method(broker.pull, types.PullRequest, types.PullResponse.serialize),
        "Acknowledge": method(broker.acknowledge, types.AcknowledgeRequest, lambda one: one.SerializeToString()),
    }
    publisher = {"Publish": method(broker.publish, types.PublishRequest, types.PublishResponse.serialize)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield broker, f"127.0.0.1:{port}"
    await server.stop(None)
