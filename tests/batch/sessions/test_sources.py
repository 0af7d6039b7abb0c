"""Which sources go along with a function, and what of a script."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from azbatchwrap.batch.sessions.sources import Sources, needed
from azbatchwrap.errors import ConfigurationError

SCRIPT = """\
import os
from azbatchwrap import Session
LIMIT = compute(3)
NAMES: list = ["a"]
session = Session("x")
@decorated
def f(x):
    return LIMIT + os.getpid() + g(x)
with session as s:
    results = s.map(f, range(3))
def g(x):
    return [NAMES for _ in x]
def compute(n):
    return n * OTHER
if True:
    OTHER = 2
else:
    OTHER = 3
plot = draw(results)
if __name__ == "__main__":
    OTHER = 5
for part in results:
    print(part)
"""


def test_a_script_goes_along_as_what_its_functions_need() -> None:
    kept = needed(SCRIPT.encode()).decode().splitlines()
    original = SCRIPT.splitlines()
    lines = [number for number, line in enumerate(kept, 1) if line]
    assert lines == [1, 3, 4, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18]
    assert all(kept[number - 1] == original[number - 1] for number in lines)


def test_imports_that_no_function_uses_stay_here() -> None:
    script = (
        b"from __future__ import annotations\nimport a.b, c\nimport d\nfrom e import *\ndef f():\n    return a.b.x\n"
    )
    assert needed(script).decode().splitlines()[:4] == [
        "from __future__ import annotations", "import a.b, c", "", "from e import *",
    ]  # fmt: skip


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "src" / "my_package_x"
    (package / "inner").mkdir(parents=True)
    (package / ".hidden").mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from .inner import two\nimport my_helper_x, json, pytest\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "two.py").write_text("import my_unseen_x.nothing\n")
    (package / ".hidden" / "no.py").write_text("")
    (tmp_path / "src" / "my_helper_x.py").write_text("import my_package_x.one\n")
    (tmp_path / "src" / "my_other_x.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return tmp_path / "src"


def test_a_module_brings_what_it_imports_of_ones_own(code: Path) -> None:
    sources = Sources()
    sources.add("my_package_x.one")
    assert sorted(sources.files) == [
        "my_helper_x.py", "my_package_x/__init__.py", "my_package_x/inner/__init__.py", "my_package_x/inner/two.py",
        "my_package_x/one.py",
    ]  # fmt: skip
    assert "my_package_x" not in sys.modules


def test_what_is_installed_stays_here() -> None:
    sources = Sources()
    for module in ("json", "builtins", "pytest", "azbatchwrap.names", "_operator"):
        sources.add(module)
    assert sources.files == {}


def test_files_and_folders_that_were_named(code: Path) -> None:
    sources = Sources()
    sources.add_path(code / "my_package_x" / "inner")
    sources.add_path(code / "my_other_x.py")
    assert sorted(sources.files) == ["inner/__init__.py", "inner/two.py", "my_other_x.py"]
    with pytest.raises(ConfigurationError, match="no file or folder"):
        sources.add_path(code / "nothing.py")
