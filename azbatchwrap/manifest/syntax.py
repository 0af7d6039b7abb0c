"""JSON and YAML, read strictly: a fault says line and column, and a key given twice is a fault."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from azbatchwrap.errors import ManifestError

from .entries import Faults
from .values import Fault, shortened

if TYPE_CHECKING:
    import yaml


def read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: byte {error.start} is not {error.encoding} text") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path, faults: Faults) -> object:
    try:
        return load_json(read_text(path), faults, "")
    except Fault as fault:
        raise ManifestError(f"{path}: {fault}") from fault


def load_json(text: str, faults: Faults, where: str) -> object:
    """``text`` as JSON, strictly. Raises Fault with line and column; keys given twice are noted in ``faults``."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in items]
        for key in {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else ():
            faults.add(where, f"the key {shortened(key)} is given twice in one object")
        return dict(items)

    def constant(word: str) -> NoReturn:
        raise Fault(f"holds {word}, which is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise Fault(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except Fault:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise Fault(f"not JSON that can be held: {error}") from error


def read_yaml(path: Path, _faults: Faults) -> object:
    import yaml

    text = read_text(path)
    try:
        return yaml.load(text, Loader=_yaml_loader())  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ManifestError(f"{path}: {place}not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        # The constructors of explicit tags ("!!int x") let such errors of their own out.
        raise ManifestError(f"{path}: not YAML that can be held: {str(error) or type(error).__name__}") from error


@functools.cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    """YAML as version 1.2's core schema reads it, so that ``NO``, ``1:30`` and ``2026-01-01`` stay text.

    Keys given twice are refused, as in JSON.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own layout

    def whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
        return int(str(loader.construct_scalar(node)), 0 if node.value[:2] in {"0x", "0o"} else 10)

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
        keys = [
            key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge")
        ]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    rules = (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
        ("merge", r"<<", ["<"]),
    )
    for name, pattern, first in rules:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z"), first)
    Loader.add_constructor("tag:yaml.org,2002:int", whole)
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    return Loader
