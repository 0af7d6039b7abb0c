"""Cutting sound into utterances, and reading headers that streams carry."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azbatchwrap.local.speech.sound import NotSound, Segmenter, Utterance, WaveFormat, channel, read_header
from tests.fixtures_speech import silence, tone

RATE = 8000


def header(*, tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, extra: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * 2 * channels, 2 * channels, bits)
    return b"RIFF\0\0\0\0WAVE" + extra + b"fmt " + struct.pack("<I", 16) + form + b"data\0\0\0\0"


def cut(sound: bytes, sizes: Sequence[int]) -> list[Utterance]:
    """The utterances of ``sound`` when it comes in pieces of these sizes, over and over."""
    segmenter = Segmenter(RATE)
    found, at, turn = [], 0, 0
    while at < len(sound):
        size = 2 * sizes[turn % len(sizes)]
        found += segmenter.feed(sound[at : at + size])
        at, turn = at + size, turn + 1
    return found + list(segmenter.finish())


def test_utterances_end_at_silences() -> None:
    sound = tone(1, RATE) + silence(1, RATE) + tone(0.5, RATE) + silence(3, RATE) + tone(0.5, RATE)
    found = cut(sound, [1600])
    assert [round(utterance.offset + utterance.duration, 1) for utterance in found] == [1.0, 2.5, 6.0]
    assert all(a.offset + a.duration <= b.offset for a, b in itertools.pairwise(found))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_it_does_not_matter_how_the_sound_comes_in(sizes: list[int]) -> None:
    sound = tone(0.7, RATE) + silence(1.2, RATE) + tone(0.9, RATE) + silence(2, RATE)
    assert cut(sound, sizes) == cut(sound, [len(sound)])


def test_silence_holds_no_utterance() -> None:
    assert cut(silence(5, RATE), [700]) == []


def test_long_speech_is_cut_after_thirty_seconds() -> None:
    found = cut(tone(65, RATE), [8000])
    assert [round(utterance.duration) for utterance in found] == [30, 30, 5]


def test_headers_of_streams_say_nothing_about_length() -> None:
    assert read_header(header(channels=2, rate=44_100)) == (WaveFormat(2, 44_100), 44)
    assert read_header(header(extra=b"LIST" + struct.pack("<I", 4) + b"abcd")) == (WaveFormat(1, RATE), 56)


@pytest.mark.parametrize("length", range(0, 44, 4))
def test_half_a_header_needs_more(length: int) -> None:
    assert read_header(header()[:length]) is None


@pytest.mark.parametrize(
    "data", [b"x" * 44, header(tag=7, bits=8), header(channels=0), b"RIFF\0\0\0\0WAVEdata\0\0\0\0"],
    ids=["noise", "mu-law", "no channels", "no format"],
)  # fmt: skip
def test_what_is_no_sound_is_named(data: bytes) -> None:
    with pytest.raises(NotSound):
        read_header(data)


def test_channels_are_told_apart() -> None:
    left_right = struct.pack("<6h", 1, -1, 2, -2, 3, -3)
    assert channel(left_right, WaveFormat(2, RATE), 0) == struct.pack("<3h", 1, 2, 3)
    assert channel(left_right, WaveFormat(2, RATE), 1) == struct.pack("<3h", -1, -2, -3)
