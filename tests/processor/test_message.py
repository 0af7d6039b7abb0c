"""Request lines: every known form, and every way to be none of them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.processor.message import DEFAULT_LIFE, Meta, Reader, result_line
from azbatchwrap.queues import Code, Item, Refused, Result

READER = Reader(clock=lambda: 1_000.0)


def read(facts: object) -> Item:
    item = READER(json.dumps(facts).encode())
    assert isinstance(item, Item), item
    return item


def refused(raw: bytes) -> Refused:
    one = READER(raw)
    assert isinstance(one, Refused), one
    return one


def test_the_seeds_message() -> None:
    item = read({
        "id": "19933123533434", "deadline": "1764045130",
        "payload": {"model": "food-review", "prompt": "hi", "max_tokens": 10, "temperature": 0},
    })  # fmt: skip
    assert (item.id, item.deadline, item.meta) == ("19933123533434", 1764045130.0, b"")
    assert json.loads(item.body) == {"model": "food-review", "prompt": "hi", "max_tokens": 10, "temperature": 0}


def test_the_newer_envelope() -> None:
    item = read({
        "internal": {"retry_count": 2}, "request_kind": "redis",
        "data": {
            "id": "a", "created": 5, "deadline": 1764045130, "payload": {"x": 1}, "metadata": {"userid": "u1"},
            "headers": {"X-Trace": "7", "Authorization": "Bearer secret"}, "endpoint": "/v1/completions",
        },
    })  # fmt: skip
    assert (item.id, item.deadline, item.body) == ("a", 1764045130.0, b'{"x":1}')
    assert Meta.decoded(item.meta) == Meta("/v1/completions", {"x-trace": "7"}, "u1")
    assert b"secret" not in item.meta


def test_an_openai_batch_line() -> None:
    item = read({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}})
    assert (item.id, item.body, item.deadline) == ("r1", b'{"model":"m"}', 1_000.0 + DEFAULT_LIFE)
    assert Meta.decoded(item.meta).path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("deadline", "seconds"), [("17", 17.0), (17, 17.0), (17.5, 17.5), (" 17 ", 17.0), (1e300, 1e300)]
)
def test_deadlines_come_as_text_or_number(deadline: object, seconds: float) -> None:
    assert read({"id": "a", "payload": {}, "deadline": deadline}).deadline == seconds


@pytest.mark.parametrize("deadline", ["", "soon", "nan", "inf", -1, 0, True, [], {}, "1e999"])
def test_other_deadlines_are_refused(deadline: object) -> None:
    one = refused(json.dumps({"id": "a", "payload": {}, "deadline": deadline}).encode())
    assert one.id == "a"
    assert "deadline" in one.reason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"id": "a"}, "no payload"),
        ({"payload": {}}, "no id"),
        ({"id": "", "payload": {}}, "no id"),
        ({"id": ["x"], "payload": {}}, "is no text"),
        ({"id": "x" * 513, "payload": {}}, "513 characters"),
        ({"id": "a", "payload": "text"}, "no object"),
        ({"id": "a", "payload": {}, "endpoint": "http://elsewhere/"}, "no path"),
        ({"id": "a", "payload": {}, "endpoint": "//elsewhere/"}, "no path"),
        ({"id": "a", "payload": {}, "headers": {"a b": "c"}}, "header"),
        ({"id": "a", "payload": {}, "headers": {"a": "b\r\nc: d"}}, "header"),
        ({"id": "a", "payload": {}, "priority": "high"}, "priority"),
        ({"custom_id": "a", "method": "GET", "url": "/v1/x", "body": {}}, "only POST"),
        ({"custom_id": "a", "method": "POST", "body": {}}, "no url"),
        ([], "no JSON object"),
    ],
)
def test_what_is_wrong_is_said(facts: object, reason: str) -> None:
    assert reason in refused(json.dumps(facts).encode()).reason


def test_a_message_may_be_too_large() -> None:
    reader = Reader(size_limit=100)
    one = reader(b'{"id":"a","payload":{"x":"' + b"x" * 100 + b'"}}')
    assert isinstance(one, Refused)
    assert "100 are allowed" in one.reason


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused_under_a_steady_id(raw: bytes) -> None:
    first, second = READER(raw), READER(raw)
    assert first == second
    if isinstance(first, Refused):
        assert first.raw == raw


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = ["id", "deadline", "payload", "custom_id", "url", "body", "headers", "data", "internal", "metadata", "priority"]


@given(st.dictionaries(st.sampled_from(_KEYS), _json))
def test_any_object_is_a_request_or_refused(facts: dict[str, Any]) -> None:
    one = READER(orjson.dumps(facts))
    assert isinstance(one, Item | Refused)
    assert 0 < len(one.id) <= 512


@given(st.dictionaries(st.text(max_size=8), _json, max_size=4))
def test_payloads_go_through_unchanged(payload: dict[str, Any]) -> None:
    assert orjson.loads(read_raw({"id": "a", "payload": payload}).body) == payload


def read_raw(facts: object) -> Item:
    item = READER(orjson.dumps(facts))
    assert isinstance(item, Item)
    return item


def test_a_result_is_one_line() -> None:
    pretty = b'{\n  "text": "line\\nbreak"\n}'
    line = result_line(Result("a\n", Code.OK, 200, 2, payload=pretty))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"id": "a\n", "payload": {"text": "line\nbreak"}, "status": 200, "attempts": 2}
    bad = json.loads(result_line(Result("b", Code.POISONED, None, 0, "boom")))
    assert bad == {"id": "b", "error": "boom", "code": "POISONED", "status": None, "attempts": 0}
