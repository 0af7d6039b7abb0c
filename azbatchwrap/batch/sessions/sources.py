"""Which source files a function needs on a node: its module, what that imports of the user's own, and the script.

A module counts as the user's own when it lies neither in the standard library nor among installed packages. Of a
package, every source file goes along. The running script goes along as what its functions need: the statements that
open sessions and work with results stay here.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

from azbatchwrap.errors import ConfigurationError

from .functions import SCRIPT

#: What a notebook or prompt is called on a node.
NOTEBOOK = "notebook.py"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: Further statements go along when a definition needs a name that they set.
_ASSIGNMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.If, ast.Try)


@dataclass(slots=True)
class Sources:
    """The files of some functions: name on the node -> path here, or content."""

    files: dict[str, Path | bytes] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def add(self, module: str) -> None:
        """Take in a module and what it imports. Raises ConfigurationError when there is no source of it."""
        if module == SCRIPT:
            self._add_script()
        else:
            self._add_module(module)

    def add_path(self, path: Path) -> None:
        """Take in a file, or a folder with every file below it, under its own name."""
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    self.files[f"{path.name}/{file.relative_to(path).as_posix()}"] = file
        elif path.is_file():
            self.files[path.name] = path
        else:
            raise ConfigurationError(f"there is no file or folder {path}")

    def _add_script(self) -> None:
        if SCRIPT in self._seen:
            return
        self._seen.add(SCRIPT)
        name, source = script_source()
        self.files[name] = source
        for imported in _imports(source, getattr(sys.modules[SCRIPT], "__package__", "") or ""):
            self._add_module(imported)

    def _add_module(self, name: str) -> None:
        top = name.partition(".")[0]
        if top in self._seen:
            return
        self._seen.add(top)
        place = _own_place(top)
        if place is None:
            return
        for path in _package_files(place) if place.is_dir() else [place]:
            on_node = path.relative_to(place.parent).as_posix()
            self.files[on_node] = path
            package = ".".join(Path(on_node).parent.parts)
            for imported in _imports(path.read_bytes(), package):
                self._add_module(imported)


def script_name() -> str:
    """What the running script is called on a node."""
    path = getattr(sys.modules[SCRIPT], "__file__", None)
    return NOTEBOOK if path is None else Path(path).name


def script_order() -> dict[str, str]:
    """What a node is told of the running script: its file there, and the package it belongs to (``python -m``)."""
    package = getattr(sys.modules[SCRIPT], "__package__", None)
    return {"file": script_name(), **({"package": package} if package else {})}


def script_source() -> tuple[str, bytes]:
    """The running script's name on a node and the part of it that its functions need.

    Raises ConfigurationError where there is no source: at a prompt of plain Python.
    """
    path = getattr(sys.modules[SCRIPT], "__file__", None)
    if path is not None and Path(path).is_file():
        return Path(path).name, needed(Path(path).read_bytes())
    cells = getattr(sys.modules[SCRIPT], "In", None)
    if not isinstance(cells, list):
        raise ConfigurationError(
            "functions typed at a prompt or piped into Python have no source that a node could get: put them into a file"
        )
    kept = ("\n".join(_without_magics(cell) for cell in cells if _is_python(cell))).encode()
    return NOTEBOOK, needed(kept)


def _without_magics(cell: str) -> str:
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines())


def _is_python(cell: str) -> bool:
    try:
        ast.parse(_without_magics(cell))
    except SyntaxError:
        return False
    return True


def needed(source: bytes) -> bytes:
    """The definitions of a script, and the imports and assignments that these use; all else is blanked line by line.

    Lines keep their numbers, so that tracebacks from a node point into the file at hand.
    """
    statements = ast.parse(source).body
    kept: list[ast.stmt] = [statement for statement in statements if _always_needed(statement)]
    others = [
        statement
        for statement in statements
        if isinstance(statement, _ASSIGNMENTS) and statement not in kept and not _is_main_guard(statement)
    ]
    wanted = {name for statement in kept for name in _uses(statement)}
    while taken := [statement for statement in others if wanted & _binds(statement)]:
        others = [statement for statement in others if statement not in taken]
        kept += taken
        wanted |= {name for statement in taken for name in _uses(statement)}
    lines = {number for statement in kept for number in range(_first_line(statement), (statement.end_lineno or 0) + 1)}
    text = source.splitlines(keepends=True)
    return b"".join(line if number in lines else b"\n" for number, line in enumerate(text, 1)).rstrip() + b"\n"


def _always_needed(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__" or statement.names[0].name == "*"
    return isinstance(statement, _DEFINITIONS)


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *[decorator.lineno for decorator in decorators]])


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in {
        node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)
    }


def _binds(statement: ast.stmt) -> set[str]:
    nodes = list(ast.walk(statement))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return names | {alias.asname or alias.name.partition(".")[0] for alias in imported}


def _uses(statement: ast.stmt) -> set[str]:
    """The global names that a statement reads, its functions' bodies included."""
    code = compile(ast.Module([statement], []), "<script>", "exec", dont_inherit=True)
    return {
        str(instruction.argval)
        for block in _blocks(code)
        for instruction in dis.get_instructions(block)
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}
    }


def _blocks(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _blocks(constant)


def _imports(source: bytes, package: str) -> Iterable[str]:
    """The modules that a source imports, anywhere in it, by their whole names."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        # Whoever imports it gets the error, with its line.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            if name:
                yield name


def _own_place(top: str) -> Path | None:
    """The file of a module, or folder of a package, that is the user's own; ``None`` for all others."""
    if top in sys.stdlib_module_names or top == "azbatchwrap":
        return None
    location = _location(top)
    if location is None or any(location.is_relative_to(root) for root in _installed()):
        return None
    return location


def _location(top: str) -> Path | None:
    module: ModuleType | None = sys.modules.get(top)
    if module is None:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
        origin, folders = (spec.origin, spec.submodule_search_locations) if spec else (None, None)
    else:
        origin, folders = getattr(module, "__file__", None), getattr(module, "__path__", None)
    if folders:
        return Path(next(iter(folders))).resolve()
    return Path(origin).resolve() if origin and origin.endswith(".py") else None


def _installed() -> list[Path]:
    # The prefix of Python itself may be the user's home or /usr; only its library folders are meant.
    paths = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return [Path(path).resolve() for path in {*paths, *site.getsitepackages(), site.getusersitepackages()} if path]


def _package_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
