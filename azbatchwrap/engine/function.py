"""Calls one function of the deployed sources: a session's tasks name a function where others name a task file."""

# `run` imports this before the function is called: nothing here may import much at its top.

from __future__ import annotations

import os
import sys

from . import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .facts import Facts

#: The module whose source a session sends along as a script, with only what its functions need.
SCRIPT = "__main__"


def call(facts: Facts) -> Any:
    """Call the function that the orders name with the arguments that came along; what it returns, ready to record."""
    order = facts.function
    assert order is not None
    args, kwargs = facts.args
    if order.get("marked"):
        from . import values

        args, kwargs = values.unpack([args, kwargs], facts)
    function = load(facts, order)
    try:
        value = chain.finished(function(*args, **kwargs))
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
        value = None
    if type(value) in PLAIN:
        return value
    from . import values

    return values.pack(value, by_pickle=bool(order.get("pickle")))


#: Types of which every value is JSON (floats have exceptions, which the record finds).
PLAIN = frozenset({type(None), bool, str})


def load(facts: Facts, order: dict[str, Any]) -> Callable[..., Any]:
    """The function ``order`` names. Raises ImportError or AttributeError that says what is missing."""
    name = order["module"]
    if name == SCRIPT:
        if facts.script != order["file"]:
            facts.script = order["file"]
            run_script(os.path.join(facts.application_folder, order["file"]), order.get("package", ""))
    else:
        __import__(name)
    found: Any = sys.modules[name]
    for part in order["name"].split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def run_script(path: str, package: str) -> None:
    """Let the session's script be ``__main__``.

    A statement that cannot run here (its import is not installed on the node) is left out; what it would have named
    is missing then, and said to be so when a function asks for it.
    """
    with open(path, "rb") as file:
        source = file.read()
    try:
        exec(compile(source, path, "exec", dont_inherit=True), _script(path, package))  # noqa: S102
    except Exception:  # noqa: BLE001 - whichever it is, one statement less may do
        _run_statements(source, path, _script(path, package))


def _script(path: str, package: str) -> dict[str, Any]:
    module = type(sys)(SCRIPT)
    module.__file__ = path
    module.__package__ = package
    # The engine's own script still runs; it must not be taken apart because nothing names it any more.
    sys.modules.setdefault("azbatchwrap_engine_script", sys.modules[SCRIPT])
    sys.modules[SCRIPT] = module
    return module.__dict__


def _run_statements(source: bytes, path: str, names: dict[str, Any]) -> None:
    import ast

    from .record import say

    for statement in ast.parse(source, path).body:
        alone = ast.Module(body=[statement], type_ignores=[])
        try:
            exec(compile(alone, path, "exec", dont_inherit=True), names)  # noqa: S102
        except Exception as error:  # noqa: BLE001 - see above
            say(
                f"line {statement.lineno} of {os.path.basename(path)} is left out here: {type(error).__name__}: {error}"
            )


def origin(error: BaseException) -> str:
    """Further fields of an error's record: its module and arguments, so that the caller can raise the same again."""
    import json

    fields = f',"module":{json.dumps(type(error).__module__)}'
    try:
        return f'{fields},"args":{json.dumps(list(error.args), allow_nan=False)}'
    except (TypeError, ValueError, RecursionError):
        return fields


def is_retried(error: BaseException, names: list[str] | None) -> bool:
    """Whether an attempt that ended with ``error`` may be followed by another: ``names`` are classes, or None for all."""
    if names is None:
        return True
    kinds = type(error).__mro__
    known = {kind.__qualname__ for kind in kinds} | {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    return not known.isdisjoint(names)
