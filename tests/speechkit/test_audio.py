"""What a sound file is, by its content."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.errors import InvalidAudioFormatError
from azbatchwrap.speechkit.audio import Samples, mono, probe, readable, seconds_of, wave_bytes
from tests.fixtures_speech import tone, write_wave
from tests.real_parts import program
from tests.speechkit import sounds


def test_a_wave_file_says_how_long_it_is(tmp_path: Path) -> None:
    sound = probe(write_wave(tmp_path / "a.wav", tone(1.5, 8000), rate=8000))
    assert (sound.kind, sound.seconds, sound.channels, sound.rate) == ("wav", 1.5, 1, 8000)


@pytest.mark.parametrize("make", [sounds.mp3, sounds.flac, sounds.ogg])
def test_compressed_files_say_how_long_they_are(tmp_path: Path, make: object) -> None:
    kind = make.__name__
    assert callable(make)
    sound = probe(make(tmp_path / f"a.{kind}", 3.0))
    assert (sound.kind, sound.rate) == (kind, sounds.RATE)
    assert sound.seconds == pytest.approx(3.0, abs=0.05)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    assert probe(sounds.flac(tmp_path / "mislabelled.wav", 2.0)).kind == "flac"
    assert probe(write_wave(tmp_path / "mislabelled.mp3", tone(1))).kind == "wav"


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 10_000_000], ids=["zero", "unknown", "too long"])
def test_a_wave_file_is_as_long_as_it_is(tmp_path: Path, length: int) -> None:
    whole = bytearray(write_wave(tmp_path / "a.wav", tone(1)).read_bytes())
    struct.pack_into("<I", whole, 40, length)
    (tmp_path / "a.wav").write_bytes(whole)
    assert probe(tmp_path / "a.wav").seconds == 1.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"not a sound" * 50, "no format we know"),
        (b"RIFF\x24\0\0\0WAVE", "without samples"),
        (b"RIFF\x24\0\0\0WAVEdata\x04\0\0\0abcd", "does not say its format"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\x04\0\0\0abcd", "zeros"),
        (b"fLaC" + bytes(40), "begins as flac"),
        (b"OggS" + bytes(60), "begins as ogg"),
        (b"ID3" + bytes(60), "begins as mp3"),
    ],
    ids=["empty", "text", "cut", "no format", "zeros", "flac", "ogg", "mp3"],
)
def test_what_is_no_sound_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(InvalidAudioFormatError, match=said):
        probe(path)
    assert seconds_of(path) is None


def test_a_length_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidAudioFormatError, match="bytes cannot hold"):
        probe(sounds.flac(tmp_path / "a.flac", 50_000.0))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_sound_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    for prefix in (b"", b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3\x03\0"):
        path.write_bytes(prefix + content)
        found = seconds_of(path)
        assert found is None or found >= 0.0


def test_samples_begin_and_end_where_asked(tmp_path: Path) -> None:
    stereo = struct.pack("<8h", 1, -1, 2, -2, 3, -3, 4, -4)
    sound = probe(write_wave(tmp_path / "a.wav", stereo, channels=2, rate=2))
    reader = Samples(sound, 1, start=0.5, end=1.5)
    assert reader.read(2) + reader.read(100) == struct.pack("<2h", -2, -3)
    assert reader.read(100) == b""
    reader.close()


@pytest.mark.parametrize(("tag", "codes", "samples"), [
    (7, b"\xff\x7f\x80\x00\xe7", (0, 0, 32124, -32124, 260)),  # mu-law
    (6, b"\xd5\x55\xaa\x2a\xc5", (8, -8, 32256, -32256, 264)),  # A-law
])  # fmt: skip
def test_telephone_sound_is_decoded(tmp_path: Path, tag: int, codes: bytes, samples: tuple[int, ...]) -> None:
    form = struct.pack("<HHIIHH", tag, 1, 8000, 8000, 1, 8)
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(codes))
    (tmp_path / "a.wav").write_bytes(head + codes)
    sound = probe(tmp_path / "a.wav")
    assert sound.seconds == len(codes) / 8000
    reader = Samples(sound, None)
    assert struct.unpack("<5h", reader.read(100)) == samples
    reader.close()


def test_channels_are_mixed_to_their_mean() -> None:
    assert mono(struct.pack("<4h", 100, 300, -32768, -32768), 2, None) == struct.pack("<2h", 200, -32768)


def test_wave_bytes_are_a_wave_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wave_bytes(tone(0.25), 16_000))
    assert probe(tmp_path / "a.wav").seconds == 0.25


def test_without_ffmpeg_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = probe(sounds.mp3(tmp_path / "a.mp3", 1.0))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidAudioFormatError, match="api: fast"), readable(sound):
        pass


def test_ffmpeg_makes_compressed_sound_readable(tmp_path: Path) -> None:
    program("ffmpeg")
    scratch = tmp_path / "not" / "there"
    with readable(probe(sounds.mp3(tmp_path / "a.mp3", 2.0)), scratch) as made:
        assert made.wave is not None
        assert made.wave.is_readable
        assert made.seconds == pytest.approx(2.0, abs=0.1)
    assert not made.path.exists()
