"""Compressed sound files, as far as their headers say how long they last: made by hand, since no encoder is needed."""

from __future__ import annotations

import struct
from pathlib import Path

RATE = 44_100


def mp3(path: Path, seconds: float) -> Path:
    """Empty MPEG-1 Layer III frames of 128 kbit/s: 1,152 samples in 417 bytes each."""
    frame = b"\xff\xfb\x90\x64" + bytes(413)
    path.write_bytes(frame * round(seconds * RATE / 1152))
    return path


def flac(path: Path, seconds: float) -> Path:
    """The stream information that a FLAC file begins with."""
    packed = (RATE << 44) | (0 << 41) | (15 << 36) | round(seconds * RATE)
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    path.write_bytes(b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info + bytes(1000))
    return path


def ogg(path: Path, seconds: float) -> Path:
    """A Vorbis identification page, and a last page that says how many samples came before."""
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, RATE, 0, 128_000, 0, 0xB8, 1)
    comment = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
    path.write_bytes(_page(2, 0, 0, head) + _page(0, 1, 0, comment) + _page(4, 2, round(seconds * RATE), bytes(200)))
    return path


def _page(kind: int, number: int, samples: int, packet: bytes) -> bytes:
    return struct.pack("<4sBBqIIIB", b"OggS", 0, kind, samples, 1, number, 0, 1) + bytes([len(packet)]) + packet
