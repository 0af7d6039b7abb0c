"""The scripts in the documents run as they stand there: each is a file of its name, in one folder per document."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_stack import LocalStack
from tests.test_documentation import FENCE, ROOT

DOCUMENTS = ("tutorial.md", "how-to.md", "migration.md")
#: Too large for one machine: planned, not run.
PLANNED = frozenset({"large.py"})
#: What comes out, where the text around the script says it.
SAID = {
    "many.py": "none failed: TypeError(",
    "files.py": "[4.0, 6.0]\n",
    "some_fail.py": "5 <class 'TypeError'>\n",
    "merge.py": "8555\n",
    "logs.py": "step 2\n",
    "resize.py": "2 nodes\n",
    "large.py": "20 nodes and 1000 spot nodes",
    "executor.py": "[0, 1, 4, 9, 16]\n",
    "wrapper_driver.py": "succeeded ['hello', '2', '34']\n",
    "submitit_driver.py": "[11, 22, 33]\n",
    "pool_driver.py": "[0, 1, 8, 27, 64]\n",
}


def scripts(document: str) -> Iterator[tuple[str, str]]:
    """Name and text of every Python block that begins with ``# NAME.py``."""
    for language, text in FENCE.findall((ROOT / "docs" / document).read_text(encoding="utf-8")):
        first = text.partition("\n")[0]
        if language == "python" and first.startswith("# ") and first.endswith(".py"):
            yield first.removeprefix("# "), text


CASES = [(document, name) for document in DOCUMENTS for name, _ in scripts(document)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each document a folder with all its scripts: they import each other."""
    made = {document: tmp_path_factory.mktemp(Path(document).stem) for document in DOCUMENTS}
    for document, folder in made.items():
        for name, text in scripts(document):
            (folder / name).write_text(text)
    return made


@pytest.mark.parametrize(("document", "name"), CASES)
def test_a_script_runs(local_stack: LocalStack, folders: dict[str, Path], document: str, name: str) -> None:
    variables = local_stack.environment | {"AZBATCHWRAP_PROJECT": "snippets"}
    command = (
        [sys.executable, "-m", "azbatchwrap.cli.main", "plan", name] if name in PLANNED else [sys.executable, name]
    )
    done = subprocess.run(
        command, cwd=folders[document], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID.get(name, "") in done.stdout
