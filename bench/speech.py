"""Speech: seconds per short file through the real Speech SDK, at the default real-time factor of 3.

Ours is `run-batch-client` on seven files of 2 s, one at a time, on a stand-in container. Beside it the same SDK in one
process that stops the recognition inside its own callback, as the public kit does; that kit's own figure, measured
once with 7 files, was 10.75 s per file.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.figures import Figure

FILES = 7
SECONDS = 2.0
RATE = 16_000
LIMIT = 1.0
#: Files that arrive, and how long each may wait (seconds).
ARRIVALS, PROMPT = 6, 0.5

#: Runs in a process of its own, so that the SDK's leftovers do not count as ours.
STOP_INSIDE = """
import os, sys, threading, time
from azure.cognitiveservices import speech
config = speech.SpeechConfig(host=sys.argv[1], speech_recognition_language="en-US")
config.set_property_by_name("SPEECH-AudioThrottleAsPercentageOfRealTime", "300")
config.set_property_by_name("SPEECH-TransmitLengthBeforeThrottleMs", "0")
begun = time.monotonic()
recognizer = speech.SpeechRecognizer(config, speech.audio.AudioConfig(filename=sys.argv[2]))
over = threading.Event()
def stop(event):
    recognizer.stop_continuous_recognition()
    over.set()
recognizer.canceled.connect(stop)
recognizer.session_stopped.connect(stop)
recognizer.start_continuous_recognition()
over.wait(60)
print(time.monotonic() - begun, flush=True)
os._exit(0)  # the SDK may crash while it is taken apart after this
"""


def write_sound(path: Path) -> None:
    """A loud tone, which the stand-in takes for speech."""
    period = array("h", [8000] * 20 + [-8000] * 20)
    with closing(wave.open(str(path), "wb")) as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((period * (int(RATE * SECONDS) // 40)).tobytes())


@contextmanager
def container() -> Iterator[int]:
    """A stand-in; its port."""
    command = [sys.executable, "-m", "azbatchwrap.cli.main", "local", "speech", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
    finally:
        process.terminate()
        process.communicate(timeout=30)


def run_client(folder: Path, port: int, **settings: Any) -> tuple[list[float], float]:
    """Each file's seconds, and the whole run's."""
    config, results = folder / "config.json", folder / f"results-{settings.get('api', 'sdk')}"
    config.write_text(json.dumps({"A": {"host": "127.0.0.1", "port": port, "concurrency": 1, **settings}}))
    command = [sys.executable, "-m", "azbatchwrap.cli.speech", "-config", str(config)]
    begun = time.monotonic()
    places = ["-input_folder", str(folder / "sounds"), "-output_folder", str(results)]
    subprocess.run([*command, *places], check=True, capture_output=True, timeout=300)
    taken = time.monotonic() - begun
    entries = json.loads((results / "run_summary.json").read_text())["processed_files"]
    return [entry["latency"] for entry in entries], taken


def arrivals(folder: Path, port: int) -> float:
    """The longest time (seconds) from the end of a file that is written slowly to its request, in DAEMON mode."""
    watched, results = folder / "watched", folder / "results-daemon"
    watched.mkdir()
    command = [sys.executable, "-m", "azbatchwrap.cli.speech", "-config", str(folder / "config.json"), "-m", "DAEMON"]
    places = ["-input_folder", str(watched), "-output_folder", str(results)]
    client = subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The first one waits for the client to start.
        return max([_arrives(watched / f"{number}.wav", folder, port, results) for number in range(ARRIVALS + 1)][1:])
    finally:
        client.terminate()
        client.wait(timeout=60)


def _arrives(path: Path, folder: Path, port: int, results: Path) -> float:
    """Returns when the file is transcribed: the next one shall not wait for the endpoint's only slot."""
    whole = (folder / "sounds" / "0.wav").read_bytes()
    before = len(requests(port))
    with path.open("wb") as file:
        for start in range(0, len(whole), len(whole) // 4):
            file.write(whole[start : start + len(whole) // 4])
            file.flush()
            time.sleep(0.05)
    ended = time.time()
    _wait_for(lambda: len(requests(port)) > before)
    asked = float(requests(port)[-1]["at"])
    _wait_for((results / f"{path.stem}_wav.json").exists)
    return asked - ended


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.01)


def requests(port: int) -> list[dict[str, Any]]:
    """What the stand-in was asked for."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/requests", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def figures() -> Iterable[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-speech-") as name, container() as port:
        folder = Path(name)
        (folder / "sounds").mkdir()
        for number in range(FILES):
            write_sound(folder / "sounds" / f"{number}.wav")
        latencies, taken = run_client(folder, port)
        command = [sys.executable, "-c", STOP_INSIDE, f"ws://127.0.0.1:{port}", str(folder / "sounds" / "0.wav")]
        theirs = float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
        median = statistics.median(latencies)
        yield Figure(
            "speech: seconds per 2 s file through the Speech SDK",
            f"{median:.2f} s (all {FILES}: {taken:.1f} s)",
            f"{theirs:.2f} s (stopping inside the callback, as the public kit)",
            median,
            LIMIT,
            "<=",
            f"the sound itself takes {SECONDS / 3:.2f} s at rtf 3; the public kit itself: 10.75 s",
        )
        wait = arrivals(folder, port)
        yield Figure(
            f"speech, DAEMON: longest of {ARRIVALS} waits from a file's end to its request", f"{wait:.2f} s",
            f"asked {PROMPT} s", wait, PROMPT, "<=",
        )  # fmt: skip
        fast, _ = run_client(folder, port, api="fast")
        yield Figure(
            "speech: the same files over fast transcription (api: fast)",
            f"{statistics.median(fast) * 1000:.0f} ms",
            f"{median * 1000:.0f} ms through the SDK",
            median / statistics.median(fast),
            1.0,
            ">=",
        )
