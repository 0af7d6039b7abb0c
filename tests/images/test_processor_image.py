"""The processor's container image, built by `make` and run with the seed's words: required in CI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.fixtures_podman import Images
from tests.fixtures_processor import RedisServer, free_port
from tests.processor.conftest import Inference, until

IMAGE = "batch-processor:dev"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built(images: Images) -> Images:
    images.build("image-build-batch", "redis,gcp")
    return images


@pytest.fixture
def container(built: Images) -> Iterator[str]:
    """The name of the test's container, which is gone after the test."""
    name = "processor"
    yield name
    built.podman("rm", "--force", "--ignore", "--time", "0", name)


async def test_the_seeds_example_is_answered(
    built: Images, container: str, inference: Inference, redis_server: RedisServer
) -> None:
    port = free_port()
    words = ["--message-queue-impl", "redis-pubsub", "--redis.url", redis_server.url, "--endpoint", inference.url]
    names = ["--redis.request-queue-name", "image-in", "--redis.result-queue-name", "image-out"]
    # As little as the chart gives it.
    options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--name", container, "--network", "host", "--env", f"AZBATCHWRAP_PROCESSOR_PORT={port}"]
    started = built.podman("run", "--detach", *options, IMAGE, "run", *words, *names)
    assert started.returncode == 0, started.stderr
    listener = await asyncio.create_subprocess_exec(
        "redis-cli", "-p", str(redis_server.port), "SUBSCRIBE", "image-out", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert listener.stdout is not None
        await listener.stdout.readline()
        await until(lambda: b"image-in\r\n:1" in redis_server.say(b"PUBSUB NUMSUB image-in\r\n"), 60)
        redis_server.say(b'PUBLISH image-in "{\\"id\\":\\"a\\",\\"payload\\":{},\\"deadline\\":\\"9999999999\\"}"\r\n')
        result = b""
        while not result.startswith(b"{"):
            result = await asyncio.wait_for(listener.stdout.readline(), 60)
    finally:
        listener.kill()
        await listener.wait()
    assert json.loads(result) == {"id": "a", "payload": {"echo": {}}}

    assert built.podman("healthcheck", "run", container).returncode == 0
    assert built.podman("exec", container, "id", "-u").stdout == b"10001\n"
    built.podman("stop", "--time", "50", container)
    state = built.podman("inspect", "--format", "{{.State.ExitCode}}", container)
    assert state.stdout == b"0\n", built.podman("logs", container)


def test_a_processor_that_does_not_answer_is_unhealthy(built: Images, container: str) -> None:
    options = ["--name", container, "--network", "none", "--entrypoint", "sleep"]
    assert built.podman("run", "--detach", *options, IMAGE, "1000").returncode == 0
    assert built.podman("healthcheck", "run", container).returncode != 0


def test_nothing_is_left_of_the_build(built: Images) -> None:
    assert built.find(IMAGE, "/data") == "/data\n"
    assert built.find(IMAGE, "/src", "/etc/pip.conf", "/root/.cache", "/opt/azbatchwrap/bin/pip") == ""
