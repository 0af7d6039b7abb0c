"""Sound files: what they are (by content, not by name), how long they last, and their samples."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from azbatchwrap.errors import InvalidAudioFormatError

log = logging.getLogger(__name__)

#: Files with these endings are taken from an input folder (the public kit's list, and what the REST APIs also read).
SUFFIXES = frozenset(
    {".wav", ".mp3", ".flac", ".ogg", ".opus", ".alaw", ".mulaw", ".gsm", ".m4a", ".mp4", ".aac", ".wma", ".webm"}
)
PCM, A_LAW, MU_LAW, EXTENSIBLE = 1, 6, 7, 0xFFFE
#: Length fields that a program writes which does not know the length when it begins.
UNKNOWN_LENGTHS = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36})
#: No sound is compressed to less than this, not even silence (bits per second): the header of such a file is broken.
LOWEST_BIT_RATE = 200.0
#: How long ffmpeg may take: it is some hundred times faster than the sound (seconds).
CONVERSION_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class Wave:
    """The inside of a WAVE file: ``tag`` is its format, ``start`` and ``size`` (bytes) say where the samples are."""

    tag: int
    bits: int
    block: int
    start: int
    size: int

    @property
    def is_readable(self) -> bool:
        """Whether we make samples of it ourselves: 16-bit PCM, and the telephone's A-law and mu-law."""
        return (self.tag, self.bits) in {(PCM, 16), (A_LAW, 8), (MU_LAW, 8)}


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound file. ``seconds``: its length; ``rate``: samples per second; ``wave`` only for WAVE files."""

    path: Path
    kind: str
    seconds: float
    channels: int
    rate: int
    wave: Wave | None = None


def probe(path: Path) -> Sound:
    """What the file is. Raises InvalidAudioFormatError, or OSError when it cannot be read."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidAudioFormatError(f"{path} is no file, but a pipe or a device")
        head = file.read(64)
        size = file.seek(0, 2)
        if not head:
            raise InvalidAudioFormatError(f"{path} is empty")
        is_wave = head[:4] == b"RIFF" and head[8:12] == b"WAVE"
        sound = _wave(path, file) if is_wave else _other(path, head)
    if sound.seconds > 8 * size / LOWEST_BIT_RATE:
        raise InvalidAudioFormatError(
            f"{path} says that it lasts {sound.seconds:.0f} s, which {size} bytes cannot hold"
        )
    return sound


def _open_at_once(name: str, flags: int) -> int:
    """A pipe without a writer would be waited for."""
    return os.open(name, flags | os.O_NONBLOCK)


def seconds_of(path: Path) -> float | None:
    """The length of a sound file; ``None`` when it cannot be told."""
    try:
        return probe(path).seconds
    except (InvalidAudioFormatError, OSError):
        return None


def _wave(path: Path, file: IO[bytes]) -> Sound:
    size = file.seek(0, 2)
    at, form = 12, b""
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            form = file.read(min(length, 40))
        elif name == b"data":
            return _described(path, form, at + 8, length, size)
        at += 8 + length + length % 2
    raise InvalidAudioFormatError(f"{path} is a WAVE file without samples")


def _described(path: Path, form: bytes, start: int, length: int, size: int) -> Sound:
    if len(form) < 16:
        raise InvalidAudioFormatError(f"{path} is a WAVE file that does not say its format")
    tag, channels, rate, per_second, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack_from("<H", form, 24)[0]
    if not channels or not rate or not per_second or not block:
        raise InvalidAudioFormatError(f"{path} is a WAVE file with a format of zeros")
    there = max(0, size - start)
    if length > there and length not in UNKNOWN_LENGTHS:
        log.warning("%s is cut off: %d of its %d bytes of sound are there", path, there, length)
    samples = there if length in UNKNOWN_LENGTHS or length > there else length
    samples -= samples % block
    wave = Wave(tag, bits, block, start, samples)
    return Sound(path, "wav", samples / (rate * block if wave.is_readable else per_second), channels, rate, wave)


def _other(path: Path, head: bytes) -> Sound:
    try:
        from tinytag import TinyTag, TinyTagException
    except ImportError as error:
        raise InvalidAudioFormatError(
            f"{path} is no WAVE file; other formats need tinytag: pip install 'azbatchwrap[speech]'"
        ) from error
    kind = _kind(head)
    if kind is None:
        raise InvalidAudioFormatError(f"{path} is in no format we know (WAVE, MP3, FLAC, Ogg, MP4, WMA)")
    try:
        with path.open("rb") as file:
            # The name decides how tinytag reads, so it gets one that suits the content.
            read = TinyTag.get(filename=f"sound.{kind}", file_obj=file, tags=False)
    except (TinyTagException, ValueError, IndexError, EOFError, struct.error) as error:
        raise InvalidAudioFormatError(f"{path} begins as {kind}, but cannot be read: {error}") from error
    if not read.duration or not read.samplerate:
        raise InvalidAudioFormatError(f"{path} begins as {kind}, but holds no sound")
    return Sound(path, kind, float(read.duration), int(read.channels or 1), int(read.samplerate))


