"""The archive that carries the engine to a node."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from azbatchwrap.batch.pyz import ENTRY_TIME, NODE_PACKAGE, build_engine

ENGINE = Path(__file__).parent.parent.parent / "azbatchwrap" / "engine"


def test_it_holds_the_engines_sources_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(build_engine())) as archive:
        expected = {f"{NODE_PACKAGE}/{path.name}": path.read_bytes() for path in ENGINE.glob("*.py")}
        assert {name: archive.read(name) for name in archive.namelist()} == {
            **expected,
            "__main__.py": archive.read("__main__.py"),
        }
        assert archive.testzip() is None


def test_the_same_sources_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from azbatchwrap.batch.pyz import build_engine; sys.stdout.buffer.write(build_engine())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path, env=environment
    )
    assert other.stdout == build_engine()
    with zipfile.ZipFile(io.BytesIO(build_engine())) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {ENTRY_TIME}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_it_is_built_once() -> None:
    assert build_engine() is build_engine()


def test_it_starts_without_our_packages(tmp_path: Path) -> None:
    (tmp_path / "engine.pyz").write_bytes(build_engine())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "engine.pyz", "nothing"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: engine")
