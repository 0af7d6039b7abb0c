"""How arguments and results travel: as JSON, and as marked objects for what JSON does not hold.

The engine reads and writes the same form (``azbatchwrap/engine/values.py``); it shares no code with us.
"""

from __future__ import annotations

import base64
import io
import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

from azbatchwrap.errors import AzBatchWrapError, ConfigurationError

MARK = "$azbatchwrap"
#: Levels of lists and dicts that an argument may have: more are a mistake, or a list that holds itself.
DEEPEST = 200
_PLAIN = frozenset({type(None), bool, int, str})


def packed(value: Any, reference: Callable[[Any], Any], *, by_pickle: bool, where: str) -> tuple[Any, bool]:
    """``value`` as JSON can hold it, and whether it has marked objects.

    ``reference`` gives the object that stands for a future, or ``None`` for what is none.
    Raises ConfigurationError naming the argument that cannot travel.
    """
    return _packed(value, DEEPEST, reference, by_pickle=by_pickle, where=where)


def _packed(
    value: Any, levels: int, reference: Callable[[Any], Any], *, by_pickle: bool, where: str
) -> tuple[Any, bool]:
    if _is_plain(value):
        return value, False
    if levels == 0:
        raise ConfigurationError(f"{where:.200} holds itself, or has more than {DEEPEST} levels of lists and dicts")

    def part(value: Any, at: object) -> tuple[Any, bool]:
        return _packed(value, levels - 1, reference, by_pickle=by_pickle, where=f"{where}[{at!r}]")

    kind = type(value)
    if kind is list or (kind is tuple and not by_pickle):
        if all(map(_is_plain, value)):
            return list(value), False
        parts = [part(one, at) for at, one in enumerate(value)]
        return [one for one, _ in parts], any(marked for _, marked in parts)
    if kind is dict and all(type(key) is str for key in value) and MARK not in value:
        items = {key: part(one, key) for key, one in value.items()}
        return {key: one for key, (one, _) in items.items()}, any(marked for _, marked in items.values())
    found = reference(value)
    return (_marked(value, by_pickle=by_pickle, where=where) if found is None else found), True


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is float and math.isfinite(value))


def _marked(value: Any, *, by_pickle: bool, where: str) -> Any:
    library = type(value).__module__.split(".")[0]
    if library == "numpy" and not by_pickle:
        import numpy as np  # type: ignore[import-not-found,unused-ignore] # the user's, where there is one

        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            target = io.BytesIO()
            np.save(target, value, allow_pickle=False)
            return {MARK: "ndarray", "data": base64.b64encode(target.getvalue()).decode()}
    if library == "pandas" and type(value).__name__ == "DataFrame" and not by_pickle:
        return {MARK: "dataframe", "data": value.to_json(orient="table")}
    if library == "pandas" and type(value).__name__ == "Series" and not by_pickle:
        data = value.to_frame("values").to_json(orient="table")
        return {MARK: "series", "name": None if value.name is None else str(value.name), "data": data}
    return _as_pickle(value, by_pickle=by_pickle, where=where)


def _as_pickle(value: Any, *, by_pickle: bool, where: str) -> Any:
    if not by_pickle:
        raise ConfigurationError(
            f"{where} is a {type(value).__qualname__} ({_short(value)}), which JSON cannot hold: "
            "give plain values, or open the Session with pickle=True (same Python version on the nodes)"
        )
    try:
        data = pickle.dumps(value)
    except Exception as error:
        raise ConfigurationError(f"{where} is a {type(value).__qualname__} that cannot be pickled: {error}") from error
    return {MARK: "pickle", "python": list(sys.version_info[:2]), "data": base64.b64encode(data).decode()}


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 (a value's own repr may raise anything)
        return f"its repr raises {type(error).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}…"


def unpacked(value: Any, *, by_pickle: bool) -> Any:
    """A result with its marked objects restored. Raises AzBatchWrapError for one that is not to be read here."""
    if isinstance(value, dict):
        return (
            _restored(value, by_pickle=by_pickle)
            if MARK in value
            else {key: unpacked(part, by_pickle=by_pickle) for key, part in value.items()}
        )
    return [unpacked(part, by_pickle=by_pickle) for part in value] if isinstance(value, list) else value


def _restored(mark: dict[str, Any], *, by_pickle: bool) -> Any:
    kind = mark.get(MARK)
    if kind == "pickle" and by_pickle:
        theirs = mark.get("python")
        if theirs != list(sys.version_info[:2]):
            raise AzBatchWrapError(
                f"the result is a pickle of Python {'.'.join(map(str, theirs or []))}, and this is {sys.version.split()[0]}"
            )
        return pickle.loads(base64.b64decode(mark["data"]))  # noqa: S301 (the session's owner asked for pickles)
    if kind == "int":
        return int(mark["hex"], 16)
    if kind == "ndarray":
        import numpy as np  # type: ignore[import-not-found,unused-ignore] # the user's, where there is one

        return np.load(io.BytesIO(base64.b64decode(mark["data"])), allow_pickle=False)
    if kind in {"dataframe", "series"}:
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        frame = pd.read_json(io.StringIO(mark["data"]), orient="table")
        return frame if kind == "dataframe" else frame["values"].rename(mark["name"])
    raise AzBatchWrapError(f"the result is a {kind}, which this session does not read (pickle=True reads pickles)")
