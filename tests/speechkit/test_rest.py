"""`run-batch-client -m REST`: batches as the public kit's clients submit them."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_speech import PATIENCE, Standin, Standins, tone, write_wave
from tests.speechkit.conftest import Place
from tests.waiting import wait_until

DOCUMENT = {
    "type": "SpeechSDKBatchRequest", "language": "en-US", "diarization": "None", "nbest": 2, "profanity": "Masked",
    "allow_resume": False, "sentiment": "false", "combine_results": True,
}  # fmt: skip


@pytest.fixture
def container(standins: Standins) -> Standin:
    return standins()


@pytest.fixture
def server(place: Place, container: Standin) -> Iterator[str]:
    """The URL of a client in REST mode."""
    place.configure(A=container.entry(api="fast"))
    client: subprocess.Popen[str] = place.start("-m", "APISERVER", "-port", "0")
    listening = place.results / ".batchkit" / "batches" / "listening.json"
    try:
        wait_until(lambda: listening.exists() or client.poll() is not None, "the server to listen")
        yield f"http://127.0.0.1:{json.loads(listening.read_text())['port']}"
        client.send_signal(signal.SIGTERM)
        _, log = client.communicate(timeout=PATIENCE)
        assert client.returncode == 0, log
    finally:
        if client.poll() is None:
            client.kill()
            client.communicate()


def ask(url: str, document: object = None) -> tuple[int, Any]:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def done(server: str, document: object) -> dict[str, Any]:
    """The facts of a batch, once it is done."""
    status, facts = ask(f"{server}/submit", document)
    assert status == 200, facts
    batch = urllib.parse.quote(str(facts["batch_id"]))
    facts = ask(f"{server}/watch?batch_id={batch}&target_state=done&timeout=50")[1]
    assert facts["status"] == "done"
    return dict(facts)


def test_a_submitted_batch_is_transcribed_once(place: Place, container: Standin, server: str) -> None:
    sound = write_wave(place.root / "elsewhere" / "a.wav", tone(0.4))
    facts = done(server, {**DOCUMENT, "files": [str(sound)]})
    whole = json.loads(Path(facts["combined_results_file"]).read_text())["AudioFileResults"]
    assert [entry["AudioFileUrl"] for entry in whole] == [str(sound)]
    assert json.loads((Path(facts["results_dir"]) / "a_wav.json").read_text())["AudioFileResults"] == whole
    assert facts["file_stats"]["passed"] == 1
    again = done(server, {**DOCUMENT, "files": [str(sound)]})
    assert (again["file_stats"]["passed"], again["file_stats"]["cached"]) == (1, 1)
    assert (Path(again["results_dir"]) / "a_wav.json").exists()
    assert len(container.requests()) == 1


def test_relative_names_are_looked_for_in_the_input_folder(place: Place, server: str) -> None:
    sound = write_wave(place.sounds / "below" / "a.wav", tone(0.4))
    facts = done(server, {**DOCUMENT, "files": ["below/a.wav"]})
    (whole,) = json.loads(Path(facts["combined_results_file"]).read_text())["AudioFileResults"]
    assert (whole["AudioFileUrl"], whole["TranscriptionStatus"]) == (str(sound), "Succeeded")


WRONG: list[tuple[dict[str, object], str]] = [
    ({"files": "a.wav"}, "files"),
    ({"files": [1]}, "files"),
    ({"nbest": "two"}, "nbest"),
    ({"diarization": "Some"}, "None, Identity, Anonymous"),
    ({"sentiment": "perhaps"}, "sentiment"),
    ({"combine_results": 3}, "combine_results"),
    ({"type": "Another"}, "SpeechSDKBatchRequest"),
]


def test_wrong_documents_are_refused_with_the_reason(server: str) -> None:
    for change, said in WRONG:
        status, answer = ask(f"{server}/submit", {**DOCUMENT, "files": [], **change})
        assert status == 400, change
        assert said in json.dumps(answer)
