"""Which task files run, in which order, and how each ``do_action`` gets its arguments."""

# Needed before the first do_action: pathlib, re and inspect would cost more than the rest together.

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: co_flags of a function that takes ``*args`` (inspect.CO_VARARGS).
TAKES_ANY_NUMBER = 0x04
_GENERATOR = type(_ for _ in ())
#: The package that the task files' relative imports (``from . import neighbour``) start from.
PACKAGE = "azbatchwrap_tasks"


def number_of(name: str) -> int | None:
    """The number a task file's name starts with: ``10_task.py`` and ``010.py`` -> 10, ``report.py`` -> None."""
    digits = 0
    while digits < len(name) and name[digits] in "0123456789":
        digits += 1
    return int(name[:digits]) if digits else None


def files_to_run(tasks_folder: str, module: str, *, chain: bool) -> list[str]:
    """The task files to run, as paths relative to ``tasks_folder``.

    A numbered file starts a chain: itself, then every other file with its number or a higher one, in numeric order
    (equal numbers by name). A file without a number runs alone, as does any file when ``chain`` is false.

    Raises FileNotFoundError, with the files there are, when ``module`` is not one of them.
    """
    folder, name = os.path.split(module)
    beside = [entry for entry in _names(os.path.join(tasks_folder, folder)) if entry.endswith(".py")]
    if name not in beside:
        listed = ", ".join(sorted(beside)) or "none"
        raise FileNotFoundError(f"there is no task file {module!r}; the deployed ones are: {listed}")
    start = number_of(name)
    if not chain or start is None:
        return [module]
    numbered = ((number_of(entry), entry) for entry in beside if entry != name)
    later = sorted((number, entry) for number, entry in numbered if number is not None and number >= start)
    return [module] + [os.path.join(folder, entry) for _, entry in later]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def load_do_action(tasks_folder: str, module: str) -> Callable[..., Any]:
    """Run a task file and return its ``do_action``. The name of the file need not be an identifier.

    Raises whatever the file raises, and AttributeError when it defines no such function.
    """
    from importlib.machinery import ModuleSpec, SourceFileLoader

    path = os.path.join(tasks_folder, module)
    name = os.path.basename(module)[: -len(".py")]
    if name in sys.modules:
        # A task file called string.py must not take the place of the module that others have imported.
        name = f"azbatchwrap_task_{name}"
    loader = SourceFileLoader(name, path)
    loaded = type(sys)(name)
    loaded.__file__ = path
    loaded.__loader__ = loader
    loaded.__package__ = PACKAGE
    loaded.__spec__ = ModuleSpec(f"{PACKAGE}.{name}", loader, origin=path)
    package = sys.modules.setdefault(PACKAGE, type(sys)(PACKAGE))
    package.__path__ = [os.path.dirname(path)]
    # Registered under its name, so that dataclasses, pickle and worker processes find it.
    sys.modules[name] = loaded
    loader.exec_module(loaded)
    do_action = getattr(loaded, "do_action", None)
    if not callable(do_action):
        raise AttributeError(f"{module} defines no function do_action(engine, *args)")  # noqa: TRY004 - it is missing
    return do_action  # type: ignore[no-any-return]


def first_arguments(do_action: Callable[..., Any], words: Sequence[Any], *, whole: bool = False) -> tuple[Any, ...]:
    """What the first step gets after ``engine``: the words as ``*args``.

    A function with exactly one positional parameter gets the word when there is one, else the list of words (unless
    it has a default and there are none). With ``whole`` every function gets the list as its one argument.
    """
    if whole:
        return (list(words),)
    fewest, most = _positional(do_action)
    if most != 1:
        return tuple(words)
    if not words and fewest == 0:
        return ()
    return (words[0] if len(words) == 1 else list(words),)


def next_arguments(do_action: Callable[..., Any], value: Any) -> tuple[Any, ...]:
    """What a later step gets after ``engine``, given what the step before it returned.

    A tuple or list is spread, anything else is the single argument. A function with exactly one positional parameter
    gets the value whole; one that takes none gets none.
    """
    _, most = _positional(do_action)
    if most == 0:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) and most != 1 else (value,)


def finished(value: Any) -> Any:
    """What a function returned, run to its end: a call of one that is ``async`` or yields has started nothing yet.

    What it yields becomes a list.
    """
    if type(value) is _GENERATOR:
        return list(value)
    if type(value).__name__ in ("coroutine", "async_generator"):
        import asyncio

        return asyncio.run(_awaited(value))
    return value


async def _awaited(value: Any) -> Any:
    return [item async for item in value] if hasattr(value, "__anext__") else await value


def _positional(do_action: Callable[..., Any]) -> tuple[int, int | None]:
    """The fewest and the most positional arguments after ``engine``; None: any number."""
    code = getattr(do_action, "__code__", None)
    if code is None or hasattr(do_action, "__wrapped__") or hasattr(do_action, "__self__"):
        return _positional_by_signature(do_action)
    if code.co_flags & TAKES_ANY_NUMBER:
        return 0, None
    defaults = len(getattr(do_action, "__defaults__", None) or ())
    return max(code.co_argcount - defaults - 1, 0), max(code.co_argcount - 1, 0)


def _positional_by_signature(do_action: Callable[..., Any]) -> tuple[int, int | None]:
    """For methods, decorated functions and callable objects: right, but inspect takes long to import."""
    from inspect import Parameter, signature

    parameters = list(signature(do_action).parameters.values())
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return 0, None
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    required = [parameter for parameter in positional if parameter.default is Parameter.empty]
    return max(len(required) - 1, 0), max(len(positional) - 1, 0)
