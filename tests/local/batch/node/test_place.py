from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import NodeFolders, NodePlace, make_node_python


def test_a_node_has_azures_folders_and_nothing_else(folders: NodeFolders) -> None:
    names = sorted(path.name for path in folders.place.root.iterdir())
    assert names == ["applications", "fsmounts", "shared", "startup", "volatile", "workitems"]
    assert folders.task_folder("j", "t") == folders.workitems / "j" / "job-1" / "t"
    assert folders.start_task_folder() == folders.startup


def test_create_keeps_what_is_there_and_remove_leaves_nothing(folders: NodeFolders) -> None:
    kept = folders.shared / "kept"
    kept.write_text("x")
    folders.create()
    assert kept.read_text() == "x"
    folders.remove()
    assert not folders.place.root.exists()
    assert not folders.place.temporary.exists()


def test_the_temporary_folder_is_short_and_the_nodes_own() -> None:
    node = "tvmps_" + "a" * 64 + "_d"
    one = NodePlace(Path("/home/user/data") / "nodes" / ("p" * 64) / node, Path("/bin"))
    other = NodePlace(Path("/home/user/data") / "nodes" / ("q" * 64) / node, Path("/bin"))
    assert one.temporary != other.temporary
    assert len(str(one.temporary)) < 40


def test_the_nodes_python_has_no_packages(tmp_path: Path) -> None:
    bin_folder = make_node_python(tmp_path / "python")
    assert make_node_python(tmp_path / "python") == bin_folder  # again is no error
    asked = "import sys, json, site; print(json.dumps([sys.prefix, sys.path, site.ENABLE_USER_SITE, sys.version]))"
    answer = subprocess.run([bin_folder / "python3", "-c", asked], capture_output=True, text=True, check=True, env={})
    prefix, path, user_site, version = json.loads(answer.stdout)
    assert prefix == str(tmp_path / "python")
    assert version == sys.version
    assert not user_site
    packages = [entry for entry in path if entry.endswith(("site-packages", "dist-packages"))]
    assert [Path(entry).is_relative_to(tmp_path) for entry in packages] == [True]
    missing = subprocess.run([bin_folder / "python3", "-c", "import aiohttp"], capture_output=True, env={}, check=False)
    assert missing.returncode == 1


def test_the_nodes_python_makes_environments_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("venv")
    python = make_node_python(tmp_path / "python") / "python3"
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "own"], check=True, env={}, capture_output=True)
    asked = "import sys; print(sys.prefix)"
    answer = subprocess.run([tmp_path / "own/bin/python3", "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(tmp_path / "own")
