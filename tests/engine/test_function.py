"""Functions of the deployed sources as tasks: of modules, of a script, on the oldest Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import BlobServer, Node
from .test_old_python import other_python

MODULE = """
class Odd(Exception):
    pass

def add(a, b=0):
    return a + b

def fail(*args):
    raise Odd(*args)

def leave(code):
    raise SystemExit(code)

def no_json():
    return {1}

async def later(x):
    return x

def each(n):
    yield from range(n)
"""

SCRIPT = """\
import nothing_of_the_kind as missing
from nothing_of_the_kind import Base

FACTOR = 3

class Thing(Base):
    pass

def times(x):
    return x * FACTOR

def use_missing():
    return missing.x

def whose():
    return times.__module__, __name__
"""


def call(node: Node, name: str, *args: Any, module: str = "work", **more: Any) -> Any:
    order = {"module": module, "name": name, **more.pop("function", {})}
    if module == "__main__":
        order["file"] = "my script.py"
    return node.run(module, list(args), more.pop("kwargs", {}), function=order, **more)


@pytest.fixture
def ready(node: Node) -> Node:
    node.lay_out({"app/work.py": MODULE, "app/my script.py": SCRIPT})
    return node


def test_a_function_is_called_with_what_came_along(ready: Node) -> None:
    run = call(ready, "add", 1, kwargs={"b": 2})
    assert (run.code, run.result["value"], run.result["state"]) == (0, 3, "succeeded")
    assert [step["name"] for step in run.result["steps"]] == ["add"]


def test_a_function_that_is_async_or_yields_is_run_to_its_end(ready: Node) -> None:
    assert call(ready, "later", 5).result["value"] == 5
    assert call(ready, "each", 3).result["value"] == [0, 1, 2]


def test_an_exception_is_recorded_so_that_it_can_be_raised_again(ready: Node) -> None:
    run = call(ready, "fail", "odd", 1)
    assert run.code == 1
    assert {name: run.error[name] for name in ("type", "module", "args")} == {
        "type": "Odd", "module": "work", "args": ["odd", 1],
    }  # fmt: skip
    assert 'work.py", line 9, in fail' in run.error["traceback"]
    assert "azbatchwrap_engine" not in run.error["traceback"]


def test_exit_codes(ready: Node) -> None:
    assert call(ready, "leave", 0).result["value"] is None
    assert call(ready, "leave", 7).code == 7


def test_retries_for_some_exceptions_only(ready: Node) -> None:
    for names, attempts in (([], 1), (["KeyError"], 1), (["Odd"], 2), (["builtins.Exception"], 2), (None, 2)):
        run = call(ready, "fail", retries=1, retry_exceptions=names)
        assert (run.code, run.result["attempts"]) == (1, attempts), names


def test_what_json_does_not_hold(ready: Node) -> None:
    assert call(ready, "no_json").result["repr"] == "{1}"
    pickled = call(ready, "no_json", function={"pickle": True}).result["value"]
    assert pickled["$azbatchwrap"] == "pickle"
    other = {"$azbatchwrap": "pickle", "python": [2, 7], "data": ""}
    run = call(ready, "add", other, 1, function={"marked": True})
    assert run.error["type"] == "ArgumentError"
    assert "a pickle of Python 2.7 is not read by" in run.error["message"]


def test_a_function_that_is_not_there(ready: Node) -> None:
    assert call(ready, "nothing").error["type"] == "AttributeError"
    assert "No module named 'elsewhere'" in call(ready, "f", module="elsewhere").error["message"]


def test_a_script_runs_without_what_the_node_lacks(ready: Node) -> None:
    run = call(ready, "times", 5, module="__main__")
    assert run.result["value"] == 15, run.stderr
    assert "line 1 of my script.py is left out here: ModuleNotFoundError" in run.stderr
    assert "line 6 of my script.py is left out here: NameError" in run.stderr
    assert call(ready, "whose", module="__main__").result["value"] == ["__main__", "__main__"]
    failed = call(ready, "use_missing", module="__main__")
    assert failed.error["type"] == "NameError"
    assert 'my script.py", line 13' in failed.error["traceback"]


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_on_other_pythons(tmp_path: Path, blob_server: BlobServer, version: str) -> None:
    node = Node(tmp_path / "node", blob_server, other_python(version))
    node.prepare({"app/work.py": MODULE, "app/my script.py": SCRIPT})
    assert call(node, "add", 1, kwargs={"b": 2}).result["value"] == 3
    assert call(node, "times", 5, module="__main__").result["value"] == 15
    assert call(node, "no_json", function={"pickle": True}).result["value"]["python"] == [
        int(part) for part in version.split(".")
    ]
