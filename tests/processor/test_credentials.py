"""Where tokens come from, and that nothing shows them; the log as JSON lines; spans."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import stat
from pathlib import Path

import pytest

from azbatchwrap.endpoints.limits import LimitPolicy
from azbatchwrap.errors import AccessDenied, ConfigurationError
from azbatchwrap.processor.credentials import TokenCommand, TokenFile
from azbatchwrap.processor.logs import JsonLines
from azbatchwrap.processor.message import Meta
from azbatchwrap.processor.sending import joined, new_endpoint, request_headers


async def test_a_token_file_is_read_again_when_its_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    tokens = TokenFile(path)
    first = await tokens.header(fresh=False)
    path.write_text("ApiKey two")
    assert first is not None
    assert (first.reveal(), repr(first)) == ("Bearer one", "Secret('***')")
    assert await tokens.header(fresh=False) == first
    fresh = await tokens.header(fresh=True)
    assert fresh is not None
    assert fresh.reveal() == "ApiKey two"


async def test_a_file_without_a_token_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="token file"):
        await TokenFile(tmp_path / "missing").header(fresh=False)
    (tmp_path / "empty").touch()
    with pytest.raises(AccessDenied, match="holds no token"):
        await TokenFile(tmp_path / "empty").header(fresh=False)


async def test_many_refusals_run_a_token_command_once(tmp_path: Path) -> None:
    script = tmp_path / "token.sh"
    script.write_text(f"#!/bin/sh\necho x >> {tmp_path}/runs\nwc -l < {tmp_path}/runs\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    tokens = TokenCommand(str(script))
    await tokens.header(fresh=False)
    fresh = await asyncio.gather(*(tokens.header(fresh=True) for _ in range(10)))
    assert {one.reveal() for one in fresh if one is not None} == {"Bearer 2"}


async def test_a_failing_token_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="exit code 1"):
        await TokenCommand("false").header(fresh=False)


def test_a_log_line_is_json_with_the_messages_id() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("azbatchwrap.test")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.warning("message %s: the claim is lost", "a\nb")
    logger.info("%d things", 3)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["id"], first["level"], first["message"]) == ("a\nb", "warning", "message a\nb: the claim is lost")
    assert "id" not in second


@pytest.mark.parametrize(
    ("endpoint", "path", "address"),
    [
        ("http://h", "/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1/completions", "/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1", "/v1/embeddings", "http://h/v1/embeddings"),
        ("https://gw:8443/team/llm/", "/v1/completions", "https://gw:8443/team/llm/v1/completions"),
        ("https://gw/team/v1/completions?x=1", "/v1/completions", "https://gw/team/v1/completions"),
    ],
)
def test_a_message_s_path_is_put_below_the_gateways(endpoint: str, path: str, address: str) -> None:
    assert joined(endpoint, path) == address
    own = new_endpoint(endpoint, LimitPolicy()).address("")
    _, target, _, _, host = own.head.split()
    assert f"{'https' if own.tls else 'http'}://{host}{target}" in {endpoint, endpoint + "/"}


def test_headers_keep_a_message_in_its_own_trace() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = request_headers("a", 2, Meta(headers={"traceparent": parent}), {})
    assert headers["traceparent"].split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert headers["traceparent"] != parent
    assert len(request_headers("é" * 500, 1, Meta(), {})["x-request-id"]) < 100
