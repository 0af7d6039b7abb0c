"""An instance on this machine: coming up, surviving deaths, keeping its ports and keys, being emptied and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from azbatchwrap import config
from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local import processes, stack
from azbatchwrap.local.instance import PORTS, free_ports, is_free
from azbatchwrap.local.stack import Options, Stack, Status
from tests.fixtures_stack import LocalStack, RunningAzurite, clean_environment, ended_stack, run_cli
from tests.waiting import wait_until


class Said:
    """A Progress that remembers its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, *_: object) -> None: ...
    def advance(self, *_: object) -> None: ...
    def update(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


class Running:
    """A running instance, and what a test wants to know of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = Said()
        self.stack = Stack(folder, self.said)

    def up(self, options: Options | None = None) -> Status:
        return self.stack.up(options)

    @property
    def endpoint(self) -> dict[str, dict[str, object]]:
        content: dict[str, dict[str, object]] = json.loads((self.folder / "endpoint.json").read_text())
        return content

    def pid(self, part: str) -> int:
        pid = self.endpoint[part]["pid"]
        assert isinstance(pid, int)
        return pid

    def blobs(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(str(self.endpoint["storage"]["connection_string"]))

    def batch(self) -> BatchClient:
        account = self.endpoint["batch"]
        credential = AzureNamedKeyCredential(str(account["account"]), str(account["key"]))
        return BatchClient(str(account["url"]), credential)


@pytest.fixture
def running(weird_folder: Path) -> Iterator[Running]:
    with ended_stack(weird_folder):
        running = Running(weird_folder)
        running.up()
        yield running


@pytest.fixture
def shared(local_stack: LocalStack) -> Running:
    """The instance that other tests use too: to be looked at only."""
    return Running(local_stack.folder)


@pytest.fixture
def weird_folder(tmp_path: Path) -> Path:
    """A data folder whose name holds what shells and URLs trip over."""
    return tmp_path / "dätä of 'me' %20"


@contextlib.contextmanager
def listening_on(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestUp:
    def test_both_services_answer_and_the_library_finds_them(self, shared: Running) -> None:
        assert shared.stack.status().is_up
        settings = config.load(shared.folder, environment=clean_environment(shared.folder))
        assert settings.is_local
        assert settings.batch.url == shared.endpoint["batch"]["url"]
        with shared.blobs() as client:
            assert client.get_account_information()["sku_name"]

    def test_up_again_changes_nothing(self, shared: Running) -> None:
        before = shared.endpoint
        shared.up(Options(batch_port=0, blob_port=0, queue_port=0))
        assert shared.endpoint == before
        assert shared.said.messages == []

    def test_only_the_owner_reads_it(self, shared: Running) -> None:
        assert mode(shared.folder) == 0o700
        for path in shared.folder.iterdir():
            assert mode(path) & 0o077 == 0, path
        assert mode(shared.folder / "batch" / "service.json") == 0o600
        assert mode(shared.folder / "storage" / "listening.json") == 0o600

    def test_only_this_machine_reaches_it(self, shared: Running) -> None:
        ports = {int(shared.endpoint["storage"][name]) for name in ("blob_port", "queue_port")}  # type: ignore[call-overload]
        ports.add(int(str(shared.endpoint["batch"]["url"]).rpartition(":")[2]))
        bound = {
            line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
        }
        for port in ports:
            assert f"0100007F:{port:04X}" in bound
            assert f"00000000:{port:04X}" not in bound

    def test_no_process_shows_a_key(self, shared: Running) -> None:
        keys = [str(shared.endpoint[part]["key"]).encode() for part in ("batch", "storage")]
        seen = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                seen += 1
                assert not any(key in shown for key in keys), process
        assert seen > 2

    def test_data_folders_have_keys_of_their_own(self, shared: Running, tmp_path: Path) -> None:
        other = Running(tmp_path / "other")
        with ended_stack(other.folder):
            other.up()
            for part in ("batch", "storage"):
                assert other.endpoint[part]["key"] != shared.endpoint[part]["key"]
                assert other.pid(part) != shared.pid(part)

    def test_two_at_once_start_one_instance(self, weird_folder: Path, tmp_path: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "azbatchwrap.cli.main",
            "local",
            "up",
            "--data-dir",
            str(weird_folder),
            "--json",
        ]
        with ended_stack(weird_folder):
            both = [
                subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, env=clean_environment(weird_folder))
                for _ in range(2)
            ]
            answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
            assert [process.returncode for process in both] == [0, 0]
            assert answers[0] == answers[1]
            assert answers[0]["up"]

    def test_who_waits_for_the_lock_is_told(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "LOCK_PATIENCE", 0.1)
        waiting = threading.Thread(target=running.up)
        with processes.exclusive(running.folder / "lock"):
            waiting.start()
            wait_until(lambda: bool(running.said.messages))
            assert waiting.is_alive()
        waiting.join(timeout=30)
        assert "waiting for another azbatchwrap" in running.said.messages[0]


class TestDeaths:
    def test_after_kill_9_of_the_batch_service_up_starts_only_that(self, running: Running) -> None:
        before = running.endpoint
        os.kill(running.pid("batch"), signal.SIGKILL)
        wait_until(lambda: running.stack.status().parts[0].state == "down")
        assert [part.state for part in running.stack.status().parts] == ["down", "up"]
        running.up()
        assert running.pid("batch") != before["batch"]["pid"]
        assert running.endpoint["batch"]["url"] == before["batch"]["url"]
        assert running.endpoint["storage"] == before["storage"]

    def test_after_kill_9_of_azurite_up_says_that_uploads_may_be_lost(self, running: Running) -> None:
        before = running.endpoint
        os.kill(running.pid("storage"), signal.SIGKILL)
        wait_until(lambda: running.stack.status().parts[1].state == "down")
        running.up()
        assert running.endpoint["batch"] == before["batch"]
        assert running.endpoint["storage"]["connection_string"] == before["storage"]["connection_string"]
        assert ["may be lost" in message for message in running.said.messages] == [True]

    def test_a_service_that_hangs_is_started_again(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stack, "PROBE_TIMEOUT", 0.5)
        hanging = running.pid("storage")
        os.kill(hanging, signal.SIGSTOP)
        assert [part.state for part in running.stack.status().parts] == ["up", "hangs"]
        running.up()
        assert running.pid("storage") != hanging
        assert f"process {hanging}" in running.said.messages[0]
        assert running.stack.status().is_up

    def test_a_service_that_cannot_start_shows_its_log_and_leaves_nothing_behind(self, weird_folder: Path) -> None:
        with ended_stack(weird_folder):
            running = Running(weird_folder)
            running.up()
            running.stack.down()
            data = weird_folder / "storage" / "data" / "__azurite_db_blob__.json"
            data.unlink(missing_ok=True)
            data.mkdir()
            with pytest.raises(ConfigurationError, match=r"Azurite ended at once(.|\n)*cannot start"):
                running.up()
            assert [part.state for part in running.stack.status().parts] == ["down", "down"]


class TestPorts:
    def test_they_are_kept(self, running: Running) -> None:
        before = running.endpoint
        assert running.stack.down()
        running.up()
        for name in ("url", "key", "account"):
            assert running.endpoint["batch"][name] == before["batch"][name]
        assert running.endpoint["storage"]["connection_string"] == before["storage"]["connection_string"]

    def test_free_ones_lie_where_outgoing_connections_do_not(self) -> None:
        ports = free_ports(3)
        assert len(set(ports)) == 3
        assert all(port in PORTS and is_free(port) for port in ports)

    @pytest.mark.parametrize(
        ("flag", "options"),
        [
            ("--batch-port", lambda port: Options(batch_port=port)),
            ("--blob-port", lambda port: Options(blob_port=port)),
            ("--queue-port", lambda port: Options(queue_port=port)),
        ],
    )
    def test_one_that_is_taken_is_named(self, weird_folder: Path, flag: str, options: Callable[[int], Options]) -> None:
        [port] = free_ports(1)
        with ended_stack(weird_folder), listening_on(port):
            running = Running(weird_folder)
            with pytest.raises(ConfigurationError, match=rf"port {port} of .* is used by another program(.|\n)*{flag}"):
                running.up(options(port))
            assert running.up().is_up, "a refused port is not kept"

    def test_a_kept_one_that_a_stranger_took_meanwhile_is_named(self, running: Running) -> None:
        port = int(str(running.endpoint["batch"]["url"]).rpartition(":")[2])
        running.stack.down()
        with (
            listening_on(port),
            pytest.raises(ConfigurationError, match=rf"port {port} .*keeps the ports it first took"),
        ):
            running.up()
        assert running.up().is_up

    def test_they_cannot_change_under_a_running_instance(self, running: Running) -> None:
        with pytest.raises(ConfigurationError, match="--batch-port cannot change while the instance runs"):
            running.up(Options(batch_port=free_ports(1)[0]))

    def test_nor_can_the_number_of_processes(self, running: Running) -> None:
        with pytest.raises(ConfigurationError, match="--max-processes cannot change"):
            running.up(Options(max_processes=7))
        running.stack.down()
        running.up(Options(max_processes=7))
        assert json.loads((running.folder / "batch" / "service.json").read_text())["max_processes"] == 7
        running.up(Options(max_processes=7))


class TestDown:
    def test_nothing_runs_afterwards_and_uploads_are_still_there(self, running: Running) -> None:
        with running.blobs() as client:
            client.create_container("kept").upload_blob("a", b"content")
        pids = [running.pid("batch"), running.pid("storage")]
        assert running.stack.down()
        assert not (running.folder / "endpoint.json").exists()
        assert not any(
            Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids
        )
        running.up()
        with running.blobs() as client:
            assert client.get_blob_client("kept", "a").download_blob().readall() == b"content"
        assert running.said.messages == []

    def test_down_when_nothing_runs(self, tmp_path: Path) -> None:
        assert not Stack(tmp_path / "new").down()

    def test_a_process_that_took_the_pid_of_a_dead_service_is_left_alone(self, running: Running) -> None:
        running.stack.down()
        listening = running.folder / "storage" / "listening.json"
        with subprocess.Popen(["sleep", "60"]) as stranger:
            listening.write_text(json.dumps({"pid": stranger.pid}))
            assert not running.stack.down()
            assert stranger.poll() is None
            stranger.kill()


class TestReset:
    def test_the_account_is_empty_and_keeps_running_with_its_ports_and_keys(self, running: Running) -> None:
        before = running.endpoint
        with running.blobs() as client:
            client.create_container("gone").upload_blob("a", b"content")
        with running.batch() as batch:
            batch.create_job(BatchJobCreateOptions(id="gone", pool_info=BatchPoolInfo(pool_id="none-yet")))
            assert [job.id for job in batch.list_jobs()] == ["gone"]
        locked = running.folder / "batch" / "nodes" / "read only"
        locked.mkdir(parents=True)
        (locked / "file").write_text("left by a task")
        locked.chmod(0o500)
        assert running.stack.reset().is_up
        assert not locked.exists()
        assert list(running.folder.glob(".removed*")) == []
        assert running.endpoint["batch"]["url"] == before["batch"]["url"]
        assert running.endpoint["storage"]["connection_string"] == before["storage"]["connection_string"]
        with running.blobs() as client, pytest.raises(ResourceNotFoundError):
            client.get_blob_client("gone", "a").download_blob()
        with running.batch() as batch:
            assert list(batch.list_jobs()) == []

    def test_what_is_down_stays_down(self, running: Running) -> None:
        running.stack.down()
        assert not running.stack.reset().is_up
        assert not (running.folder / "storage").exists()


class TestOtherStorage:
    def test_an_account_that_is_there_is_used_and_kept(self, weird_folder: Path, azurite: RunningAzurite) -> None:
        with ended_stack(weird_folder):
            running = Running(weird_folder)
            assert running.up(Options(storage=Secret(azurite.connection_string))).is_up
            running.stack.down()
            status = running.up()
            assert [(part.name, part.pid is None) for part in status.parts] == [("batch", False), ("storage", True)]
            assert running.endpoint["storage"]["connection_string"] == azurite.connection_string
            assert not (weird_folder / "storage").exists()
            with pytest.raises(ConfigurationError, match="--storage cannot change while the instance runs"):
                running.up(Options(storage=Secret("azurite")))
            with running.blobs() as client:
                client.create_container("foreign-stays")
                running.stack.reset()
                assert client.get_container_client("foreign-stays").exists()
            running.stack.down()
            running.up(Options(storage=Secret("azurite")))
            assert running.endpoint["storage"]["connection_string"] != azurite.connection_string

    def test_a_wrong_key_is_refused_before_anything_starts(self, weird_folder: Path, azurite: RunningAzurite) -> None:
        wrong = azurite.connection_string.replace(azurite.key, "d3Jvbmc=")
        with pytest.raises(ConfigurationError, match="refused its key: AuthorizationFailure") as caught:
            Stack(weird_folder).up(Options(storage=Secret(wrong)))
        assert "d3Jvbmc=" not in str(caught.value)

    def test_an_account_that_does_not_answer(self, weird_folder: Path, azurite: RunningAzurite) -> None:
        [port] = free_ports(1)
        nowhere = azurite.connection_string.replace(azurite.blob_url, f"http://127.0.0.1:{port}/devstoreaccount1")
        with pytest.raises(ConfigurationError, match="does not answer"):
            Stack(weird_folder).up(Options(storage=Secret(nowhere)))


class TestDataFolder:
    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(
            ConfigurationError, match=r"data folder .*file cannot be used: File exists(.|\n)*--data-dir"
        ):
            Stack(tmp_path / "file").up()

    def test_a_folder_with_somebody_s_files_is_refused_and_untouched(self, tmp_path: Path) -> None:
        (tmp_path / "batch").mkdir()
        (tmp_path / "batch" / "thesis.txt").write_text("precious")
        tmp_path.chmod(0o755)
        with pytest.raises(ConfigurationError, match=r"holds batch already, and no instance.json"):
            Stack(tmp_path).up()
        assert not Stack(tmp_path).reset().parts
        assert (tmp_path / "batch" / "thesis.txt").read_text() == "precious"
        assert mode(tmp_path) == 0o755

    @pytest.mark.parametrize("content", ["{", "[]", '{"batch": {}}', '{"batch": 1, "storage": 2}'])
    def test_broken_records_are_named(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "instance.json").write_text(content)
        with pytest.raises(ConfigurationError, match=r"instance\.json"):
            Stack(tmp_path).up()

    def test_a_disk_that_takes_nothing_more_is_said(self, tmp_path: Path) -> None:
        up = f"ulimit -f 0; exec {shlex.quote(sys.executable)} -m azbatchwrap.cli.main local up --data-dir new"
        said = subprocess.run(
            ["/bin/sh", "-c", up], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert said.returncode == 2
        assert f"the data folder {tmp_path / 'new'} cannot be used: File too large" in said.stderr


class TestLogs:
    def test_they_are_bounded_while_a_process_goes_on_writing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "LOG_LIMIT", 1000)
        log = tmp_path / "a.log"
        with log.open("ab", buffering=0) as writer:
            for number in range(500):
                writer.write(b"line %d\n" % number)
                processes.rotate(log)
            assert log.stat().st_size <= 1010
            kept = log.with_name("a.log.1")
            assert kept.stat().st_size <= 1000
            assert mode(kept) == 0o600
        assert processes.tail(log, 1) == "line 499"

    def test_no_log_has_no_lines(self, tmp_path: Path) -> None:
        assert processes.tail(tmp_path / "none.log", 5) == ""


def test_programs_that_start_together_with_nothing_configured_share_one_instance(
    weird_folder: Path, tmp_path: Path
) -> None:
    environment = clean_environment(weird_folder) | {"AZBATCHWRAP_AUTOSTART": "1"}
    told: list[str] = []
    found: list[config.Settings] = []

    def load() -> None:
        found.append(config.load(tmp_path, environment=environment, tell=told.append))

    with ended_stack(weird_folder):
        programs = [threading.Thread(target=load) for _ in range(2)]
        for program in programs:
            program.start()
        for program in programs:
            program.join(timeout=60)
        assert len(found) == 2
        assert found[0] == found[1]
        assert found[0].is_local
        assert told[0] == f"starting Azure Batch on this machine in {weird_folder} …"
        assert run_cli("local", "status", folder=tmp_path, environment=environment).returncode == 0
