"""`azbatchwrap local` as a user calls it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from azbatchwrap import config
from azbatchwrap.local.instance import free_ports
from tests.fixtures_stack import LocalStack, RunningAzurite, clean_environment, ended_stack, run_cli


class Place:
    """A folder to work in, and a data folder in which nothing runs yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = clean_environment(self.data)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run_cli("local", *words, folder=self.folder, environment=self.environment, stdin=stdin)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "azbatchwrap.cli.main", "local", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ended_stack(tmp_path / "data"):
        yield Place(tmp_path)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process prints up to a line with ``text``; it is killed when that takes a minute."""
    assert process.stdout is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            break
    watchdog.cancel()
    assert text in seen
    return seen


def test_a_day_of_use(place: Place) -> None:
    up = place.run("up")
    assert up.returncode == 0, up.stderr
    assert f"Azure on this machine is up (data in {place.data})" in up.stdout
    assert "with that user's own rights" in up.stdout
    assert 'eval "$(azbatchwrap local env)"' in up.stdout
    status = place.run("status")
    assert (status.returncode, "batch    up" in status.stdout) == (0, True)
    reset = place.run("reset")
    assert (reset.returncode, "use --yes" in reset.stderr) == (2, True)
    reset = place.run("reset", "--yes")
    assert (reset.returncode, "it is up again" in reset.stdout) == (0, True)
    down = place.run("down")
    assert (down.returncode, down.stdout) == (0, f"ended (data stays in {place.data})\n")
    status = place.run("status")
    assert (status.returncode, "is down" in status.stdout) == (1, True)
    assert place.run("down").stdout == f"nothing runs in {place.data}\n"


def test_status_when_a_part_is_dead(place: Place) -> None:
    facts = json.loads(place.run("up", "--json").stdout)
    os.kill(facts["batch"]["pid"], signal.SIGKILL)
    status = place.run("status", "--json")
    assert status.returncode == 1
    facts = json.loads(status.stdout)
    assert (facts["up"], facts["batch"]["state"], facts["storage"]["state"]) == (False, "down", "up")
    assert "partly down (azbatchwrap local up mends it)" in place.run("status").stdout
    assert place.run("up").returncode == 0


def test_the_data_dir_flag_names_the_instance(place: Place) -> None:
    other = place.folder / "an other"
    with ended_stack(other):
        up = place.run("up", "--data-dir", "an other")
        assert f"local env --data-dir {shlex.quote(str(other))}" in up.stdout
        assert place.run("status", "--data-dir", "an other").returncode == 0
        assert place.run("status").returncode == 1


class TestEnv:
    def test_json(self, local_stack: LocalStack) -> None:
        variables = json.loads(local_stack.run("local", "env", "--format", "json").stdout)
        assert variables == {
            name: local_stack.environment[name]
            for name in (
                "AZURE_BATCH_ACCOUNT",
                "AZURE_BATCH_ACCESS_KEY",
                "AZURE_BATCH_ENDPOINT",
                "AZURE_STORAGE_CONNECTION_STRING",
            )
        }

    def test_a_shell_takes_it(self, local_stack: LocalStack, tmp_path: Path) -> None:
        exports = local_stack.run("local", "env").stdout
        script = exports + '\nprintf \'%s\\n%s\' "$AZURE_BATCH_ENDPOINT" "$AZURE_STORAGE_CONNECTION_STRING"'
        said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, env={}, check=True, timeout=20)
        assert said.stdout.splitlines() == [
            local_stack.environment["AZURE_BATCH_ENDPOINT"],
            local_stack.environment["AZURE_STORAGE_CONNECTION_STRING"],
        ]

    def test_credentials_are_a_file_that_the_library_reads(self, local_stack: LocalStack, tmp_path: Path) -> None:
        (tmp_path / "credentials.json").write_text(local_stack.run("local", "env", "--format", "credentials").stdout)
        settings = config.load(tmp_path, environment={"AZBATCHWRAP_AUTOSTART": "0", "AZBATCHWRAP_HOME": str(tmp_path)})
        assert settings.batch == local_stack.endpoint.batch
        assert settings.storage == local_stack.endpoint.storage
        assert settings.warnings == ()

    def test_nothing_running_is_wrong_use(self, place: Place) -> None:
        said = place.run("env")
        assert (said.returncode, said.stdout) == (2, "")
        assert "azbatchwrap local up" in said.stderr


class TestLogs:
    def test_of_both_and_of_one(self, local_stack: LocalStack) -> None:
        assert "storage | " in local_stack.run("local", "logs").stdout
        storage = local_stack.run("local", "logs", "--service", "storage", "-n", "1").stdout
        assert storage.count("\n") == 1
        assert "Azurite answers" in storage

    def test_following(self, local_stack: LocalStack) -> None:
        log = local_stack.folder / "logs" / "storage.log"
        command = [sys.executable, "-u", "-m", "azbatchwrap.cli.main", "local", "logs", "-f"]
        with subprocess.Popen(
            command, env=local_stack.environment, cwd=local_stack.folder, stdout=subprocess.PIPE, text=True
        ) as following:
            read_until(following, "Azurite answers")
            with log.open("a") as writer:
                writer.write("a new line\n")
            assert "storage | a new line" in read_until(following, "a new line")
            following.send_signal(signal.SIGINT)
            assert following.wait(timeout=30) == 130


class TestForeground:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_everything(self, place: Place, number: signal.Signals) -> None:
        with place.start("up", "--foreground") as foreground:
            read_until(foreground, "other programs:")
            assert place.run("status").returncode == 0
            foreground.send_signal(number)
            said, _ = foreground.communicate(timeout=60)
            assert foreground.returncode == 0
        assert "storage | " in said
        assert json.loads(place.run("status", "--json").stdout)["storage"]["state"] == "down"

    def test_a_part_that_dies_ends_it_with_an_error(self, place: Place) -> None:
        with place.start("up", "--foreground") as foreground:
            read_until(foreground, "other programs:")
            facts = json.loads(place.run("status", "--json").stdout)
            os.kill(facts["batch"]["pid"], signal.SIGKILL)
            said, _ = foreground.communicate(timeout=60)
        assert foreground.returncode == 1
        assert "the batch service ended by itself" in said
        assert json.loads(place.run("status", "--json").stdout)["storage"]["state"] == "down"


class TestUp:
    def test_a_connection_string_may_come_from_standard_input(self, place: Place, azurite: RunningAzurite) -> None:
        up = place.run("up", "--storage", "-", stdin=azurite.connection_string + "\n")
        assert up.returncode == 0, up.stderr
        assert azurite.blob_url in up.stdout
        assert azurite.key not in up.stdout + up.stderr

    def test_a_port_that_is_taken(self, place: Place, azurite: RunningAzurite) -> None:
        taken = str(azurite.process.blob_port)
        said = place.run("up", "--batch-port", taken)
        assert said.returncode == 2
        assert f"port {taken} of the Batch service is used by another program" in said.stderr

    def test_ports_may_be_chosen(self, place: Place) -> None:
        batch, blob, queue = (str(port) for port in free_ports(3))
        up = place.run("up", "--batch-port", batch, "--blob-port", blob, "--queue-port", queue, "--json")
        facts = json.loads(up.stdout)
        assert facts["batch"]["url"] == f"http://127.0.0.1:{batch}"
        assert facts["storage"]["url"] == f"http://127.0.0.1:{blob}/devstoreaccount1"

    @pytest.mark.parametrize("words", [("--batch-port", "70000"), ("--max-processes", "0"), ("--storage", "nonsense")])
    def test_wrong_use(self, place: Place, words: tuple[str, ...]) -> None:
        assert place.run("up", *words).returncode == 2
        assert not (place.data / "endpoint.json").exists()


@pytest.mark.parametrize("verb", ["up", "down", "status", "env", "reset", "logs"])
def test_every_verb_has_help_with_an_example(place: Place, verb: str) -> None:
    said = place.run(verb, "--help")
    assert said.returncode == 0
    assert f"azbatchwrap local {verb}" in said.stdout
