"""The commands, as processes of their own: the house's form, the seed's form, faults and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.queues.sqlite import SqliteQueue
from tests.fixtures_processor import RedisServer, free_port
from tests.fixtures_stack import LocalStack, run_cli
from tests.processor.conftest import Inference, echo, until

COMMAND = [sys.executable, "-m", "azbatchwrap.cli.main", "processor"]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "AZBATCHWRAP_HOME": str(folder / "home"), "AZBATCHWRAP_AUTOSTART": "0"}


def command(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment(folder),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def run(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command, while the endpoint in this process goes on answering."""
    return await asyncio.to_thread(command, folder, *words, stdin=stdin)


@contextlib.contextmanager
def started(folder: Path, *words: str, largest_file: int = resource.RLIM_INFINITY) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on. ``largest_file``: bytes that a file of it may grow to."""
    with (folder / "run.log").open("a") as log:
        process = subprocess.Popen([*COMMAND, *words], cwd=folder, env=environment(folder), stderr=log, text=True)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def requests(count: int, deadline: object = "9999999999") -> str:
    return "".join(json.dumps({"id": f"r{n}", "deadline": deadline, "payload": {"n": n}}) + "\n" for n in range(count))


async def test_submit_run_collect(tmp_path: Path, inference: Inference) -> None:
    (tmp_path / "in.jsonl").write_text(requests(20))
    submitted = await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "in.jsonl", "--json")
    assert json.loads(submitted.stdout) == {"stored": 20, "same": 0, "conflicts": 0, "invalid": 0}
    ran = await run(
        tmp_path, "run", "--queue", "sqlite:///q.sqlite", "--endpoint", inference.url, "--until-empty",
        "--inferenceObjective", "food-review", "--concurrency", "4", "--request-merge-policy", "random-robin",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for _ in range(2):
        collected = await run(tmp_path, "collect", "--queue", "sqlite:///q.sqlite", "out.jsonl")
        assert collected.returncode == 0, collected.stderr
    found = lines(tmp_path / "out.jsonl")
    assert sorted(one["id"] for one in found) == sorted(f"r{n}" for n in range(20))
    assert all(one["payload"] == {"echo": {"n": int(one["id"][1:])}} for one in found)
    assert inference.headers["r0"][0]["x-gateway-inference-objective"] == "food-review"


async def test_collect_mends_half_a_line_and_answers_what_expired(tmp_path: Path) -> None:
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(3, deadline=5))
    (tmp_path / "out.jsonl").write_text('{"id":"r1","error":"x"}\n{"id":"r2","er')
    collected = await run(tmp_path, "collect", "--queue", "sqlite:///q.sqlite", "out.jsonl")
    assert collected.returncode == 1
    found = lines(tmp_path / "out.jsonl")
    assert sorted(one["id"] for one in found) == ["r0", "r1", "r2"]
    assert {one.get("code") for one in found if one["id"] != "r1"} == {"DEADLINE_EXCEEDED"}


async def test_bad_lines_are_told_and_kept(tmp_path: Path) -> None:
    text = requests(1) + 'no json\n{"id":"x","payload":{},"deadline":"tomorrow"}\n{"id":"r0","payload":{"n":5}}\n\n'
    submitted = await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=text)
    assert submitted.returncode == 1
    assert "line 2" in submitted.stderr
    assert "line 4: the id 'r0' is taken by another body" in submitted.stderr
    listed = json.loads((await run(tmp_path, "dlq", "list", "--queue", "sqlite:///q.sqlite", "--json")).stdout)
    assert {one["body"] for one in listed} == {"no json", '{"id":"x","payload":{},"deadline":"tomorrow"}'}
    stats = json.loads((await run(tmp_path, "stats", "--queue", "sqlite:///q.sqlite", "--json")).stdout)
    assert (stats["ready"], stats["results"], stats["dead"]) == (1, 2, 2)


async def test_cancel_says_what_it_did(tmp_path: Path) -> None:
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(1))
    done = await run(tmp_path, "cancel", "--queue", "sqlite:///q.sqlite", "r0", "nobody", "--json")
    assert json.loads(done.stdout) == {"r0": "cancelled", "nobody": "unknown"}
    assert done.returncode == 1


async def test_the_seeds_example_with_redis_cli(
    tmp_path: Path, inference: Inference, redis_server: RedisServer
) -> None:
    port = str(redis_server.port)
    words = ["--message-queue-impl", "redis-pubsub", "--redis.url", redis_server.url, "--endpoint", inference.url]
    listener = await asyncio.create_subprocess_exec(
        "redis-cli", "-p", port, "SUBSCRIBE", "batch-queue-result", stdout=subprocess.PIPE
    )
    try:
        assert listener.stdout is not None
        await listener.stdout.readline()
        with started(tmp_path, "run", *words) as process:
            await until(lambda: b"batch-queue\r\n:1" in redis_server.say(b"PUBSUB NUMSUB batch-queue\r\n"))
            message = '{"id" : "testmsg", "payload":{ "model":"food-review", "prompt":"hi"}, "deadline" :"9999999999" }'
            published = await asyncio.to_thread(
                subprocess.run, ["redis-cli", "-p", port, "PUBLISH", "batch-queue", message], check=True
            )
            assert published.returncode == 0
            result = b""
            while not result.startswith(b"{"):
                result = await asyncio.wait_for(listener.stdout.readline(), 20)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0
        assert json.loads(result) == {"id": "testmsg", "payload": {"echo": {"model": "food-review", "prompt": "hi"}}}
    finally:
        listener.kill()
        await listener.wait()


async def test_retries_wait_in_the_seeds_sorted_set(
    tmp_path: Path, inference: Inference, redis_server: RedisServer
) -> None:
    async def busy(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=503, headers={"Retry-After": "60"})

    inference.handler = busy
    words = [
        "--message-queue-impl", "redis-pubsub", "--redis.url", redis_server.url, "--endpoint", inference.url,
        "--redis.request-queue-name", "q-in", "--redis.retry-queue-name", "q-retry", "--redis.result-queue-name", "q-out",
    ]  # fmt: skip
    with started(tmp_path, "run", *words):
        await until(lambda: b"q-in\r\n:1" in redis_server.say(b"PUBSUB NUMSUB q-in\r\n"))
        redis_server.say(b'PUBLISH q-in "{\\"id\\":\\"a\\",\\"payload\\":{},\\"deadline\\":9999999999}"\r\n')
        await until(lambda: redis_server.say(b"ZCARD q-retry\r\n") == b":1\r\n")
    assert inference.seen["a"] == 1


async def test_sigterm_drains_and_the_second_one_does_not_wait(tmp_path: Path, inference: Inference) -> None:
    inference.latency = 30.0
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(10))
    with started(tmp_path, "run", "--queue", "sqlite:///q.sqlite", "--endpoint", inference.url) as process:
        await until(lambda: inference.flying == 8)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    async with SqliteQueue(tmp_path / "q.sqlite") as queue:
        claims = await queue.claim(20, 30)
    assert len(claims) == 10
    assert {claim.crashes for claim in claims} == {0}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--queue", "nonsense://x", "--endpoint", "http://h/"], 2, "is not a queue URL"),
        (["--queue", "sqlite:///q", "--endpoint", "ftp://h/"], 2, "is no address"),
        (["--queue", "sqlite:///q", "--endpoint", "http://u:p@h/"], 2, "holds a password"),
        (["--queue", "sqlite:///q", "--endpoint", "http://h/", "--request-merge-policy", "best"], 2, "random-robin"),
        (["--queue", "sqlite:///q", "--endpoint", "http://h/", "--gate", "door:x=1"], 2, "token-bucket"),
        (["--endpoint", "http://h/"], 2, "--queue"),
        (["--queue", "sqlite:///q", "--endpoint", "http://h/", "--concurrency", "none"], 2, "none"),
        (["--queue", "sqlite:///q", "--endpoint", "http://h/", "--tls-ca-cert", __file__], 2, "holds no certificates"),
        (["--queue", "redis://127.0.0.1:{port}/0", "--endpoint", "http://h/"], 3, "does not answer"),
        (["--queue", "unix:///nowhere/redis.sock", "--endpoint", "http://h/"], 3, "does not answer"),
        (
            [
                "--message-queue-impl",
                "redis-pubsub",
                "--redis.url",
                "redis://127.0.0.1:{port}",
                "--endpoint",
                "http://h/",
            ],
            3,
            "does not answer",
        ),
    ],
)
def test_wrong_use_is_told_apart(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = command(tmp_path, "run", *(word.replace("{port}", str(free_port())) for word in words))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_pubsub_without_credentials_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.cloud.pubsub_v1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    done = command(tmp_path, "stats", "--queue", "pubsub://project/subscription")
    assert done.returncode == 3
    assert "none.json was not found" in done.stderr
    assert "Traceback" not in done.stderr


async def test_waiting_commands_show_how_far_they_are(tmp_path: Path, inference: Inference) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    url = ["--queue", "sqlite:///q.sqlite"]
    with started(tmp_path, "run", *url, "--endpoint", inference.url):
        files = ["in.jsonl", "--output", "out.jsonl", "--errors", "errors.jsonl"]
        brought = await run(tmp_path, "batch-file", *url, *files, "--json")
        collected = await run(tmp_path, "collect", *url, "results.jsonl", "--wait")
    assert json.loads(brought.stdout) == {"completed": 1, "failed": 0, "expired": 0}
    assert "answers to in.jsonl: 1/1 lines in " in brought.stderr
    assert "collecting: 1/1 results in " in collected.stderr


async def test_until_empty_shows_what_came_of_the_requests(tmp_path: Path, inference: Inference) -> None:
    async def some(_request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=400 if body.get("n") == 2 else 200)

    inference.handler = some
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(5))
    words = ["--queue", "sqlite:///q.sqlite", "--endpoint", inference.url, "--until-empty"]
    done = await run(tmp_path, "run", *words)
    assert done.stderr.splitlines()[-1].startswith("requests (1 INFERENCE_ERROR, 4 OK): 5 results in ")
    quiet = await run(tmp_path, "run", *words, "--log-json")
    assert (quiet.returncode, quiet.stderr) == (0, "")


async def test_sigkill_loses_nothing_and_doubles_nothing(tmp_path: Path, inference: Inference) -> None:
    """The short form of tests/stress/processor_kill.py."""
    inference.latency = 0.01
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(1500))
    words = ["run", "--queue", "sqlite:///q.sqlite", "--endpoint", inference.url, "--lease", "1", "--until-empty"]
    for _ in range(4):
        with started(tmp_path, *words) as process:
            before = sum(inference.seen.values())
            await until(lambda: sum(inference.seen.values()) > before + 100)  # noqa: B023
            process.kill()
    began = time.monotonic()
    assert (await run(tmp_path, *words)).returncode == 0
    collected = await run(tmp_path, "collect", "--queue", "sqlite:///q.sqlite", "out.jsonl")
    assert collected.returncode == 0, collected.stderr
    found = [one["id"] for one in lines(tmp_path / "out.jsonl")]
    assert sorted(found) == sorted(f"r{n}" for n in range(1500))
    assert time.monotonic() - began < 60
    repeated = sum(number - 1 for number in inference.seen.values())
    assert repeated <= 300


async def test_a_batch_file_goes_through_a_queue_and_goes_on(tmp_path: Path, inference: Inference) -> None:
    lines_in = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": {"n": n}} for n in range(12)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines_in))
    words = [
        "batch-file",
        "--queue",
        "sqlite:///q.sqlite",
        "in.jsonl",
        "--output",
        "out.jsonl",
        "--errors",
        "err.jsonl",
    ]
    first = await run(tmp_path, *words, "--timeout", "0.1")
    assert (first.returncode, "12 of 12 lines" in first.stderr) == (1, True)
    with started(tmp_path, "run", "--queue", "sqlite:///q.sqlite", "--endpoint", inference.url):
        second = await run(tmp_path, *words)
    assert second.returncode == 0, second.stderr
    assert {one["custom_id"]: one["response"]["body"] for one in lines(tmp_path / "out.jsonl")} == {
        f"c{n}": {"echo": {"n": n}} for n in range(12)
    }
    assert max(inference.seen.values()) == 1


async def test_top_shows_a_running_processor(tmp_path: Path, inference: Inference) -> None:
    await run(tmp_path, "submit", "--queue", "sqlite:///q.sqlite", "-", stdin=requests(5))
    port = str(free_port())
    with started(tmp_path, "run", "--queue", "sqlite:///q.sqlite", "--endpoint", inference.url, "--port", port):

        async def done() -> bool:
            seen = await run(tmp_path, "top", f"127.0.0.1:{port}", "--json")
            return seen.returncode == 0 and json.loads(seen.stdout)["results"] == {"OK": 5.0}

        await until(done)
        shown = await run(tmp_path, "top", f"127.0.0.1:{port}")
    assert "result OK" in shown.stdout
    gone = await run(tmp_path, "top", f"127.0.0.1:{port}")
    assert (gone.returncode, "no processor answers" in gone.stderr) == (3, True)


async def test_dead_letters_by_command(tmp_path: Path, inference: Inference) -> None:
    async def never(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": "always"}, status=500)

    inference.handler = never
    url = ["--queue", "sqlite:///q.sqlite"]
    await run(tmp_path, "submit", *url, "-", stdin=requests(2))
    words = ["--endpoint", inference.url, "--until-empty", "--max-failures", "2", "--retry-base", "0.05"]
    await run(tmp_path, "run", *url, *words, "--retry", "fixed", "--log-json")
    shown = json.loads((await run(tmp_path, "dlq", "show", *url, "r1", "--json")).stdout)
    assert shown["body"] == '{"n":1}'
    assert "HTTP 500" in shown["history"][0]
    assert (await run(tmp_path, "dlq", "show", *url, "r0", "--raw")).stdout == '{"n":0}'
    assert (await run(tmp_path, "dlq", "purge", *url, "r0", "--yes")).returncode == 0
    assert (await run(tmp_path, "dlq", "purge", *url, "r1")).returncode == 2
    inference.handler = echo
    assert (await run(tmp_path, "dlq", "requeue", *url, "--all", "--deadline", "60")).returncode == 0
    assert (await run(tmp_path, "run", *url, "--endpoint", inference.url, "--until-empty")).returncode == 0
    await run(tmp_path, "collect", *url, "out.jsonl")
    assert {one["id"]: one.get("code", "OK") for one in lines(tmp_path / "out.jsonl")} == {
        "r0": "INFERENCE_ERROR", "r1": "OK",
    }  # fmt: skip


async def test_a_storage_queue_of_the_instance_on_this_machine(
    tmp_path: Path, inference: Inference, local_stack: LocalStack
) -> None:
    url = ["--queue", "azurequeue://commands"]

    async def step(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            run_cli, "processor", *words, folder=tmp_path, environment=local_stack.environment, stdin=requests(10)
        )

    assert (await step("submit", *url, "-")).returncode == 0
    ran = await step("run", *url, "--endpoint", inference.url, "--until-empty")
    assert ran.returncode == 0, ran.stderr
    collected = await step("collect", *url, "out.jsonl")
    assert collected.returncode == 0, collected.stderr
    assert sorted(one["id"] for one in lines(tmp_path / "out.jsonl")) == sorted(f"r{n}" for n in range(10))
    assert sum(inference.seen.values()) == 10