def _kind(head: bytes) -> str | None:
    if head[:4] == b"OggS":
        return "opus" if head[28:36] == b"OpusHead" else "ogg"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:3] == b"ID3" or (head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0 and head[1] & 0x06):
        return "mp3"
    if head[4:8] == b"ftyp":
        return "m4a"
    if head[:16] == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"):
        return "wma"
    return None


def is_readable(sound: Sound) -> bool:
    """Whether `Samples` reads it."""
    return sound.wave is not None and sound.wave.is_readable


@contextmanager
def readable(sound: Sound, scratch: Path | None = None) -> Iterator[Sound]:
    """``sound`` as `Samples` reads it: itself where it can, else converted by ffmpeg for as long as is needed.

    Raises InvalidAudioFormatError when there is no ffmpeg, or it cannot read the file.
    """
    if is_readable(sound):
        yield sound
        return
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="speech-", dir=scratch) as folder:
        made = Path(folder) / "converted.wav"
        _convert(sound, made)
        yield probe(made)


def _convert(sound: Sound, made: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise InvalidAudioFormatError(
            f"{sound.path} is {_described_as(sound)}, and there is no ffmpeg to make it 16-bit PCM. "
            f"Install ffmpeg, or give the endpoint 'api: fast'"
        )
    command = [program, "-nostdin", "-v", "error", "-i", str(sound.path), "-vn", "-ar", "16000", "-c:a", "pcm_s16le"]
    done = subprocess.run([*command, str(made)], capture_output=True, timeout=CONVERSION_TIMEOUT, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise InvalidAudioFormatError(f"{sound.path} cannot be converted: ffmpeg says: {said}")


def _described_as(sound: Sound) -> str:
    return sound.kind if sound.wave is None else f"WAVE in format {sound.wave.tag} with {sound.wave.bits} bits"


class Samples:
    """16-bit samples of one channel (or all mixed, ``channel`` None) from ``start`` to ``end`` seconds."""

    def __init__(self, sound: Sound, channel: int | None, start: float = 0.0, end: float | None = None) -> None:
        assert sound.wave is not None
        assert sound.wave.is_readable
        self._sound = sound
        self._table = {A_LAW: _a_law_table, MU_LAW: _mu_law_table}.get(sound.wave.tag, lambda: None)()
        self._channel = channel
        self._block = sound.wave.block
        first = min(int(start * sound.rate) * self._block, sound.wave.size)
        last = sound.wave.size if end is None else min(int(end * sound.rate) * self._block, sound.wave.size)
        self._left = max(0, last - first)
        self._file = sound.path.open("rb")
        self._file.seek(sound.wave.start + first)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes of mono samples; none at the end."""
        frames = max(1, size // 2)
        data = self._file.read(min(frames * self._block, self._left))
        data = data[: len(data) // self._block * self._block]
        self._left -= len(data)
        if self._table is not None:
            data = array("h", map(self._table.__getitem__, data)).tobytes()
        return mono(data, self._sound.channels, self._channel) if data else b""

    def close(self) -> None:
        self._file.close()


@cache
def _mu_law_table() -> Sequence[int]:
    """ITU-T G.711, as 16-bit samples."""

    def value(code: int) -> int:
        code ^= 0xFF
        size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
        return -size if code & 0x80 else size

    return [value(code) for code in range(256)]


@cache
def _a_law_table() -> Sequence[int]:
    """ITU-T G.711, as 16-bit samples."""

    def value(code: int) -> int:
        code ^= 0x55
        exponent, size = code >> 4 & 7, (code & 0x0F) << 4
        size = size + 8 if exponent == 0 else size + 0x108 << exponent - 1
        return size if code & 0x80 else -size

    return [value(code) for code in range(256)]


def mono(data: bytes, channels: int, channel: int | None) -> bytes:
    """One channel of interleaved 16-bit samples, or the mean of all (``channel`` None)."""
    if channels == 1:
        return data
    values = array("h", data)
    if channel is not None:
        return values[channel::channels].tobytes()
    parts = [values[number::channels] for number in range(channels)]
    return array("h", [sum(frame) // channels for frame in zip(*parts, strict=True)]).tobytes()


def wave_bytes(samples: bytes, rate: int) -> bytes:
    """A WAVE file of 16-bit mono samples."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, PCM, 1, rate, 2 * rate,
                       2, 16, b"data", len(samples))  # fmt: skip
    return head + samples
