"""The `openai` client, unchanged, against /v1/files and /v1/batches."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from azbatchwrap.config import Secret
from azbatchwrap.processor.server import ServeOptions, serving
from tests.processor.conftest import Bench, Inference, until

CHAT = "/v1/chat/completions"


def batch_lines(*bodies: dict[str, Any], url: str = CHAT) -> bytes:
    lines = [
        {"custom_id": f"request-{number}", "method": "POST", "url": url, "body": body}
        for number, body in enumerate(bodies)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@contextlib.asynccontextmanager
async def client(bench: Bench, key: str | None = None, **given: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    options = ServeOptions("127.0.0.1", 0, bench.path / "openai", None if key is None else Secret(key))
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(bench.running(**given))
        address = await stack.enter_async_context(serving(worker, options))
        yield await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="sk-test", max_retries=0)
        )


async def ended(opened: openai.AsyncOpenAI, batch_id: str) -> Any:
    async def ask() -> Any:
        batch = await opened.batches.retrieve(batch_id)
        return batch if batch.status in {"completed", "failed", "cancelled", "expired"} else None

    return await until(ask)


async def upload(opened: openai.AsyncOpenAI, content: bytes) -> str:
    file = await opened.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    return file.id


async def lines_of(opened: openai.AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    text = (await opened.files.content(file_id)).text
    return {line["custom_id"]: line for line in map(json.loads, text.splitlines())}


async def test_upload_create_poll_download(bench: Bench) -> None:
    async def some_fail(request: web.Request, body: dict[str, Any]) -> web.Response:
        if body["n"] == 2:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        return web.json_response({"object": "chat.completion", "n": body["n"]})

    bench.inference.handler = some_fail
    async with client(bench) as opened:
        file_id = await upload(opened, batch_lines(*({"n": n} for n in range(5))))
        assert (await opened.files.retrieve(file_id)).purpose == "batch"
        batch = await opened.batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata={"who": "me"}
        )
        batch = await ended(opened, batch.id)
        assert (batch.status, batch.metadata) == ("completed", {"who": "me"})
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 4, "failed": 1}
        good, bad = await lines_of(opened, batch.output_file_id), await lines_of(opened, batch.error_file_id)
        assert [one.id async for one in opened.batches.list()] == [batch.id]
        assert file_id in [one.id async for one in await opened.files.list()]
        await opened.files.delete(file_id)
        with pytest.raises(openai.NotFoundError):
            await opened.files.retrieve(file_id)
    assert sorted(good) == ["request-0", "request-1", "request-3", "request-4"]
    assert good["request-3"]["response"]["status_code"] == 200
    assert good["request-3"]["response"]["body"]["n"] == 3
    assert bad["request-2"]["response"]["status_code"] == 404
    assert bad["request-2"]["response"]["body"] == {"error": {"message": "no such model"}}
    assert set(bench.inference.paths) == {CHAT}


async def test_requests_that_run_out_of_time_expire(bench: Bench) -> None:
    async def hang(_request: web.Request, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(60 if body["n"] else 0)
        return web.json_response({})

    bench.inference.handler = hang
    async with client(bench) as opened:
        file_id = await upload(opened, batch_lines({"n": 0}, {"n": 1}))
        window: Any = "2s"
        batch = await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window=window)
        batch = await ended(opened, batch.id)
        bad = await lines_of(opened, batch.error_file_id)
        good = await lines_of(opened, batch.output_file_id)
    assert batch.status == "expired"
    assert (list(good), bad["request-1"]["error"]["code"]) == (["request-0"], "batch_expired")


async def test_cancelling_a_batch_reaches_requests_in_flight(bench: Bench) -> None:
    async def hang(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(60)
        return web.json_response({})

    bench.inference.handler = hang
    async with client(bench, lease=1.0, concurrency=2) as opened:
        file_id = await upload(opened, batch_lines(*({"n": n} for n in range(6))))
        batch = await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        await until(lambda: bench.inference.flying == 2)
        assert (await opened.batches.cancel(batch.id)).status == "cancelling"
        batch = await ended(opened, batch.id)
    assert batch.status == "cancelled"
    assert batch.request_counts.model_dump() == {"total": 6, "completed": 0, "failed": 6}


async def test_a_batch_goes_on_after_a_restart(bench: Bench) -> None:
    bench.inference.latency = 0.05
    async with client(bench, concurrency=2) as opened:
        file_id = await upload(opened, batch_lines(*({"n": n} for n in range(30))))
        batch = await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        await until(lambda: len(bench.inference.seen) > 5)
    async with client(bench, concurrency=16) as opened:
        batch = await ended(opened, batch.id)
        good = await lines_of(opened, batch.output_file_id)
        text = (await opened.files.content(str(batch.output_file_id))).text
    assert batch.request_counts.model_dump() == {"total": 30, "completed": 30, "failed": 0}
    assert len(good) == len(text.splitlines()) == 30
    assert max(bench.inference.seen.values()) == 1


async def test_a_faulty_file_fails_with_its_lines(bench: Bench) -> None:
    content = batch_lines({}, {}) + batch_lines({}) + b"nonsense\n" + batch_lines({}, url="/v1/embeddings")
    async with client(bench) as opened:
        file_id = await upload(opened, content)
        batch = await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        batch = await ended(opened, batch.id)
        with pytest.raises(openai.BadRequestError, match="completion window"):
            await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="soon")  # type: ignore[arg-type]
    assert batch.status == "failed"
    said = [fault.message or "" for fault in batch.errors.data]
    assert any("line 3: the custom_id 'request-0' is there twice" in one for one in said)
    assert any(one.startswith("line 4: it is no JSON") for one in said)
    assert any(one.startswith("line 5: its url is not") for one in said)


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/completions", "/v1/responses"])
async def test_any_endpoint_of_the_api(bench: Bench, endpoint: Any) -> None:
    async with client(bench, endpoints=[f"http://127.0.0.1:{bench.inference.port}"]) as opened:
        file_id = await upload(opened, batch_lines({"input": "hi"}, url=endpoint))
        batch = await opened.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")
        batch = await ended(opened, batch.id)
        good = await lines_of(opened, batch.output_file_id)
    assert batch.endpoint == endpoint
    assert good["request-0"]["response"]["body"] == {"echo": {"input": "hi"}}
    assert bench.inference.paths == [endpoint]


async def test_an_input_may_be_deleted_at_once(bench: Bench) -> None:
    async with client(bench) as opened:
        file_id = await upload(opened, batch_lines(*({"n": n} for n in range(3))))
        batch = await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        await opened.files.delete(file_id)
        batch = await ended(opened, batch.id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    assert list((bench.path / "openai" / "batches").glob("*.input")) == []


async def test_lists_come_in_pages_and_by_purpose(bench: Bench) -> None:
    async with client(bench) as opened:
        file_id = await upload(opened, batch_lines({}))
        made = [
            (await opened.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")).id
            for _ in range(5)
        ]
        first = await opened.batches.list(limit=2)
        assert (len(first.data), first.has_more) == (2, True)
        assert sorted([one.id async for one in opened.batches.list(limit=2)]) == sorted(made)
        assert [one.id async for one in await opened.files.list(purpose="batch")] == [file_id]


@pytest.mark.parametrize(
    "metadata", [{"k": "v" * 513}, {"k" * 65: "v"}, {str(n): "v" for n in range(17)}, {"k": 1}, "m"]
)
async def test_metadata_has_limits(bench: Bench, metadata: Any) -> None:
    async with client(bench) as opened:
        file_id = await upload(opened, batch_lines({}))
        with pytest.raises(openai.BadRequestError, match="metadata"):
            await opened.batches.create(
                input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata=metadata
            )


async def test_a_key_can_be_asked_for(bench: Bench) -> None:
    async with client(bench, key="sk-other") as opened:
        with pytest.raises(openai.AuthenticationError):
            await opened.files.list()


async def test_pages_of_the_server(bench: Bench, inference: Inference, tmp_path: Path) -> None:
    from aiohttp import ClientSession
    from prometheus_client.parser import text_string_to_metric_families

    from azbatchwrap.queues.sqlite import SqliteQueue
    from tests.processor.conftest import request

    async with SqliteQueue(tmp_path / "queue.sqlite") as queue:
        await queue.put([request("r1"), request("r2", seconds=-1)])
    async with (
        bench.running() as worker,
        serving(worker, ServeOptions("127.0.0.1", 0)) as address,
        ClientSession() as http,
    ):
        await until(lambda: worker.metrics.results.values["OK"])
        await until(lambda: worker.ready)
        for page in ("healthz", "readyz"):
            async with http.get(f"{address}/{page}") as answer:
                assert answer.status == 200
        async with http.get(f"{address}/metrics") as answer:
            families = {one.name: one for one in text_string_to_metric_families(await answer.text())}
        worker.stop()
        async with http.get(f"{address}/readyz") as answer:
            assert answer.status == 503
    [sample] = families["azbatchwrap_processor_results"].samples
    assert (sample.labels, sample.value) == ({"code": "OK"}, 1.0)
    buckets = families["azbatchwrap_processor_request_seconds"].samples
    assert [one.value for one in buckets if one.name.endswith("_count")] == [1.0]
    assert "azbatchwrap_processor_limit" in families
