"""The stand-in before its clients: the real Speech SDK, and REST over plain HTTP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_speech import PATIENCE, Standin, Standins, alive, children, silence, speak, tone, write_wave
from tests.waiting import wait_until

SHORT = "/speech/recognition/conversation/cognitiveservices/v1"
FAST = "/speechtotext/transcriptions:transcribe?api-version=2024-11-15"
SENTENCE = "The quick brown fox jumps over the lazy dog."

speech: Any = pytest.importorskip("azure.cognitiveservices.speech")


def config(standin: Standin, **service_properties: str) -> Any:
    made = speech.SpeechConfig(host=standin.url.replace("http", "ws"), speech_recognition_language="en-US")
    made.output_format = speech.OutputFormat.Detailed
    made.request_word_level_timestamps()
    for name, value in service_properties.items():
        made.set_service_property(name, value, speech.ServicePropertyChannel.UriQueryParameter)
    return made


def all_results(recognizer: Any) -> tuple[list[Any], Any]:
    """The results of a whole file, and why it ended."""
    over, results, ends = threading.Event(), [], []
    recognizer.recognized.connect(lambda event: results.append(event.result))
    recognizer.canceled.connect(lambda event: ends.append(event.cancellation_details))
    recognizer.session_stopped.connect(lambda _: over.set())
    recognizer.start_continuous_recognition()
    assert over.wait(PATIENCE)  # to stop it after an error would cost 10 s
    return results, ends[0]


def post(standin: Standin, path: str, body: bytes, content_type: str = "audio/wav") -> tuple[int, Any]:
    request = urllib.request.Request(standin.url + path, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def form(definition: object, audio: bytes | None) -> tuple[bytes, str]:
    parts = [b'--x\r\nContent-Disposition: form-data; name="definition"\r\n\r\n' + json.dumps(definition).encode()]
    if audio is not None:
        parts.append(b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n' + audio)
    return b"\r\n".join(parts) + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


@pytest.fixture
def two_phrases(tmp_path: Path) -> Path:
    """Two seconds of speech with a pause between."""
    return write_wave(tmp_path / "two.wav", tone(1) + silence(1.5) + tone(1) + silence(0.2))


def test_the_sdk_recognises_a_whole_file(standin: Standin, two_phrases: Path) -> None:
    audio = speech.audio.AudioConfig(filename=str(two_phrases))
    results, end = all_results(speech.SpeechRecognizer(config(standin), audio))
    assert [result.text for result in results] == [SENTENCE, SENTENCE]
    assert [round((result.offset + result.duration) / 1e7, 1) for result in results] == [1.0, 3.7]
    assert end.reason == speech.CancellationReason.EndOfStream


def test_the_sdk_recognises_once(standin: Standin, two_phrases: Path) -> None:
    recognizer = speech.SpeechRecognizer(config(standin), speech.audio.AudioConfig(filename=str(two_phrases)))
    result = recognizer.recognize_once()
    best = json.loads(result.json)["NBest"]
    assert result.text == SENTENCE
    assert len(best) == 5
    assert [word["Word"] for word in best[0]["Words"]] == [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "the",
        "lazy",
        "dog",
    ]


def test_the_sdk_transcribes_a_conversation(standin: Standin, two_phrases: Path) -> None:
    transcriber = speech.transcription.ConversationTranscriber(
        config(standin), speech.audio.AudioConfig(filename=str(two_phrases))
    )
    over, found = threading.Event(), []
    transcriber.transcribed.connect(lambda event: found.append((event.result.text, event.result.speaker_id)))
    transcriber.session_stopped.connect(lambda _: over.set())
    transcriber.start_transcribing_async().get()
    assert over.wait(PATIENCE)
    transcriber.stop_transcribing_async().get()
    assert found == [(SENTENCE, "Guest-1"), (SENTENCE, "Guest-2")]


def test_a_silent_file_ends_without_a_phrase(standin: Standin, tmp_path: Path) -> None:
    audio = speech.audio.AudioConfig(filename=str(write_wave(tmp_path / "silence.wav", silence(1))))
    results, end = all_results(speech.SpeechRecognizer(config(standin), audio))
    assert [result.text for result in results if result.text] == []
    assert end.reason == speech.CancellationReason.EndOfStream


def test_settings_reach_the_service(standins: Standins, two_phrases: Path) -> None:
    standin = standins("--text", "What the hell is this?")
    asked = config(
        standin,
        **{
            "speechcontext-PhraseOutput.Detailed.Options": '["Sentiment","WordTimings"]',
            "speechcontext-phraseDetection.speakerDiarization.mode": "Identity",
        },
    )
    asked.set_profanity(speech.ProfanityOption.Removed)
    audio = speech.audio.AudioConfig(filename=str(two_phrases))
    results, _ = all_results(speech.SpeechRecognizer(asked, audio))
    phrase = json.loads(results[0].json)
    assert phrase["SpeakerId"] == "Guest-1"
    assert set(phrase["NBest"][0]["Sentiment"]) == {"Negative", "Neutral", "Positive"}
    assert results[0].text == "What the is this?"
    (request,) = standin.requests()
    assert (request["speakers"], request["sentiment"], request["profanity"]) == (True, True, "removed")
    assert (request["state"], round(request["seconds"], 1)) == ("answered", 3.7)


def test_short_audio(standin: Standin, two_phrases: Path) -> None:
    status, answer = post(standin, SHORT + "?language=en-US&format=detailed", two_phrases.read_bytes())
    assert status == 200
    assert answer["NBest"][0]["Display"] == answer["DisplayText"] == SENTENCE
    status, answer = post(standin, SHORT, two_phrases.read_bytes())
    assert "NBest" not in answer


def test_fast_transcription(standin: Standin, tmp_path: Path) -> None:
    stereo = write_wave(tmp_path / "stereo.wav", tone(1.0), channels=2, rate=8000)
    body, kind = form({"locales": ["en-US"], "channels": [0, 1]}, stereo.read_bytes())
    status, answer = post(standin, FAST, body, kind)
    assert status == 200
    assert answer["combinedPhrases"] == [{"channel": 0, "text": SENTENCE}, {"channel": 1, "text": SENTENCE}]
    assert answer["durationMilliseconds"] == 1000
    assert [phrase["channel"] for phrase in answer["phrases"]] == [0, 1]


@pytest.mark.parametrize(
    ("diarization", "speakers"),
    [({"enabled": True}, [1, 2]), ({"maxSpeakers": 4}, [1, 2]), ({"enabled": False}, [None] * 2), (None, [None] * 2)],
)
def test_fast_transcription_tells_speakers_apart_when_asked(
    standin: Standin, two_phrases: Path, diarization: object, speakers: list[int | None]
) -> None:
    body, kind = form({"locales": ["en-US"], "diarization": diarization}, two_phrases.read_bytes())
    assert [phrase.get("speaker") for phrase in post(standin, FAST, body, kind)[1]["phrases"]] == speakers


@pytest.mark.parametrize(
    ("definition", "audio", "said"),
    [
        ({"locales": ["en-US"]}, None, "no sound"),
        ({"locales": ["en-US"]}, b"garbage" * 100, "no sound in a format"),
        ({"channels": [7]}, b"RIFF", "WAVE"),
        ([1], b"", "no JSON object"),
    ],
)
def test_forms_that_cannot_be_served(standin: Standin, definition: object, audio: bytes | None, said: str) -> None:
    status, answer = post(standin, FAST, *form(definition, audio))
    assert status == 400
    assert said in answer["message"]


def test_garbage_is_refused(standin: Standin) -> None:
    assert post(standin, SHORT, b"")[0] == 400
    assert post(standin, SHORT, b"RIFF")[0] == 400
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(standin.url + SHORT, timeout=PATIENCE):
        pass
    caught.value.close()
    assert caught.value.code == 400


def test_errors_come_at_the_rate_asked_for(standins: Standins, two_phrases: Path) -> None:
    standin = standins("--error-rate", "0.25")
    codes = [post(standin, SHORT, two_phrases.read_bytes())[0] for _ in range(8)]
    assert codes == [200, 200, 200, 500, 200, 200, 200, 500]


def test_a_refused_socket_ends_the_sdk_with_an_error(standins: Standins, two_phrases: Path) -> None:
    standin = standins("--error-rate", "1")
    audio = speech.audio.AudioConfig(filename=str(two_phrases))
    results, end = all_results(speech.SpeechRecognizer(config(standin), audio))
    assert results == []
    assert end.reason == speech.CancellationReason.Error
    assert {request["state"] for request in standin.requests()} == {"broken on purpose"}


def test_answers_come_later_when_asked_for(standins: Standins, two_phrases: Path) -> None:
    standin = standins("--latency", "0.3")
    begun = time.monotonic()
    assert post(standin, SHORT, two_phrases.read_bytes())[0] == 200
    assert time.monotonic() - begun >= 0.3


def test_it_says_that_it_may_be_used(standin: Standin) -> None:
    status = standin.get("/status")
    assert status["apiStatus"].lower() == "valid"
    assert "valid" in status["apiStatusMessage"].lower()
    assert standin.get("/ready")["ready"] == "ready"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_gracefully(standins: Standins, two_phrases: Path, number: int) -> None:
    standin = standins("--latency", "0.5")
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(post(standin, SHORT, two_phrases.read_bytes())[0]))
    asking.start()
    while not standin.requests():
        time.sleep(0.01)
    assert standin.end(number) == 0
    asking.join(PATIENCE)
    assert answers == [200]


def test_a_port_in_use_is_named(standin: Standin) -> None:
    words = ["local", "speech", "--port", str(standin.port)]
    done = subprocess.run(
        [sys.executable, "-m", "azbatchwrap.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"127.0.0.1:{standin.port}" in done.stderr


def test_it_listens_on_loopback_only(standin: Standin) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", standin.port))  # would fail if the stand-in had taken all addresses


def test_sphinx_understands_english(standins: Standins, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    spoken = speak("hello world", tmp_path / "hello.wav")
    standin = standins("--engine", "sphinx")
    status, answer = post(standin, SHORT + "?format=detailed", spoken.read_bytes())
    assert status == 200
    assert "world" in answer["NBest"][0]["Lexical"]
    assert answer["NBest"][0]["Display"] == answer["DisplayText"]
    assert standin.process is not None
    workers = children(standin.process.pid)
    assert workers
    standin.end(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, workers)), "the engine's workers to follow it")
