"""``$select``: the named properties of an entity, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

#: Property name -> the selection inside it, or None for the whole property.
Selection: TypeAlias = "dict[str, Selection | None]"


class SelectError(ValueError):
    """``$select`` is refused. ``reason`` goes into the values of ``InvalidQueryParameterValue``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def select(
    entity: Mapping[str, Any], names: str | Iterable[str], known: frozenset[str] | None = None
) -> dict[str, Any]:
    """``entity`` reduced to ``names`` (the raw ``$select`` text, or names such as ``executionInfo/exitCode``).

    Keys stay in the entity's order; ``odata.`` annotations stay; ``*`` is all of it. ``known`` are the property names of the entity's
    type: a name outside them raises SelectError; without it any name is taken, for absent properties are normal.
    """
    text = names if isinstance(names, str) else ",".join(names)
    selection = _selection(text, known)
    return dict(entity) if "*" in selection else _project(entity, selection)


def check(names: str, known: frozenset[str]) -> None:
    """Raises SelectError unless the raw ``$select`` text names properties of ``known``."""
    _selection(names, known)


@lru_cache(maxsize=256)
def _selection(text: str, known: frozenset[str] | None) -> Selection:
    tree: Selection = {}
    for name in text.split(","):
        parts = name.strip().split("/")
        if not all(parts):
            raise SelectError(f"'{text}' does not name properties.")
        if known is not None and parts[0] not in known and parts != ["*"]:
            raise SelectError(f"The property '{parts[0]}' does not exist.")
        _add(tree, parts)
    return tree


def _add(tree: Selection, parts: list[str]) -> None:
    for part in parts[:-1]:
        inner = tree.setdefault(part, {})
        if inner is None:  # the whole of it is selected already
            return
        tree = inner
    tree[parts[-1]] = None


def _project(entity: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
    kept = {}
    for name, value in entity.items():
        if name in selection:
            inner = selection[name]
            kept[name] = _project(value, inner) if inner is not None and isinstance(value, Mapping) else value
        elif name.startswith("odata."):
            kept[name] = value
    return kept
