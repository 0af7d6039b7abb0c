"""`run-batch-client -m ONESHOT` with the real Speech SDK and the REST APIs, on stand-in containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures_speech import Standin, Standins, silence, speak, tone, write_wave
from tests.real_parts import program
from tests.speechkit.conftest import Place
from tests.speechkit.sounds import mp3
from tests.waiting import wait_until

pytest.importorskip("azure.cognitiveservices.speech")

SENTENCE = "The quick brown fox jumps over the lazy dog."


def test_all_files_are_transcribed_although_a_container_dies_and_comes_back(place: Place, standins: Standins) -> None:
    """32 spoken files, two containers, one killed and revived half-way; then a garbage file."""
    for number in range(32):
        speak(f"This is number {number}", place.sounds / f"{number}.wav")
    first, second = standins("--latency", "0.3"), standins("--latency", "0.3")
    place.configure(First=first.entry(concurrency=3), Second=second.entry(concurrency=3))
    client = place.start("-log_folder", str(place.logs))
    wait_until(lambda: len(second.requests()) >= 6, "the second container to be at work")
    second.end(signal.SIGKILL)
    wait_until(lambda: len(first.requests()) >= 12, "the first container to go on alone")
    second.start()
    out, log = client.communicate(timeout=100)
    assert client.returncode == 0, log
    assert "32 of 32 files transcribed" in out
    assert place.stats() == {
        "passed": 32, "failed": 0, "in_retry": 0, "queued": 0, "running": 0, "cached": 0, "total": 32,
    }  # fmt: skip
    assert all(place.result(f"{number}_wav.json")["TranscriptionStatus"] == "Succeeded" for number in range(32))
    assert second.requests(), "the revived container was used again"
    assert sum(entry["retries"] for entry in place.entries().values()) <= 6

    (place.sounds / "garbage.wav").write_bytes(os.urandom(5000))
    done = place.run()
    assert done.returncode == 1, done.stderr
    entries = place.entries()
    assert {name for name, entry in entries.items() if not entry["passed"]} == {"garbage.wav"}
    assert entries["garbage.wav"]["error_type"] == "InvalidAudioFormatError"
    assert "no format we know" in entries["garbage.wav"]["failed_reason"]
    assert place.stats()["cached"] == 32


def test_a_result_has_the_public_schema(place: Place, standin: Standin) -> None:
    write_wave(place.sounds / "Übung 1.wav", tone(1) + silence(1) + tone(0.5))
    place.configure(A=standin.entry())
    done = place.run("-nbest", "2", "-diarization", "Identity", "-sentiment", "-log_folder", str(place.logs))
    assert done.returncode == 0, done.stderr
    result = place.result("Übung 1_wav.json")
    first, second = result["SegmentResults"]
    assert (result["AudioFileName"], result["AudioLengthInSeconds"]) == ("Übung 1.wav", 2.5)
    assert result["CombinedResults"][0]["Display"] == f"{SENTENCE} {SENTENCE}"
    assert (first["ChannelNumber"], first["Language"]) == (None, "en-US")
    assert (first["SpeakerId"], second["SpeakerId"]) == ("Guest-1", "Guest-2")
    assert [len(segment["NBest"]) for segment in (first, second)] == [2, 2]
    assert set(first["NBest"][0]) == {
        "Confidence", "Lexical", "ITN", "MaskedITN", "Display", "Sentiment", "Words",
    }  # fmt: skip
    assert round(second["OffsetInSeconds"] + second["DurationInSeconds"], 1) == 2.5
    assert {path.name for path in place.logs.iterdir()} == {"run.log", "Übung 1_wav.sdk.log"}
    assert (place.logs / "Übung 1_wav.sdk.log").stat().st_size > 1000


@pytest.mark.parametrize(
    ("api", "mode", "text"),
    [
        ("sdk", "Removed", "What the is this?"),
        ("fast", "Raw", "What the hell is this?"),
        ("short", "Masked", "What the **** is this?"),
    ],
)
def test_every_api_treats_swear_words_as_asked(
    place: Place, standins: Standins, api: str, mode: str, text: str
) -> None:
    write_wave(place.sounds / "a.wav", tone(0.4))
    place.configure(A=standins("--text", "What the hell is this?").entry(api=api))
    assert place.run("-profanity", mode).returncode == 0
    assert place.result("a_wav.json")["CombinedResults"][0]["Display"] == text


def test_files_of_the_same_name_are_kept_apart(place: Place, standin: Standin) -> None:
    for name in ("a.wav", "one/a.wav", "two/deep/a.wav"):
        write_wave(place.sounds / name, tone(0.4))
    elsewhere = [write_wave(place.root / folder / "b.wav", tone(0.4)) for folder in ("x", "y")]
    place.configure(A=standin.entry(api="fast"))
    assert place.run().returncode == 0
    assert [place.result(f"{name}a_wav.json")["AudioFileUrl"] for name in ("", "one/", "two/deep/")] == [
        str(place.sounds / name) for name in ("a.wav", "one/a.wav", "two/deep/a.wav")
    ]
    names = place.root / "list.txt"
    names.write_text("".join(f"{path}\n" for path in (*elsewhere, elsewhere[0])))
    assert place.run("-input_list", str(names), "-combined_json").returncode == 0
    assert place.stats()["total"] == 2, "a file that is named twice is one item"
    whole = json.loads((place.results / "results.json").read_text())["AudioFileResults"]
    assert {entry["AudioFileUrl"] for entry in whole} >= {str(path) for path in elsewhere}


def test_files_are_skipped_by_name_and_checksum(place: Place, standins: Standins) -> None:
    standin = standins()
    for name in ("same.wav", "changed.wav", "gone.wav"):
        write_wave(place.sounds / name, tone(0.4))
    place.configure(A=standin.entry(api="fast"))
    assert place.run().returncode == 0
    write_wave(place.sounds / "changed.wav", tone(0.6))
    (place.results / "gone_wav.json").unlink()
    os.utime(place.sounds / "same.wav")
    assert place.run().returncode == 0
    assert {name for name, entry in place.entries().items() if entry["cached"]} == {"same.wav"}
    assert place.entries()["same.wav"]["audio_duration"] == 0.4
    assert place.result("changed_wav.json")["AudioLengthInSeconds"] == 0.6
    assert len(standin.requests()) == 5


@pytest.mark.parametrize("api", ["sdk", "fast", "short"])
def test_channels_are_transcribed_apart(place: Place, standin: Standin, api: str) -> None:
    write_wave(place.sounds / "call.wav", tone(1.0), channels=2, rate=8000)
    place.configure(A=standin.entry(api=api))
    assert place.run().returncode == 0
    result = place.result("call_wav.json")
    assert [entry["ChannelNumber"] for entry in result["CombinedResults"]] == [0, 1]
    assert [entry["Display"] for entry in result["CombinedResults"]] == [SENTENCE, SENTENCE]
    assert place.run("-output_folder", str(place.root / "mixed"), "--channels", "mixed").returncode == 0
    mixed = json.loads((place.root / "mixed" / "call_wav.json").read_text())["AudioFileResults"][0]
    assert [entry["ChannelNumber"] for entry in mixed["CombinedResults"]] == [None]


def test_resume_goes_on_where_an_attempt_failed(place: Place, standins: Standins) -> None:
    standin = standins()
    sound = write_wave(place.sounds / "long.wav", tone(1) + silence(1) + tone(1) + silence(0.2))
    place.configure(A=standin.entry())
    assert place.run().returncode == 0
    result = place.result("long_wav.json")
    result["TranscriptionStatus"] = "Failed"
    result["SegmentResults"] = result["SegmentResults"][:1]
    result["LastProcessedOffsetInSeconds"] = 1.0
    (place.results / "long_wav.json").write_text(json.dumps({"AudioFileResults": [result]}))
    assert place.run("-resume").returncode == 0
    again = place.result("long_wav.json")
    ends = [round(entry["OffsetInSeconds"] + entry["DurationInSeconds"], 1) for entry in again["SegmentResults"]]
    assert (again["TranscriptionStatus"], ends) == ("Succeeded", [1.0, 3.2])
    assert again["LastProcessedOffsetInSeconds"] == pytest.approx(3.2)
    assert round(standin.requests()[-1]["seconds"], 1) == 2.2, f"only the rest of {sound} was sent"


def test_resume_after_a_container_died_in_the_middle_of_a_file(place: Place, standins: Standins) -> None:
    write_wave(place.sounds / "long.wav", (tone(0.5) + silence(1)) * 16)
    container = standins()
    place.configure(A=container.entry())
    client = place.start("-resume")
    wait_until(lambda: [r for r in container.requests() if r["seconds"] > 8], "a third of the file to be sent")
    container.end(signal.SIGKILL)
    # Were it back at once, the SDK would send everything again by itself.
    wait_until((place.results / "long_wav.json").exists, "what was understood so far to be written down")
    container.start()
    _, log = client.communicate(timeout=100)
    assert client.returncode == 0, log
    result = place.result("long_wav.json")
    ends = [round(entry["OffsetInSeconds"] + entry["DurationInSeconds"], 1) for entry in result["SegmentResults"]]
    assert ends == [0.5 + 1.5 * number for number in range(16)], "every phrase once"
    assert container.requests()[0]["seconds"] < 20, "what was understood before was not sent again"
    assert place.entries()["long.wav"]["retries"] >= 1


def test_several_languages_go_to_endpoints_that_tell_them_apart(place: Place, standins: Standins) -> None:
    plain, lid = standins(), standins()
    write_wave(place.sounds / "a.wav", (tone(0.5) + silence(1)) * 3)
    place.configure(Plain=plain.entry(), Lid=lid.entry(language="lid"))
    assert place.run("-language", "de-DE", "en-US", "-max_segment_length", "3").returncode == 0
    assert plain.requests() == []
    assert [request["candidates"] for request in lid.requests()] == [["de-DE", "en-US"]] * 2
    result = place.result("a_wav.json")
    assert [segment["Language"] for segment in result["SegmentResults"]] == ["de-DE", "en-US", "de-DE"]
    ends = [round(entry["OffsetInSeconds"] + entry["DurationInSeconds"], 1) for entry in result["SegmentResults"]]
    assert ends == [0.5, 2.0, 3.5]


def test_fast_transcription_tells_languages_and_speakers_apart_too(place: Place, standin: Standin) -> None:
    write_wave(place.sounds / "a.wav", (tone(0.5) + silence(1)) * 3)
    place.configure(Lid=standin.entry(language="lid", api="fast"))
    assert place.run("-language", "de-DE", "en-US", "fr-FR", "-diarization", "Anonymous").returncode == 0
    segments = place.result("a_wav.json")["SegmentResults"]
    assert [segment["Language"] for segment in segments] == ["de-DE", "en-US", "fr-FR"]
    assert [segment["SpeakerId"] for segment in segments] == ["1", "2", "1"]


def test_other_formats_go_to_fast_transcription_as_they_are(place: Place, standin: Standin) -> None:
    mp3(place.sounds / "a.mp3", 2.0)
    place.configure(A=standin.entry(api="fast"))
    assert place.run().returncode == 0
    assert place.result("a_mp3.json")["AudioLengthInSeconds"] == pytest.approx(2.0, abs=0.05)


KINDS = ("mp3", "flac", "ogg", "opus", "m4a")


def test_other_formats_are_converted_for_the_sdk(place: Place, standins: Standins) -> None:
    standin = standins()
    for kind in KINDS:
        encode(write_wave(place.root / "whole.wav", tone(1.0)), place.sounds / f"a.{kind}")
    place.configure(A=standin.entry())
    done = place.run()
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        result = place.result(f"a_{kind}.json")
        assert result["CombinedResults"][0]["Display"] == SENTENCE, kind
        assert result["AudioLengthInSeconds"] == pytest.approx(1.0, abs=0.1), kind
    assert {round(request["seconds"]) for request in standin.requests()} == {1}


def encode(sound: Path, target: Path) -> None:
    command = [program("ffmpeg"), "-nostdin", "-v", "error", "-i", str(sound)]
    subprocess.run([*command, str(target)], check=True, timeout=60)


def test_bad_sound_fails_with_its_reason_and_the_rest_goes_on(place: Place, standin: Standin) -> None:
    write_wave(place.sounds / "good.wav", tone(0.4))
    write_wave(place.sounds / "no sound.wav", b"")
    (place.sounds / "empty.wav").touch()
    (place.sounds / "notes.txt").write_text("not a sound file at all")
    (place.sounds / "cut.flac").write_bytes(b"fLaC" + bytes(20))
    whole = write_wave(place.sounds / "cut.wav", tone(1.0)).read_bytes()
    (place.sounds / "cut.wav").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(place.sounds / "pipe.wav")
    (place.sounds / "gone.wav").symlink_to("nowhere")
    (place.sounds / "folder.wav").mkdir()
    place.configure(A=standin.entry())
    done = place.run()
    assert done.returncode == 1
    entries = place.entries()
    assert {name: entry["passed"] for name, entry in entries.items()} == {
        "good.wav": True, "no sound.wav": True, "cut.wav": True, "empty.wav": False, "cut.flac": False,
        "pipe.wav": False, "gone.wav": False,
    }  # fmt: skip
    assert "is empty" in entries["empty.wav"]["failed_reason"]
    assert "a pipe or a device" in entries["pipe.wav"]["failed_reason"]
    assert "No such file" in entries["gone.wav"]["failed_reason"]
    assert place.result("cut_wav.json")["AudioLengthInSeconds"] == pytest.approx(0.5, abs=0.01)
    assert place.result("no sound_wav.json")["CombinedResults"][0]["Display"] == ""


def test_errors_of_the_service_are_retried(place: Place, standins: Standins) -> None:
    for number in range(6):
        write_wave(place.sounds / f"{number}.wav", tone(0.4))
    flaky = standins("--error-rate", "0.4")
    place.configure(A=flaky.entry(api="fast", concurrency=2))
    assert place.run().returncode == 0
    assert place.stats()["passed"] == 6
    assert sum(entry["retries"] for entry in place.entries().values()) > 0


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (None, [], "config.json"),
        ("", [], "names no endpoint"),
        ('{"A": {"rtf": 99}, "B": {}}', ["-strict_config"], "'A': rtf"),
        ("{}", [], "names no endpoint"),
        ("A: [", [], "neither YAML nor JSON"),
    ],
    ids=["absent", "empty", "strict", "no entry", "broken"],
)
def test_wrong_configurations_are_wrong_use(place: Place, content: str | None, flags: list[str], said: str) -> None:
    if content is not None:
        place.config.write_text(content)
    done = place.run(*flags)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_output_folder_that_cannot_be_written_is_named(place: Place, standin: Standin) -> None:
    place.configure(A=standin.entry())
    place.results.write_text("a file where the folder should be")
    done = place.run()
    assert done.returncode == 2
    assert str(place.results) in done.stderr


def test_a_key_may_stay_in_the_environment(place: Place, standin: Standin) -> None:
    write_wave(place.sounds / "a.wav", tone(0.4))
    place.configure(A=standin.entry(subscription="$SPEECH_KEY"))
    assert "SPEECH_KEY" in place.run("-strict_config").stderr
    done = place.run("-strict_config", "-console_log_level", "DEBUG", SPEECH_KEY="a-very-secret-key")
    assert done.returncode == 0
    kept = [path.read_bytes() for path in Path(place.results).rglob("*") if path.is_file()]
    assert not any(b"a-very-secret-key" in text for text in (*kept, done.stdout.encode(), done.stderr.encode()))


def test_a_file_with_no_endpoint_for_it_fails_with_the_reason(place: Place, standin: Standin) -> None:
    write_wave(place.sounds / "a.wav", tone(0.4))
    place.configure(A=standin.entry(language="de-DE"))
    done = place.run()
    assert done.returncode == 1
    assert "endpoint" in place.entries()["a.wav"]["failed_reason"]
