"""Scripts as they are run: in a package, and from where there is no file."""

from __future__ import annotations

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
