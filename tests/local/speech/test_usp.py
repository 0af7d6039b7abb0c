"""The framing of the Speech SDK's messages."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.local.speech.usp import Message, MessageError, format_text, parse_binary, parse_text

HEADER_VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1)


@given(HEADER_VALUE, HEADER_VALUE, st.binary())
def test_binary_messages_carry_headers_and_sound(path: str, request_id: str, body: bytes) -> None:
    head = f"Path: {path}\r\nX-RequestId:{request_id}\r\n".encode()
    message = parse_binary(struct.pack(">H", len(head)) + head + body)
    assert message == Message(path.lower(), request_id, body)


@given(HEADER_VALUE, HEADER_VALUE, st.dictionaries(st.text(), st.integers() | st.text() | st.none(), min_size=1))
def test_what_is_formatted_can_be_parsed(path: str, request_id: str, body: dict[str, object]) -> None:
    message = parse_text(format_text(path, request_id, body))
    assert (message.path, message.request_id, message.json()) == (path.lower(), request_id, body)


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x01\x00Path:audio", b"\x00\x00"], ids=["none", "half", "cut", "bare"]
)
def test_binary_messages_that_are_none_are_named(data: bytes) -> None:
    with pytest.raises(MessageError):
        parse_binary(data)


def test_a_body_that_is_no_object_is_an_empty_one() -> None:
    assert parse_text("Path:speech.context\r\n\r\n[1]").json() == {}
    assert parse_text("Path:speech.context\r\n\r\nnonsense").json() == {}
