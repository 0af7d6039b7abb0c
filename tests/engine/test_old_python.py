"""The engine runs on the oldest Python it promises, and keeps to what that one has."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from azbatchwrap import names
from azbatchwrap.batch.pyz import ENTRY_SCRIPT
from azbatchwrap.engine import facts, node_folder

from .conftest import BlobServer, Node

ENGINE = Path(facts.__file__).parent
OLDEST = (3, 8)
#: Methods and functions that came after the oldest version.
TOO_NEW = {
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "with_stem",
    "readlink",
    "hardlink_to",
    "pairwise",
    "batched",
}


@pytest.mark.parametrize("path", sorted(ENGINE.glob("*.py")), ids=lambda path: path.name)
def test_sources_keep_to_the_oldest_version(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=OLDEST)
    assert "from __future__ import annotations" in path.read_text()
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert attributes & TOO_NEW == set()
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


def test_the_entry_script_can_be_read_by_any_python_3() -> None:
    tree = ast.parse(ENTRY_SCRIPT, feature_version=(3, 4))
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree))


def other_python(version: str) -> str:
    """A working interpreter of that version on this machine, or a skip."""
    found = shutil.which(f"python{version}")
    if found is not None:
        major, minor = version.split(".")
        show = f"import sys; print(sys.executable if sys.version_info[:2] == ({major}, {minor}) else '')"
        asked = subprocess.run([found, "-c", show], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
        # A version manager's stand-in that would need a selection first.
        for path in sorted(Path(found).parent.parent.glob(f"versions/{version}.*/bin/python{version}")):
            return str(path)
    pytest.skip(f"this machine has no Python {version}")


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.12", "3.13", "3.14"])
def test_a_task_runs_on_other_pythons(tmp_path: Path, blob_server: BlobServer, version: str) -> None:
    node = Node(tmp_path / "node", blob_server, other_python(version))
    node.prepare(
        {
            "inputs/a.txt": "ä",
            "tasks/1_task.py": """
import sys
def do_action(engine, *args):
    engine.add_file_to_upload("a.txt")
    engine.data_to_upload(b"x", "b.bin")
    engine.log.info("here")
    out = engine.java_runner(sys.executable, "-c", "print(1)")
    return {"args": args, "out": out, "version": "%d.%d" % sys.version_info[:2]}
""",
            "tasks/2_task.py": "import time\ndef do_action(engine, value):\n    time.sleep(600 if engine.attempt < 0 else 0)\n"
            "    return value",
        }
    )
    run = node.run("1_task.py", "a", {"b": [1.5, None]}, timeout=30, retries=1)
    assert run.code == 0, run.stderr
    assert run.result["value"] == {"args": ["a", {"b": [1.5, None]}], "out": ["1"], "version": version}
    assert run.result["outputs"] == ["a.txt", "b.bin"]

    late = node.run_code("def do_action(engine): time.sleep(600)", timeout=0.5)
    assert (late.code, late.error["type"]) == (124, "TimeoutError")


def test_a_python_that_is_too_old_says_so(tmp_path: Path, blob_server: BlobServer) -> None:
    node = Node(tmp_path / "node", blob_server, other_python("3.7"))
    run = node.try_prepare({"inputs/a": "x"})
    assert run.code == 1
    assert "needs Python 3.8 or later" in run.stderr


def test_names_agree_with_the_client_side() -> None:
    assert facts.OUTPUT_FOLDER == names.OUTPUT_FOLDER
    assert facts.RESULT_FILE == names.RESULT_FILE
    assert facts.LOGS_FOLDER == names.LOGS_FOLDER
    assert facts.RESERVED_OUTPUTS == names.RESERVED_OUTPUTS
    assert node_folder.NodeFolder(Path("/shared")).root == Path("/shared") / names.NODE_FOLDER
    assert node_folder.NAME_PATTERN.pattern == names.ID_PATTERN.pattern
    source = "".join(path.read_text() for path in ENGINE.glob("*.py"))
    variables = [value for name, value in vars(names).items() if name.endswith("_VARIABLE")]
    assert [variable for variable in variables if f'"{variable}"' not in source] == []
    blob = names.content_blob("ab" * 32)
    assert blob == f"content/ab/{'ab' * 32}"
