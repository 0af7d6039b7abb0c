"""Runs jars and other programs for a task."""

from __future__ import annotations

import os
import shutil
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: So many of a failed program's last lines are part of the error.
LINES_SHOWN = 20


class JavaOutput(list):  # type: ignore[type-arg] # list[str] cannot be subclassed on Python 3.8
    """All lines a program printed, stdout first. ``stdout`` and ``stderr`` are the texts, ``returncode`` as usual."""

    def __init__(self, returncode: int, stdout: str, stderr: str) -> None:
        super().__init__(_lines(stdout) + _lines(stderr))
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class JavaFailed(RuntimeError):
    """A program ended with an exit code that is not 0. ``output`` holds all it printed."""

    def __init__(self, command: Sequence[str], output: JavaOutput) -> None:
        last = "\n".join(_lines(output.stderr or output.stdout)[-LINES_SHOWN:])
        super().__init__(f"{' '.join(command)} ended with exit code {output.returncode}\n{last}".rstrip())
        self.returncode = output.returncode
        self.output = output


def run_program(
    words: Sequence[Any],
    find_file: Callable[[str], str | None],
    folder: str,
    *,
    check: bool,
    timeout: float | None,
) -> JavaOutput:
    """See `Engine.java_runner`."""
    command = _command(words, find_file)
    # Both pipes are read at the same time, so a program that fills one of them does not stand still.
    ended = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=timeout)
    output = JavaOutput(ended.returncode, _text(ended.stdout), _text(ended.stderr))
    if check and ended.returncode != 0:
        raise JavaFailed(command, output)
    return output


def _command(words: Sequence[Any], find_file: Callable[[str], str | None]) -> list[str]:
    if len(words) == 1 and isinstance(words[0], (list, tuple)):
        words = words[0]
    command = [str(word) for word in words]
    if not command:
        raise ValueError("java_runner needs a jar or a command line")
    if command[0].lower().endswith(".jar"):
        command[:0] = ["java", "-jar"]
    if "-jar" in command[1:-1]:
        at = command.index("-jar") + 1
        jar = find_file(command[at])
        if jar is None:
            raise FileNotFoundError(f"there is no {command[at]!r} among the inputs, application files or task files")
        command[at] = jar
    return [_program(command[0]), *command[1:]]


def _program(name: str) -> str:
    """Where a program is; ``java`` is also looked for in JAVA_HOME."""
    found = shutil.which(name)
    if found is None and name == "java" and os.environ.get("JAVA_HOME"):
        found = shutil.which(os.path.join(os.environ["JAVA_HOME"], "bin", "java"))
    if found is not None:
        return found
    if name == "java":
        raise FileNotFoundError(
            "java is not installed on this node: let the pool's start task install a JDK, or use an image with one"
        )
    raise FileNotFoundError(f"the program {name!r} is not on this node's PATH")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").replace("\r\n", "\n")


def _lines(text: str) -> list[str]:
    """Lines as a terminal shows them: str.splitlines would also cut at form feeds and Unicode separators."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]
