"""The program that calls a model deployment's scoring script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azbatchwrap.local.aml import scorer


def score(folder: Path, content: str, files: int = 3, **flags: object) -> tuple[int, str, str | None]:
    """Run it over some files; the exit code, what it said, and the rows it wrote."""
    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(content)
    (folder / "code" / "beside.py").write_text("word = 'beside'\n")
    (folder / "in").mkdir()
    for number in range(files):
        (folder / "in" / f"{number}.txt").write_text(f"content {number}")
    given = {
        "script": "score.py", "input": folder / "in", "output": folder / "out", "output-file": "rows.csv",
        "output-action": "AppendRow", "mini-batch-size": 2, "error-threshold": -1, "max-retries": 0,
        **{name.replace("_", "-"): value for name, value in flags.items()},
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-I", str(scorer.__file__), *words]
    done = subprocess.run(command, cwd=folder / "code", capture_output=True, text=True, timeout=60, check=False)
    written = folder / "out" / "rows.csv"
    return done.returncode, done.stdout + done.stderr, written.read_text() if written.exists() else None


def test_a_list_is_a_row_for_each_element(tmp_path: Path) -> None:
    script = "import beside\ndef init(): pass\ndef run(batch): return [beside.word, ('a,b', 1), [2.5]]\n"
    assert score(tmp_path, script, files=1)[::2] == (0, 'beside\n"a,b",1\n2.5\n')


def test_a_table_gives_its_rows(tmp_path: Path) -> None:
    script = (
        "class Table:\n"
        "    def itertuples(self, index, name): return iter([(1, 'x'), (2, 'y')])\n"
        "def init(): pass\n"
        "def run(batch): return Table()\n"
    )
    assert score(tmp_path, script, files=1)[::2] == (0, "1,x\n2,y\n")


def test_a_mini_batch_is_tried_again(tmp_path: Path) -> None:
    script = (
        "tries = 0\n"
        "def init(): pass\n"
        "def run(batch):\n"
        "    global tries\n"
        "    tries += 1\n"
        "    if tries < 3: raise OSError('not yet')\n"
        "    return batch\n"
    )
    code, said, rows = score(tmp_path, script, files=1, max_retries=2)
    assert (code, said.count("OSError: not yet"), (rows or "").count("0.txt")) == (0, 2, 1)


@pytest.mark.parametrize(("threshold", "code"), [(-1, 0), (2, 0), (1, 1)])
def test_the_error_threshold_counts_files(tmp_path: Path, threshold: int, code: int) -> None:
    script = "def init(): pass\ndef run(batch):\n    if len(batch) == 2: raise ValueError('two')\n    return ['one']\n"
    found, said, _ = score(tmp_path, script, error_threshold=threshold)
    assert (found, "failed: 0.txt, 1.txt" in said) == (code, True)


def test_when_every_file_fails_so_does_the_job(tmp_path: Path) -> None:
    code, said, _ = score(tmp_path, "def init(): pass\ndef run(batch): raise ValueError('no')\n")
    assert (code, "every file failed" in said) == (1, True)


def test_a_summary_needs_no_file(tmp_path: Path) -> None:
    script = "def init(): pass\ndef run(batch): return batch\n"
    assert score(tmp_path, script, output_action="SummaryOnly")[::2] == (0, None)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def run(batch): return batch\n", "has no attribute 'init'"),
        ("def init(): raise RuntimeError('no model')\n", "no model"),
        ("import no_such_module\n", "no_such_module"),
    ],
)
def test_scripts_that_cannot_begin(tmp_path: Path, script: str, words: str) -> None:
    code, said, _ = score(tmp_path, script)
    assert code == 1
    assert words in said


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    code, said, _ = score(tmp_path, "", script="other.py")
    assert code == 1
    assert "there is no scoring script other.py" in said
