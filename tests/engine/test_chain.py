"""Which task files run, in which order, with which arguments (decisions 6 and 7 of the design)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.engine.chain import files_to_run, first_arguments, next_arguments, number_of

from .conftest import Node

ECHO = """
def do_action(engine, *args):
    print(engine.step_name, *map(repr, args))
    return args + (engine.step_name,)
"""


def test_numbered_files_run_in_numeric_order_and_pass_values_on(node: Node) -> None:
    node.lay_out({f"tasks/{name}": ECHO for name in ("2_task.py", "10_task.py", "1_task.py", "report.py")})

    run = node.run("1_task.py", "input.txt", "2")

    assert run.code == 0
    assert run.stdout.splitlines() == [
        "1_task.py 'input.txt' '2'",
        "2_task.py 'input.txt' '2' '1_task.py'",
        "10_task.py 'input.txt' '2' '1_task.py' '2_task.py'",
    ]
    assert run.result["value"] == ["input.txt", "2", "1_task.py", "2_task.py", "10_task.py"]
    assert [step["name"] for step in run.result["steps"]] == ["1_task.py", "2_task.py", "10_task.py"]


def test_the_chain_starts_at_the_named_file(node: Node) -> None:
    node.lay_out({f"tasks/{name}": ECHO for name in ("1_a.py", "2_b.py", "3_c.py")})
    assert node.run("2_b.py").result["value"] == ["2_b.py", "3_c.py"]


def test_a_file_without_a_number_runs_alone(node: Node) -> None:
    node.lay_out({f"tasks/{name}": ECHO for name in ("1_a.py", "report.py")})
    assert node.run("report.py").result["value"] == ["report.py"]


def test_chain_false_runs_only_the_named_file(node: Node) -> None:
    node.lay_out({f"tasks/{name}": ECHO for name in ("1_a.py", "2_b.py")})
    assert node.run("1_a.py", chain=False).result["value"] == ["1_a.py"]


def test_an_unknown_file_fails_and_names_those_there_are(node: Node) -> None:
    node.lay_out({"tasks/1_a.py": ECHO})
    run = node.run("2_b.py")
    assert run.code == 1
    assert run.error["type"] == "FileNotFoundError"
    assert "'2_b.py'" in run.error["message"]
    assert "1_a.py" in run.error["message"]


def test_leading_zeros_and_equal_numbers(tmp_path: Path) -> None:
    for name in ("01_a.py", "1_b.py", "002.py", "3.py", "10.py", "x.py", "4.txt"):
        (tmp_path / name).touch()
    assert files_to_run(str(tmp_path), "1_b.py", chain=True) == ["1_b.py", "01_a.py", "002.py", "3.py", "10.py"]


@given(st.permutations([1, 2, 3, 9, 10, 11, 100]), st.integers(0, 6))
def test_the_order_is_numeric_whatever_the_folder_says(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], start: int
) -> None:
    folder = tmp_path_factory.mktemp("tasks")
    for number in numbers:
        (folder / f"{number}_task.py").touch()
    first = numbers[start]
    expected = [f"{number}_task.py" for number in sorted(numbers) if number >= first]
    assert files_to_run(str(folder), f"{first}_task.py", chain=True) == expected


@pytest.mark.parametrize(("name", "number"), [("1_a.py", 1), ("010.py", 10), ("a1.py", None), ("²_a.py", None)])
def test_number_of(name: str, number: int | None) -> None:
    assert number_of(name) == number


def any_number(engine: Any, *args: Any) -> None: ...
def one(engine: Any, value: Any) -> None: ...
def one_with_default(engine: Any, value: Any = None) -> None: ...
def two(engine: Any, left: Any, right: Any) -> None: ...
def none(engine: Any) -> None: ...
def one_and_any(engine: Any, first: Any, *rest: Any) -> None: ...
def keywords(engine: Any, value: Any, *, option: int = 1) -> None: ...


class Callable:
    def __call__(self, engine: Any, value: Any) -> None: ...

    def method(self, engine: Any, value: Any) -> None: ...


@functools.wraps(one)
def decorated(*args: Any, **options: Any) -> None: ...


@pytest.mark.parametrize(
    ("do_action", "words", "expected"),
    [
        (any_number, ["a", "b"], ("a", "b")),
        (any_number, [], ()),
        (one_and_any, ["a", "b"], ("a", "b")),
        (two, ["a", "b"], ("a", "b")),
        (one, ["a"], ("a",)),
        (one, ["a", "b"], (["a", "b"],)),
        (one, [], ([],)),
        (one_with_default, [], ()),
        (keywords, ["a", "b"], (["a", "b"],)),
        (decorated, ["a", "b"], (["a", "b"],)),
        (Callable(), ["a", "b"], (["a", "b"],)),
        (Callable().method, ["a", "b"], (["a", "b"],)),
    ],
)
def test_arguments_of_the_first_step(do_action: Any, words: list[str], expected: tuple[Any, ...]) -> None:
    assert first_arguments(do_action, words) == expected


@pytest.mark.parametrize("do_action", [any_number, one, two])
def test_whole_hands_over_the_list(do_action: Any) -> None:
    assert first_arguments(do_action, ["a"], whole=True) == (["a"],)


@pytest.mark.parametrize(
    ("do_action", "value", "expected"),
    [
        (any_number, ("a", "b"), ("a", "b")),
        (any_number, ["a", "b"], ("a", "b")),
        (any_number, "ab", ("ab",)),
        (any_number, None, (None,)),
        (two, ["a", "b"], ("a", "b")),
        (one, ["a", "b"], (["a", "b"],)),
        (one, ("a", "b"), (("a", "b"),)),
        (one, {"k": 1}, ({"k": 1},)),
        (none, "ab", ()),
    ],
)
def test_arguments_of_a_later_step(do_action: Any, value: Any, expected: tuple[Any, ...]) -> None:
    assert next_arguments(do_action, value) == expected


def test_arguments_keep_every_character(node: Node) -> None:
    words = ["a b", "'q'", '"', "$HOME `id`", "line\nline", "ümläut 日本 🎈", "\\", "", {"k": [1, None]}, 1.5]
    node.lay_out({"tasks/1_task.py": "def do_action(engine, *args):\n    return args"})
    assert node.run("1_task.py", *words).result["value"] == words


def test_long_arguments_come_from_a_file(node: Node) -> None:
    node.lay_out({"tasks/1_task.py": "def do_action(engine, words):\n    return len(words)"})
    folder = node.new_folder()
    (folder / "args.json").write_text("[" + ",".join(['"word"'] * 50_000) + "]\n")
    run = node.run("1_task.py", folder=folder, settings={"AZBATCHWRAP_ARGS": "@args.json"})
    assert run.result["value"] == 50_000


def test_task_files_import_their_neighbours_and_the_application_but_shadow_no_library(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "import neighbour, package.part, json\ndef do_action(engine): "
            "return [neighbour.X, package.part.Y, json.dumps(1), __name__]",
            "tasks/neighbour.py": "X = 1",
            "tasks/json.py": "raise RuntimeError('not the json of the standard library')",
            "app/package/part.py": "Y = 2",
        }
    )
    assert node.run("1_task.py").result["value"] == [1, 2, "1", "1_task"]


def test_task_files_import_their_neighbours_relatively(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "from . import neighbour\nfrom .package.part import Y\n"
            "def do_action(engine): return [neighbour.X, Y]",
            "tasks/2_task.py": "from .neighbour import X\ndef do_action(engine, *values): return [*values, X]",
            "tasks/neighbour.py": "from .package.part import Y\nX = Y - 1",
            "tasks/package/part.py": "Y = 2",
        }
    )
    run = node.run("1_task.py")
    assert run.result["value"] == [1, 2, 1]
    assert run.stderr == ""
