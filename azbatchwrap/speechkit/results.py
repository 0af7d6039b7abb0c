"""Result files in the public kit's schema: written atomically, found again by name and checksum, combined."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Offsets and durations of the speech service count in these: 100 ns.
TICKS = 10_000_000
SUCCEEDED, FAILED = "Succeeded", "Failed"
COMBINED_FILE = "results.json"
#: A file is hashed in pieces of this size (bytes).
PIECE = 1024 * 1024
_FORMS = ("Lexical", "ITN", "MaskedITN", "Display")


@dataclass(frozen=True, slots=True)
class Segment:
    """A recognised phrase as the service gave it. ``shift`` (seconds) is where its sound began in the file."""

    phrase: Mapping[str, Any]
    language: str
    channel: int | None = None
    shift: float = 0.0

    @property
    def end(self) -> float:
        """Seconds in the file."""
        ticks: int = self.phrase.get("Offset", 0) + self.phrase.get("Duration", 0)
        return self.shift + ticks / TICKS


def checksum(path: Path) -> str:
    """SHA-256 of the file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def result_name(path: Path) -> str:
    """The public kit's name for the result of ``path``: ``talk.wav`` gives ``talk_wav.json``."""
    return f"{path.stem}_{path.suffix[1:]}.json"


def earlier_result(file: Path, digest: str) -> dict[str, Any] | None:
    """What an earlier run left for the same content; ``None`` when there is nothing or it cannot be read."""
    try:
        document = json.loads(file.read_bytes())
        found = document["AudioFileResults"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return found if isinstance(found, dict) and found.get("AudioFileHash") == digest else None


def segment_result(segment: Segment, nbest: int) -> dict[str, Any]:
    """The entry of ``SegmentResults``."""
    made = dict(segment.phrase)
    made["Language"] = segment.language
    made["ChannelNumber"] = segment.channel
    readings = [dict(reading) for reading in made.get("NBest", [])[:nbest]]
    for reading in readings:
        if "Words" in reading:
            reading["Words"] = [_placed(word, segment.shift) for word in reading["Words"]]
    if "NBest" in made:
        made["NBest"] = readings
    return _placed(made, segment.shift)


def _placed(entry: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """``entry`` with its offset in the file, and in seconds, too."""
    made = dict(entry)
    if "Offset" in made:
        made["Offset"] += round(shift * TICKS)
        made["OffsetInSeconds"] = made["Offset"] / TICKS
    if "Duration" in made:
        made["DurationInSeconds"] = made["Duration"] / TICKS
    return made


def combined(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of ``CombinedResults``: the whole text per channel. A silent file has one with empty texts."""
    channels = dict.fromkeys(segment.get("ChannelNumber") for segment in segments) or {None: None}
    made = []
    for channel in channels:
        best = [
            segment["NBest"][0]
            for segment in segments
            if segment.get("ChannelNumber") == channel and segment.get("NBest")
        ]
        made.append(
            {"ChannelNumber": channel, **{form: " ".join(reading.get(form, "") for reading in best) for form in _FORMS}}
        )
    return made


def file_result(
    path: Path, digest: str, seconds: float, segments: Sequence[Mapping[str, Any]], *, passed: bool, processed: float
) -> dict[str, Any]:
    """The entry of ``AudioFileResults``. ``processed``: seconds of the file that need not be done again."""
    return {
        "AudioFileName": path.name,
        "AudioFileUrl": str(path),
        "AudioFileHash": digest,
        "AudioLengthInSeconds": seconds,
        "TranscriptionStatus": SUCCEEDED if passed else FAILED,
        "SegmentResults": list(segments),
        "CombinedResults": combined(segments),
        "LastProcessedOffsetInSeconds": processed,
    }


def write_result(file: Path, result: Mapping[str, Any]) -> None:
    """Write the result file beside and rename: a reader never sees half of it."""
    text = json.dumps({"AudioFileResults": [result]}, indent=2, sort_keys=True, ensure_ascii=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def combine(folder: Path, files: Iterable[Path]) -> Path:
    """Write ``results.json`` with what is in the result ``files``, one after the other; absent ones are left out."""
    target = folder / COMBINED_FILE
    beside = folder / f".{COMBINED_FILE}.{os.getpid()}"
    with beside.open("w", encoding="utf-8") as out:
        out.write('{\n  "AudioFileResults": [')
        separator = "\n"
        for file in files:
            for result in _results_in(file):
                text = json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False)
                out.write(separator + "    " + text.replace("\n", "\n    "))
                separator = ",\n"
        out.write("\n  ]\n}\n")
    beside.replace(target)
    return target


def _results_in(file: Path) -> list[Any]:
    try:
        found = json.loads(file.read_bytes())["AudioFileResults"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []
