"""``engine.java_runner`` and the Java of this machine, where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azbatchwrap.engine.java import JavaFailed, JavaOutput, run_program
from tests.real_parts import program

SOURCE = Path(__file__).parent.parent.parent / "examples" / "java" / "Pi.java"

#: Prints its arguments, a line on stderr, and ends with the exit code in the first argument.
PROGRAM = "import sys; print(*sys.argv[2:], sep='\\n'); print('on stderr', file=sys.stderr); sys.exit(int(sys.argv[1]))"


def run(*words: object, folder: Path | None = None, check: bool = True, timeout: float | None = None) -> JavaOutput:
    place = folder or Path.cwd()

    def find(name: str) -> str | None:
        return str(place / name) if (place / name).is_file() else None

    return run_program(words, find, str(place), check=check, timeout=timeout)


def test_a_list_and_spread_words_are_the_same_and_all_lines_are_text() -> None:
    spread = run(sys.executable, "-c", PROGRAM, 0, "a b", "ü")
    listed = run([sys.executable, "-c", PROGRAM, 0, "a b", "ü"])
    assert spread == listed == ["a b", "ü", "on stderr"]
    assert (spread.returncode, spread.stdout, spread.stderr) == (0, "a b\nü\n", "on stderr\n")


def test_a_last_line_without_an_end_is_not_lost() -> None:
    assert run(sys.executable, "-c", r"import sys; sys.stdout.write('1\r\n\x0c2')") == ["1", "\x0c2"]


def test_failure_raises_with_the_end_of_stderr_unless_told_otherwise() -> None:
    with pytest.raises(JavaFailed, match=r"exit code 3\non stderr") as caught:
        run(sys.executable, "-c", PROGRAM, 3, "out")
    assert caught.value.returncode == 3
    assert caught.value.output == ["out", "on stderr"]
    assert run(sys.executable, "-c", PROGRAM, 3, check=False).returncode == 3


def test_full_pipes_do_not_stand_still() -> None:
    flood = "import sys\nfor _ in range(20000): print('e' * 99, file=sys.stderr)\nprint('end')"
    output = run(sys.executable, "-c", flood)
    assert len(output) == 20001
    assert output[0] == "end"


def test_its_time_can_be_limited() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(sys.executable, "-c", "import time; time.sleep(600)", timeout=0.2)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"'none\.jar'"):
        run("none.jar", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="'no-such-program'"):
        run("no-such-program")
    with pytest.raises(ValueError, match="needs a jar"):
        run()
    (tmp_path / "x.jar").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match="java is not installed on this node"):
        run("x.jar", folder=tmp_path)


def test_a_real_jar(tmp_path: Path) -> None:
    subprocess.run([program("javac", "openjdk-17-jdk-headless"), "-d", tmp_path, SOURCE], check=True)
    subprocess.run(["jar", "cfe", tmp_path / "pi.jar", "Pi", "-C", tmp_path, "Pi.class"], check=True)

    output = run("pi.jar", 30, folder=tmp_path)

    assert output.stdout.splitlines() == ["3.141592653589793238462643383279"]
    assert run(["java", "-Xmx64m", "-jar", "pi.jar", "0"], folder=tmp_path).stdout == "3\n"
    with pytest.raises(JavaFailed, match="exit code 2"):
        run("pi.jar", "many", folder=tmp_path)
