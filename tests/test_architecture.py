"""The arrows of the design: who may import whom. Everything may import ``errors``."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "azbatchwrap"

ARROWS: dict[str, set[str]] = {
    "__init__": {"batch", "storage", "config"},
    "errors": set(),
    "names": set(),
    "backoff": set(),
    "progress": set(),
    "config": {"names"},
    "manifest": {"names"},
    "storage": {"config", "names", "backoff", "progress"},
    "batch": {"storage", "queues", "manifest", "config", "names", "backoff", "progress"},
    "engine": set(),
    "local": {"names", "config", "progress"},
    "endpoints": {"backoff"},
    "queues": {"config", "names", "backoff"},
    "batchkit": {"endpoints", "backoff", "config", "progress"},
    "speechkit": {"batchkit", "endpoints", "backoff", "config", "progress"},
    "processor": {"endpoints", "queues", "backoff", "config", "progress"},
    "pipelines": {"config", "names", "backoff", "progress"},
    "cli": {
        "batch", "batchkit", "config", "local", "manifest", "names", "pipelines", "processor",
        "progress", "queues", "speechkit", "storage", "endpoints",
    },
}  # fmt: skip

#: The only two doors from dispatch to pools.
DOORS = {"speechkit/on_pool.py": {"batch"}, "processor/on_pool.py": {"batch"}}


def subject(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_subjects(path: Path) -> set[str]:
    """The subjects of this package that ``path`` imports, anywhere in it, also late."""
    package = ("azbatchwrap", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, node.module) if node.module else base)
            names = [f"{stem}.{alias.name}" for alias in node.names] if stem == "azbatchwrap" else [stem]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("azbatchwrap.")}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_along_the_arrows(path: Path) -> None:
    here = subject(path)
    door = DOORS.get(path.relative_to(PACKAGE).as_posix(), set())
    allowed = ARROWS[here] | {here, "errors"} | door
    assert imported_subjects(path) <= allowed


def test_the_client_and_the_local_service_meet_only_over_http() -> None:
    assert "local" not in ARROWS["batch"]
    assert "batch" not in ARROWS["local"]


def test_engine_uses_nothing_but_the_standard_library() -> None:
    for path in sorted((PACKAGE / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                roots = {(node.module or "").split(".")[0]}
            else:
                continue
            assert roots <= sys.stdlib_module_names, f"{path}: {roots - sys.stdlib_module_names}"


def test_no_file_is_named_for_nothing() -> None:
    nameless = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [path for path in modules() if path.stem in nameless] == []


def test_only_cli_and_the_node_side_print() -> None:
    for path in modules():
        if subject(path) in {"cli", "engine"}:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert printing == [], f"{path} prints on lines {printing}"
