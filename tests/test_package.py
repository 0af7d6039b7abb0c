"""The wheel and the sdist: complete, told right, and enough to work with, far from this repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.fixtures_stack import clean_environment, ended_stack

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "azbatchwrap"
#: How users are told to install.
INSTALL = re.compile(r"azbatchwrap\[([\w,]+)\]")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def files_of_the_package() -> set[str]:
    paths = (path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not any(part.startswith((".", "__pycache__")) for part in path.parts)}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_the_package()


def test_the_sdist_has_what_it_takes_to_build_test_and_read(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", ".ci/run", "task.json"}
    wanted |= {
        "tests/conftest.py",
        "docs/wrapper.md",
        "examples/driver.py",
        "deploy/speech/Dockerfile",
        "tasks/1_task.py",
    }
    assert wanted | files_of_the_package() <= names


def test_the_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["License-Expression"]) == ("azbatchwrap", "MIT")
    assert metadata["Requires-Python"] == ">=3.10"
    pythons = {name for name in metadata.get_all("Classifier", []) if re.fullmatch(r".* :: 3\.\d+", name)}
    assert pythons == {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)}


def test_the_extras_that_users_are_told_of_exist(metadata: Message) -> None:
    told = {
        extra
        for folder, pattern in ((PACKAGE, "*.py"), (ROOT, "*.md"), (ROOT / "docs", "*.md"), (ROOT / "deploy", "*"))
        for path in folder.rglob(pattern)
        if path.is_file() and ".venv" not in path.parts
        for found in INSTALL.findall(path.read_text(encoding="utf-8"))
        for extra in found.split(",")
    }
    assert {"local", "redis", "gcp", "aml", "speech", "mgmt"} <= told
    assert told <= set(metadata.get_all("Provides-Extra", []))


def test_a_wheel_is_all_it_takes(wheel: Path, tmp_path: Path) -> None:
    """From an empty folder to results: the scaffold, the local services, the engine and the tasks come from the wheel."""
    site, home, work = tmp_path / "site", tmp_path / "home", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    work.mkdir()
    environment = clean_environment(home) | {"PYTHONPATH": str(site), "AZBATCHWRAP_AUTOSTART": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run("-c", "import azbatchwrap; print(azbatchwrap.__file__)")
    assert Path(place.strip()).is_relative_to(site)
    cli = ("-m", "azbatchwrap.cli.main")
    with ended_stack(home):
        run(*cli, "init", ".")
        assert "2 tasks: 2 succeeded" in run(*cli, "run", "task.json")
        assert run("driver.py").count("succeeded") == 2
        run(*cli, "local", "down")
