"""Sound as it arrives: the header of a WAV stream, its channels, and utterances cut at silences."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Loudness is looked at in frames this long, and an utterance ends after this much silence (seconds).
FRAME, PAUSE = 0.02, 0.7
#: An utterance is cut here at the latest, as the service does (seconds).
LONGEST = 30.0
#: Below this amplitude (of 32,768) a frame is silence.
QUIET = 300
#: Formats in a WAV header that hold plain PCM: 1, and "extensible" whose samples we take for the same.
PCM_TAGS = frozenset({1, 0xFFFE})


class NotSound(ValueError):
    """The bytes are no sound that we read: says why."""


@dataclass(frozen=True, slots=True)
class WaveFormat:
    """16-bit PCM. ``rate`` is samples per second and channel."""

    channels: int
    rate: int

    @property
    def bytes_per_second(self) -> int:
        return 2 * self.channels * self.rate


#: What a client sends that gives no header.
PLAIN = WaveFormat(channels=1, rate=16_000)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of mono PCM between two silences. ``offset`` and ``duration`` are seconds in the stream."""

    samples: bytes
    rate: int
    offset: float
    duration: float


def read_header(data: bytes) -> tuple[WaveFormat, int] | None:
    """The format of a WAV stream and where its samples begin; ``None`` when more bytes are needed to tell.

    The length fields are not believed: a client that streams writes zeros there. Raises NotSound.
    """
    if len(data) < 12:
        return None
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise NotSound("this is not a RIFF/WAVE stream")
    found: WaveFormat | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"data":
            if found is None:
                raise NotSound("the WAVE stream does not say its format before its samples")
            return found, at + 8
        if name == b"fmt ":
            if at + 24 > len(data):
                return None
            found = _format(data, at + 8)
        at += 8 + size + size % 2
    return None


def _format(data: bytes, at: int) -> WaveFormat:
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if tag not in PCM_TAGS or bits != 16 or not channels or not rate:
        raise NotSound(f"the stand-in reads 16-bit PCM, not WAVE format {tag} with {bits} bits and {channels} channels")
    return WaveFormat(channels, rate)


def channel(samples: bytes, form: WaveFormat, number: int) -> bytes:
    """One channel's samples."""
    if form.channels == 1:
        return samples
    whole = array("h", samples[: len(samples) - len(samples) % (2 * form.channels)])
    return whole[number :: form.channels].tobytes()


def loudest(samples: bytes) -> int:
    """The largest amplitude."""
    values = array("h", samples)
    return max(map(abs, (max(values), min(values)))) if values else 0


@dataclass(slots=True)
class Segmenter:
    """Cuts a stream of mono PCM into utterances as it comes in."""

    rate: int
    _buffer: bytearray = field(default_factory=bytearray)
    #: Bytes of the stream before the buffer, and how much of the buffer was looked at.
    _passed: int = 0
    _seen: int = 0
    _silence: int = 0
    _speaking: bool = False

    def feed(self, samples: bytes) -> Iterator[Utterance]:
        """The utterances that end within ``samples``."""
        self._buffer += samples
        frame = 2 * round(self.rate * FRAME)
        while self._seen + frame <= len(self._buffer):
            quiet = loudest(bytes(self._buffer[self._seen : self._seen + frame])) < QUIET
            self._seen += frame
            if not quiet:
                self._speaking, self._silence = True, 0
                if self._seen >= LONGEST * self.rate * 2:
                    yield self._cut(self._seen)
            else:
                self._silence += frame
                if self._speaking and self._silence >= PAUSE * self.rate * 2:
                    yield self._cut(self._seen - self._silence)
                elif not self._speaking and self._silence >= 2 * PAUSE * self.rate * 2:
                    self._drop(self._seen - frame)

    def finish(self) -> Iterator[Utterance]:
        """What was being said when the stream ended."""
        rest = len(self._buffer) // 2 * 2
        if self._speaking or loudest(bytes(self._buffer[self._seen : rest])) >= QUIET:
            yield self._cut(rest)

    @property
    def heard(self) -> float:
        """Seconds of the stream so far."""
        return (self._passed + len(self._buffer)) / 2 / self.rate

    def _cut(self, end: int) -> Utterance:
        samples = bytes(self._buffer[:end])
        found = Utterance(samples, self.rate, self._passed / 2 / self.rate, len(samples) / 2 / self.rate)
        self._drop(end)
        return found

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._passed += count
        self._seen = max(0, self._seen - count)
        self._silence = 0
        self._speaking = False
