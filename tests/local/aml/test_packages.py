"""The packages of a conda file."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from azbatchwrap.local.aml.packages import PackagesFailed, Pythons, requirements


@pytest.mark.parametrize(
    ("conda", "expected"),
    [
        ("", []),
        ("dependencies: [python=3.10, pip]", []),
        (
            "dependencies:\n- numpy=1.26\n- scikit-learn\n- conda-forge::pandas>=2",
            ["numpy==1.26.*", "scikit-learn", "pandas>=2"],
        ),
        ("dependencies:\n- numpy=1.26.4=py310h\n- x==1.0", ["numpy==1.26.4.*", "x==1.0"]),
        ("dependencies:\n- pip:\n  - a==1\n  - b[extra]>=2", ["a==1", "b[extra]>=2"]),
        ("name: only", []),
    ],
)
def test_what_pip_is_asked_for(conda: str, expected: list[str]) -> None:
    assert requirements(conda) == expected


@pytest.mark.parametrize("conda", ["[a: b", "- just\n- a list"])
def test_what_is_no_conda_file(conda: str) -> None:
    with pytest.raises(PackagesFailed, match="cannot be read"):
        requirements(conda)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of one module, as a wheel on this disk."""
    path = tmp_path / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("greeting.py", "word = 'hello'\n")
        archive.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr(
            "greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("greeting-1.0.dist-info/RECORD", "greeting.py,,\n")
    return path


def test_an_environment_is_made_once(tmp_path: Path, wheel: Path) -> None:
    pythons = Pythons(tmp_path / "environments", {})
    environment = {"condaFile": f"dependencies:\n- pip:\n  - --no-index\n  - {wheel}\n"}
    path = pythons.bin_for(environment)
    said = subprocess.run(
        [path / "python", "-c", "import greeting; print(greeting.word)"], capture_output=True, check=True
    )
    assert said.stdout == b"hello\n"
    wheel.unlink()
    assert pythons.bin_for(environment) == path


def test_without_packages_there_is_nothing_of_ours(tmp_path: Path) -> None:
    path = Pythons(tmp_path / "environments", {}).bin_for(None)
    code = "import importlib.util as u; print(u.find_spec('azbatchwrap'), u.find_spec('click'))"
    said = subprocess.run(
        [path / "python", "-c", code], capture_output=True, check=True, env={"PATH": os.defpath}, cwd=tmp_path
    )
    assert said.stdout == b"None None\n"
