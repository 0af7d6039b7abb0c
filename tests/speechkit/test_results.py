"""Result files in the public schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from azbatchwrap.speechkit.results import (
    Segment,
    checksum,
    combine,
    combined,
    earlier_result,
    file_result,
    result_name,
    segment_result,
    write_result,
)

TICKS = 10_000_000


def phrase(text: str, offset: float, duration: float, readings: int = 3) -> dict[str, Any]:
    return {
        "RecognitionStatus": "Success",
        "Offset": round(offset * TICKS),
        "Duration": round(duration * TICKS),
        "NBest": [
            {
                "Confidence": 0.9 - number / 10,
                "Lexical": text.lower(),
                "ITN": text.lower(),
                "MaskedITN": text.lower(),
                "Display": f"{text}.",
                "Words": [{"Word": text.lower(), "Offset": round(offset * TICKS), "Duration": TICKS}],
            }
            for number in range(readings)
        ],
    }


def test_a_segment_says_where_it_is_in_the_file() -> None:
    made = segment_result(Segment(phrase("Hello", 1.0, 0.5), "de-DE", 1, shift=10.0), nbest=2)
    assert (made["OffsetInSeconds"], made["DurationInSeconds"], made["Offset"]) == (11.0, 0.5, 11 * TICKS)
    assert (made["Language"], made["ChannelNumber"], len(made["NBest"])) == ("de-DE", 1, 2)
    assert made["NBest"][0]["Words"][0]["OffsetInSeconds"] == 11.0
    assert Segment(phrase("Hello", 1.0, 0.5), "de-DE", 1, shift=10.0).end == 11.5


def test_channels_are_combined_by_themselves() -> None:
    segments = [
        segment_result(Segment(phrase(text, 0, 1), "en-US", channel), 1)
        for text, channel in [("One", 0), ("Two", 0), ("Three", 1)]
    ]
    assert [(entry["ChannelNumber"], entry["Display"]) for entry in combined(segments)] == [
        (0, "One. Two."),
        (1, "Three."),
    ]


def test_a_silent_file_has_an_empty_text() -> None:
    empty = {"ChannelNumber": None, "Lexical": "", "ITN": "", "MaskedITN": "", "Display": ""}
    assert combined([]) == [empty]


def test_a_result_is_found_again_by_the_contents_checksum(tmp_path: Path) -> None:
    sound, result = tmp_path / "talk.one.wav", tmp_path / "deep" / result_name(Path("talk.one.wav"))
    sound.write_bytes(b"some sound")
    digest = checksum(sound)
    write_result(result, file_result(sound, digest, 1.0, [], passed=True, processed=1.0))
    assert result.name == "talk.one_wav.json"
    found = earlier_result(result, digest)
    assert found is not None
    assert found["TranscriptionStatus"] == "Succeeded"
    assert earlier_result(result, "another") is None
    result.write_text('{"AudioFileResults": [')
    assert earlier_result(result, digest) is None
    assert earlier_result(tmp_path / "absent.json", digest) is None
    assert [path.name for path in result.parent.iterdir()] == [result.name]


def test_the_public_schema_is_kept(tmp_path: Path) -> None:
    made = file_result(tmp_path / "a.wav", "abc", 2.5, [], passed=False, processed=1.5)
    assert made == {
        "AudioFileName": "a.wav",
        "AudioFileUrl": str(tmp_path / "a.wav"),
        "AudioFileHash": "abc",
        "AudioLengthInSeconds": 2.5,
        "TranscriptionStatus": "Failed",
        "SegmentResults": [],
        "CombinedResults": combined([]),
        "LastProcessedOffsetInSeconds": 1.5,
    }


def test_results_are_combined_into_one_file(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        files.append(tmp_path / f"{name}.json")
        write_result(files[-1], file_result(tmp_path / name, name, 1.0, [], passed=True, processed=1.0))
    (tmp_path / "broken.json").write_text("{")
    whole = json.loads(
        combine(tmp_path, [files[0], tmp_path / "absent", tmp_path / "broken.json", files[1]]).read_text()
    )
    assert [entry["AudioFileHash"] for entry in whole["AudioFileResults"]] == ["a", "b"]
    assert json.loads(combine(tmp_path, []).read_text()) == {"AudioFileResults": []}
