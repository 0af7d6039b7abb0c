"""Scripts as they are run: in a package, cell by cell, and from where there is no file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fixtures_stack import LocalStack

SCRIPT = """
from __future__ import annotations

import nothing_that_nodes_have as unused
from azbatchwrap import Session
from .neighbour import FACTOR

def times(number):
    return number * FACTOR

if __name__ == "__main__":
    with Session(project="sessions", pool={pool!r}) as session:
        future = session.submit(times, 14)
        with session.interactive(engines=1) as warm:
            print(future.result(), repr(future.stderr()), warm.submit(times, 2).result())
"""

PIPED = """
from azbatchwrap import Session

def nothing():
    return None

Session(project="sessions", pool={pool!r}).submit(nothing).result()
"""

CELLS = [
    "%config InteractiveShell.cache_size = 100",
    "import math\nfrom azbatchwrap import Session\nFACTOR = 3",
    "def scaled(x):\n    return math.sqrt(x) * FACTOR",
    "s = Session(project='sessions', pool={pool!r})\nfirst = s.map(scaled, [1, 4])",
    "print(s.gather(first), first[0])",
    "!echo from the shell",
    "def more(x):\n    return scaled(x) + 1",
    "print(await s.submit(more, 9))",
    "def scaled(x):\n    return -x",
    "print(s.gather(s.submit(scaled, 9), s.submit(more, 9)))",
    "with s.interactive(engines=1) as warm:\n    print(warm.submit(more, 1).result())",
    "print(first[0]._repr_html_(), s._repr_html_().count('<svg'))",
    "s.close()",
]
NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in json.load(sys.stdin):
    shell.run_cell(cell, store_history=True)
"""


def run(stack: LocalStack, folder: Path, *words: str, source: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=stack.environment,
        input=source,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_module_of_a_package_is_run(local_stack: LocalStack, pool_id: str, tmp_path: Path) -> None:
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "neighbour.py").write_text("FACTOR = 3\n")
    (package / "main.py").write_text(SCRIPT.format(pool=pool_id))
    (tmp_path / "nothing_that_nodes_have.py").write_text("")
    done = run(local_stack, tmp_path, "-m", "package_of_mine.main")
    assert done.stdout == "42 '' 6\n", done.stderr


def test_a_script_without_a_file_is_refused(local_stack: LocalStack, pool_id: str, tmp_path: Path) -> None:
    done = run(local_stack, tmp_path, "-", source=PIPED.format(pool=pool_id))
    assert "ConfigurationError: functions typed at a prompt or piped into Python have no source" in done.stderr


def test_cells_of_a_notebook(local_stack: LocalStack, pool_id: str, tmp_path: Path) -> None:
    """Functions of earlier cells are there, and those defined again are the new ones."""
    cells = [cell.replace("{pool!r}", repr(pool_id)) for cell in CELLS]
    (tmp_path / "kernel.py").write_text(NOTEBOOK)
    done = run(local_stack, tmp_path, "kernel.py", source=json.dumps(cells))
    lines = done.stdout.splitlines()
    assert lines[0].startswith("[3.0, 6.0] <Future scaled-"), done.stdout
    assert lines[1:5] == ["from the shell", "10.0", "[-9, -8]", "0"]
    assert "<b>finished</b> 1" in lines[5]
