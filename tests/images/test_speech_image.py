"""The Speech Batch Kit's container image, built by `make` and run with the seed's lines: required in CI."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.fixtures_podman import Images
from tests.fixtures_speech import Standin, speak

IMAGE = "azbatchwrap/speech-batch-kit"
#: Whose folder it is that a test mounts.
OWNER = 12345

# What the seed's page says to run, with our image's name (and without the mount that it gives twice).
ONE_COMMAND = (
    f"docker run --network host --rm -ti -v /mnt/my_nfs:/my_nfs {IMAGE} -config /my_nfs/config.yaml "
    "-input_folder /my_nfs/audio_files -output_folder /my_nfs/transcriptions -log_folder /my_nfs/logs"
)
SHELL = f"docker run --network host --rm -ti -v /mnt/my_nfs:/my_nfs --entrypoint /bin/bash {IMAGE}"
IN_THE_SHELL = (
    "run-batch-client -config /my_nfs/config.yaml -input_folder /my_nfs/audio_files -output_folder "
    "/my_nfs/transcriptions -log_folder /my_nfs/logs -file_log_level DEBUG -nbest 1 -m ONESHOT -diarization None "
    "-language en-US -strict_config"
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built(images: Images) -> Images:
    images.build("image", "speech")
    return images


@pytest.fixture
def my_nfs(built: Images, standin: Standin, tmp_path: Path) -> Path:
    """The seed's folder: a configuration, two sound files, one of them no WAVE file. Not root's, if we are."""
    place = tmp_path / "my_nfs"
    speak("what is the weather like", place / "audio_files" / "weather.wav")
    (place / "config.yaml").write_text(json.dumps({"MyContainer1": standin.entry(concurrency=5)}))
    words = ["run", "--rm", "--volume", f"{place}:/my_nfs", "--entrypoint", "ffmpeg", IMAGE, "-v", "error"]
    converted = built.podman(*words, "-i", "/my_nfs/audio_files/weather.wav", "/my_nfs/audio_files/again.mp3")
    assert converted.returncode == 0, converted.stderr
    if os.getuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, OWNER, OWNER)
    return place


def on_a_terminal(built: Images, line: str, my_nfs: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the line with podman, the folder mounted, on a terminal: ``-ti`` wants one."""
    line = line.replace("docker", "podman", 1).replace("/mnt/my_nfs", shlex.quote(str(my_nfs)))
    return subprocess.run(
        ["script", "--quiet", "--return", "--command", line, "/dev/null"],
        env=os.environ | built.podman.variables, input=typed, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def check(my_nfs: Path) -> None:
    results = my_nfs / "transcriptions"
    summary = json.loads((results / "run_summary.json").read_text())
    assert summary["overall_summary"]["file_stats"]["passed"] == 2, summary
    for name in ("weather_wav.json", "again_mp3.json"):
        [result] = json.loads((results / name).read_text())["AudioFileResults"]
        assert result["SegmentResults"]
    assert (my_nfs / "logs" / "run.log").exists()


def test_the_seeds_line_transcribes_a_folder_and_leaves_it_to_its_owner(built: Images, my_nfs: Path) -> None:
    done = on_a_terminal(built, ONE_COMMAND, my_nfs)
    assert done.returncode == 0, done.stdout
    check(my_nfs)
    owners = {path.stat().st_uid for path in my_nfs.rglob("*")}
    assert owners == {my_nfs.stat().st_uid}


def test_the_client_runs_in_the_seeds_shell(built: Images, my_nfs: Path) -> None:
    done = on_a_terminal(built, SHELL, my_nfs, f"{IN_THE_SHELL}; exit $?\n")
    assert done.returncode == 0, done.stdout
    check(my_nfs)


@pytest.mark.parametrize(
    ("options", "words", "user"),
    [
        ((), (), "10001"),
        ((), ("-output_folder=/elsewhere/new/one",), "0"),
        ((), ("-m", "ONESHOT", "--output-folder", "/usr/local/batch/output/new"), "10001"),
        (("--user", "77"), (), "77"),
    ],
)
def test_whom_the_client_runs_as(built: Images, options: tuple[str, ...], words: tuple[str, ...], user: str) -> None:
    """A client of the test's own, which is found first, says who it is."""
    client = "printf '#!/bin/sh\\nid -u\\n' > /tmp/run-batch-client && chmod a+x /tmp/run-batch-client"
    command = f'{client} && PATH=/tmp:$PATH exec entrypoint.sh "$@"'
    done = built.podman(
        "run", "--rm", "--network", "none", *options, "--entrypoint", "sh", IMAGE, "-c", command, "-", *words
    )
    assert done.stdout.decode().strip() == user, done.stderr


def test_nothing_is_left_of_the_build(built: Images) -> None:
    assert built.find(IMAGE, "/src", "/etc/pip.conf", "/root/.cache", "/opt/azbatchwrap/bin/pip") == ""
