"""Spans of OpenTelemetry's own SDK, kept in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.processor.message import Meta
from azbatchwrap.queues import Item
from azbatchwrap.queues.sqlite import SqliteQueue
from tests.processor.conftest import Bench, request

pytest.importorskip("opentelemetry.sdk")

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    # The real way to set it up holds for the rest of the process.
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    return kept


async def busy_at_first(req: web.Request, _body: dict[str, Any]) -> web.Response:
    return web.json_response({}, status=503 if req.headers["x-attempt-number"] == "1" else 200)


async def test_each_attempt_is_a_span_of_the_messages_trace(queue: SqliteQueue, bench: Bench, exporter: Any) -> None:
    bench.inference.handler = busy_at_first
    meta = Meta(headers={"traceparent": PARENT, "tracestate": "vendor=1"}).encoded()
    await queue.put([Item("r1", b"{}", time.time() + 60, 0, meta)])
    await bench.answer_all()
    first, second = exporter.get_finished_spans()
    assert {(one.name, one.kind.name) for one in (first, second)} == {("inference request", "CLIENT")}
    assert dict(first.attributes) == {
        "messaging.message.id": "r1", "url.full": bench.inference.url, "azbatchwrap.attempt": 1,
        "http.response.status_code": 503, "error.type": "503",
    }  # fmt: skip
    assert (first.status.status_code.name, second.status.status_code.name) == ("ERROR", "UNSET")
    assert second.attributes["http.response.status_code"] == 200
    for span, sent in zip((first, second), bench.inference.headers["r1"], strict=True):
        assert sent["traceparent"] == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
        assert sent["tracestate"] == "vendor=1"
        assert f"{span.parent.trace_id:032x}" == PARENT.split("-")[1]


async def test_attempts_of_a_message_without_a_trace_share_one(queue: SqliteQueue, bench: Bench, exporter: Any) -> None:
    bench.inference.handler = busy_at_first
    await queue.put([request("r1"), request("r2")])
    await bench.answer_all()
    spans = exporter.get_finished_spans()
    traces = {(span.attributes["messaging.message.id"], span.context.trace_id) for span in spans}
    assert (len(spans), len(traces), len({trace for _, trace in traces})) == (4, 2, 2)


async def test_a_message_that_is_not_sampled_stays_so(queue: SqliteQueue, bench: Bench) -> None:
    meta = Meta(headers={"traceparent": PARENT.removesuffix("01") + "00"}).encoded()
    await queue.put([Item("r1", b"{}", time.time() + 60, 0, meta), request("r2")])
    await queue.put([Item("r3", b"{}", time.time() + 60, 0, Meta(headers={"traceparent": "no trace"}).encoded())])
    await bench.answer_all()
    sent = {id_: headers[0]["traceparent"].split("-") for id_, headers in bench.inference.headers.items()}
    assert (sent["r1"][1], sent["r1"][3]) == (PARENT.split("-")[1], "00")
    assert sent["r1"][2] != PARENT.split("-")[2]
    assert [len(part) for part in sent["r2"]] == [len(part) for part in sent["r3"]] == [2, 32, 16, 2]
