"""Functions as tasks: a function is its module and name; its code travels as source, never as a pickle."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Any

from azbatchwrap.errors import ConfigurationError

SCRIPT = "__main__"


@dataclass(frozen=True, slots=True)
class Target:
    """A function that a node can find: ``name`` (with dots for methods) in ``module``."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def target_of(function: Callable[..., Any]) -> Target:
    """Where a node finds ``function``. Raises ConfigurationError, in one sentence, for one that it cannot find."""
    if isinstance(function, functools.partial):
        raise ConfigurationError(
            "a functools.partial cannot run on a node: give the function itself, and the arguments to submit"
        )
    if not isinstance(getattr(function, "__self__", None), type | ModuleType | None):
        raise ConfigurationError(
            f"{function.__name__} is a method of an object, which stays here: use a function at module level"
        )
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None) or _owner(function)
    if name is None or module is None:
        raise ConfigurationError(f"{function!r} is no function that a node can import")
    if "<lambda>" in name:
        raise ConfigurationError(
            "a lambda cannot run on a node, for nodes find functions by their name: write it as a def at module level"
        )
    if "<locals>" in name:
        raise ConfigurationError(
            f"{name.rpartition('.')[2]} is defined inside a function, and nodes find functions by their name: "
            "move it to module level and pass what it uses as arguments"
        )
    found = _found(module, name)
    if not _same(found, function):
        raise ConfigurationError(
            f"{module} has another {name} than the one given (was it decorated or replaced?): a node would call that one"
        )
    return Target(module, name)


def _owner(function: Callable[..., Any]) -> str | None:
    """Some builtin methods have no module of their own, their class has."""
    owner = getattr(function, "__self__", None) or getattr(function, "__objclass__", None)
    return owner.__module__ if isinstance(owner, type) else None


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _same(found: Any, function: Callable[..., Any]) -> bool:
    # Bound class methods and methods of builtins are made anew each time they are asked for.
    return found is function or (isinstance(function, MethodType | BuiltinFunctionType) and found == function)
