"""`run-batch-client -m DAEMON`: files that arrive while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures_speech import PATIENCE, Standin, Standins, alive, children, silence, tone, write_wave
from tests.speechkit.conftest import Place
from tests.waiting import wait_until

pytest.importorskip("azure.cognitiveservices.speech")

#: From the moment that a file is whole to the request at the container (seconds). A quiet machine needs a tenth of a
#: second (0.5 are promised); the bound here tells starting at once from waiting for something, on any machine.
PROMPT = 5.0


@pytest.fixture
def container(standins: Standins) -> Standin:
    return standins()


@pytest.fixture
def client(place: Place, container: Standin) -> Iterator[subprocess.Popen[str]]:
    """A client in DAEMON mode that has done its first file."""
    place.configure(A=container.entry(concurrency=2))
    write_wave(place.sounds / "first.wav", tone(0.4))
    started = place.start("-m", "DAEMON", "-file_log_level", "DEBUG", "-log_folder", str(place.logs))
    try:
        wait_until((place.results / "first_wav.json").exists, "the file that was there before")
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def delay(container: Standin, seconds: float, whole: float) -> float:
    """How long after ``whole`` (time) the request came for the sound that lasts ``seconds``."""

    def found() -> list[float]:
        return [request["at"] for request in container.requests() if abs(request["seconds"] - seconds) < 0.001]

    return float(wait_until(found, f"the request for {seconds} s of sound")[0]) - whole


def best_of_three(container: Standin, drop: Callable[[float], float]) -> dict[float, float]:
    """The delays of up to three drops by their lengths of sound: a busy machine delays one or the other."""
    delays: dict[float, float] = {}
    first = 0.8 + 0.1 * len(container.requests())
    while len(delays) < 3 and min(delays.values(), default=PATIENCE) > PROMPT:
        seconds = round(first + 0.01 * len(delays), 2)
        delays[seconds] = delay(container, seconds, drop(seconds))
    return delays


def by_rename(place: Place, seconds: float) -> float:
    ready = write_wave(place.root / "new.part", tone(seconds))
    ready.replace(place.sounds / "renamed.wav")
    return time.time()


def by_slow_write(place: Place, seconds: float) -> float:
    whole = write_wave(place.root / "whole.wav", tone(seconds)).read_bytes()
    with (place.sounds / "slow.wav").open("wb") as file:
        for start in range(0, len(whole), 4000):
            file.write(whole[start : start + 4000])
            file.flush()
            time.sleep(0.1)
    return time.time()


def by_new_content(place: Place, seconds: float) -> float:
    write_wave(place.sounds / "first.wav", tone(seconds))
    return time.time()


def test_files_are_transcribed_as_soon_as_they_are_whole(
    place: Place, container: Standin, client: subprocess.Popen[str]
) -> None:
    (place.sounds / ".hidden.wav").write_bytes(b"x")
    (place.sounds / "notes.txt").write_text("x")
    dropped = 1
    for drop, name in [(by_rename, "renamed"), (by_slow_write, "slow"), (by_new_content, "first")]:
        tried = best_of_three(container, lambda seconds: drop(place, seconds))  # noqa: B023  called at once
        assert min(tried.values()) <= PROMPT, name
        dropped += len(tried)
        wait_until(lambda: result_length(place, name) == max(tried), f"the result of {name}")  # noqa: B023
    assert len(container.requests()) == dropped, "one per content"
    client.send_signal(signal.SIGTERM)
    out, log = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, log
    assert f"{dropped} of {dropped} files transcribed" in out


def result_length(place: Place, name: str) -> float | None:
    file = f"{name}_wav.json"
    return float(place.result(file)["AudioLengthInSeconds"]) if (place.results / file).exists() else None


def test_a_new_file_does_not_wait_for_those_before_it(place: Place, container: Standin, client: object) -> None:
    write_wave(place.root / "long.part", tone(120)).replace(place.sounds / "long.wav")
    wait_until(lambda: len(container.requests()) == 2, "the long file to be sent")
    assert min(best_of_three(container, lambda seconds: by_rename(place, seconds)).values()) <= PROMPT
    assert not (place.results / "long_wav.json").exists()


def test_sigterm_drains(place: Place, container: Standin, client: subprocess.Popen[str]) -> None:
    write_wave(place.root / "long.part", tone(10)).replace(place.sounds / "long.wav")
    wait_until(lambda: len(container.requests()) == 2, "the file to be sent")
    client.send_signal(signal.SIGTERM)
    _, log = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, log
    assert place.result("long_wav.json")["TranscriptionStatus"] == "Succeeded"
    assert place.stats()["passed"] == 2


def test_endpoints_are_swapped_while_it_runs(
    place: Place, container: Standin, standins: Standins, client: object
) -> None:
    other = standins()
    write_wave(place.root / "long.part", tone(10)).replace(place.sounds / "long.wav")
    wait_until(lambda: len(container.requests()) == 2, "the file to be sent")
    place.configure(B=other.entry())
    wait_until(lambda: (place.logs / "run.log").read_text().count("endpoints in use: B"), "the new endpoint")
    assert delay(other, 0.8, by_rename(place, 0.8)) <= PATIENCE
    wait_until((place.results / "long_wav.json").exists, "the file in flight to be done where it was")
    assert [request["state"] for request in container.requests()] == ["answered", "answered"]
    assert len(other.requests()) == 1


def test_workers_end_with_a_client_that_is_killed(
    place: Place, container: Standin, client: subprocess.Popen[str]
) -> None:
    write_wave(place.root / "long.part", tone(300)).replace(place.sounds / "long.wav")
    wait_until(lambda: len(container.requests()) == 2, "the file to be sent")
    workers = workers_of(client.pid)
    assert workers
    client.kill()
    wait_until(lambda: not any(map(alive, workers)), "the workers to end")
    assert container.requests()[1]["seconds"] < 300


def test_a_worker_that_is_killed_costs_one_attempt(
    place: Place, container: Standin, client: subprocess.Popen[str]
) -> None:
    write_wave(place.root / "long.part", tone(10) + silence(1)).replace(place.sounds / "long.wav")
    wait_until(lambda: len(container.requests()) == 2, "the file to be sent")
    workers = workers_of(client.pid)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until((place.results / "long_wav.json").exists, "the file to be done all the same")
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=PATIENCE)
    assert client.returncode == 0
    assert place.entries()["long.wav"]["retries"] == 1


def workers_of(pid: int) -> list[int]:
    """The worker processes: children of the fork server of the client, which is its child."""
    servers = children(pid)
    return [worker for server in servers for worker in children(server)]
