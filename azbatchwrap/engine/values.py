"""Arguments and results that JSON does not hold by itself: results of other tasks, large integers, numpy, pandas, pickles.

Each is an object with the key ``$azbatchwrap``, which says what it is. Client and node write and read the same form.
"""

from __future__ import annotations

import os
from importlib import import_module

from .record import LARGEST_INTEGER, SMALLEST_INTEGER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .facts import Facts

MARK = "$azbatchwrap"
#: Results fetched at once, tries for each, and seconds without a byte after which one counts as failed.
FETCHES, ATTEMPTS, SOCKET_TIMEOUT = 8, 6, 60.0
#: Below the working folder: the results that the node's agent brought, since tasks have no signed address for them.
RESULTS_FOLDER = "azbatchwrap_results"
#: Status codes that another try may change.
RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class ArgumentError(Exception):
    """A value cannot be read here; the message says why."""


def unpack(value: Any, facts: Facts) -> Any:
    """``value`` with every marked object replaced by what it stands for."""
    wanted: dict[str, None] = {}
    _each_mark(value, lambda mark: wanted.setdefault(mark["task"]) if mark[MARK] == "result" else None)
    return _replaced(value, _fetch_all(list(wanted), facts))


def _each_mark(value: Any, found: Any) -> None:
    if isinstance(value, dict):
        if MARK in value:
            found(value)
            return
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _each_mark(part, found)


def _replaced(value: Any, results: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if MARK in value:
            return results[value["task"]] if value[MARK] == "result" else restore(value)
        return {key: _replaced(part, results) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, results) for part in value]
    return value


def restore(mark: dict[str, Any]) -> Any:
    """What a marked object stands for. Raises an error that says what is missing here."""
    import base64

    kind = mark[MARK]
    if kind == "pickle":
        import pickle

        _check_version(mark["python"])
        return pickle.loads(base64.b64decode(mark["data"]))  # noqa: S301 - only where the session's owner asked for it
    if kind == "int":
        return int(mark["hex"], 16)
    if kind == "ndarray":
        import io

        return import_module("numpy").load(io.BytesIO(base64.b64decode(mark["data"])), allow_pickle=False)
    if kind in ("dataframe", "series"):
        import io

        frame = import_module("pandas").read_json(io.StringIO(mark["data"]), orient="table")
        return frame if kind == "dataframe" else frame["values"].rename(mark["name"])
    raise ArgumentError(f"a value of the unknown kind {kind!r}")


def _check_version(theirs: list[int]) -> None:
    import sys

    if list(sys.version_info[:2]) != theirs:
        here, there = ".".join(map(str, sys.version_info[:2])), ".".join(map(str, theirs))
        raise ArgumentError(
            f"a pickle of Python {there} is not read by Python {here}: use JSON values, or the same Python"
        )


def pack(value: Any, *, by_pickle: bool) -> Any:
    """``value`` as it is where JSON holds it, else as a marked object; itself where there is no way at all."""
    if is_json(value, exactly=by_pickle):
        return value
    import base64

    marked = None if by_pickle else _marked(value)
    if marked is not None:
        return marked
    if by_pickle:
        import pickle
        import sys

        data = base64.b64encode(pickle.dumps(value)).decode()
        return {MARK: "pickle", "python": list(sys.version_info[:2]), "data": data}
    return value


def _marked(value: Any) -> Any:
    """Integers beyond 64 bits, and numpy's and pandas' own kinds, also within lists and dicts; None for all others."""
    if type(value) is int and not is_json(value, exactly=True):
        return {MARK: "int", "hex": hex(value)}
    if isinstance(value, (list, tuple)):
        return [_marked_part(part) for part in value]
    if isinstance(value, dict):
        return {key: _marked_part(part) for key, part in value.items()}
    return _scientific(value)


def _scientific(value: Any) -> Any:
    import base64
    import io

    library = type(value).__module__.split(".")[0]
    if library == "numpy":
        np = import_module("numpy")
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            target = io.BytesIO()
            np.save(target, value, allow_pickle=False)
            return {MARK: "ndarray", "data": base64.b64encode(target.getvalue()).decode()}
    if library == "pandas" and type(value).__name__ == "DataFrame":
        return {MARK: "dataframe", "data": value.to_json(orient="table")}
    if library == "pandas" and type(value).__name__ == "Series":
        data = value.to_frame("values").to_json(orient="table")
        return {MARK: "series", "name": None if value.name is None else str(value.name), "data": data}
    return None


def _marked_part(value: Any) -> Any:
    packed = _marked(value)
    return value if packed is None else packed


def is_json(value: Any, *, exactly: bool) -> bool:
    """Whether JSON holds ``value``. Not ``exactly``: tuples may become lists, and subclasses their base."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        kind = type(part)
        if kind is int and not SMALLEST_INTEGER <= part <= LARGEST_INTEGER:
            return False
        if kind in (type(None), bool, int, float, str):
            continue
        if kind is dict or (not exactly and isinstance(part, dict)):
            if MARK in part or not all(isinstance(key, str) for key in part):
                return False
            waiting.extend(part.values())
        elif kind is list or (not exactly and isinstance(part, (list, tuple))):
            waiting.extend(part)
        elif exactly or not isinstance(part, (int, float, str)):
            return False
    return True


def _fetch_all(tasks: list[str], facts: Facts) -> dict[str, Any]:
    if not tasks:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    order = facts.function or {}
    jobs, forgiving = order.get("jobs") or {}, bool(order.get("forgiving"))

    def value(task: str) -> Any:
        try:
            return _fetch(f"{jobs.get(task, facts.job_id)}/{task}")
        except ArgumentError:
            if forgiving:
                return None
            raise

    with ThreadPoolExecutor(min(FETCHES, len(tasks))) as pool:
        return dict(zip(tasks, pool.map(value, tasks)))


def _fetch(path: str) -> Any:
    """The value of another task, from its record in the output container."""
    import json

    record = json.loads(_result(path))
    if record.get("state") != "succeeded":
        raise ArgumentError(f"the result of {path} cannot be an argument: that task {record.get('state')}")
    if "value" not in record and "repr" in record:
        raise ArgumentError(f"the result of {path} cannot be an argument: JSON did not hold it: {record['repr']:.200}")
    return _replaced(record.get("value"), {})


def _result(path: str) -> bytes:
    """Another task's record: read from its address, or brought here by the node's agent where none is given."""
    base, _, signature = os.environ.get("AZBATCHWRAP_RESULTS_URL", "").partition("?")
    if base:
        return fetch(f"{base}/{path}/result.json?{signature}", f"the result of {path}")
    try:
        with open(f"{RESULTS_FOLDER}/{path}/result.json", "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ArgumentError(f"the result of {path} was not brought to this node") from None


def fetch(address: str, what: str) -> bytes:
    """The bytes at an address, with some tries. Errors name ``what``, never the address: it holds a signature."""
    import random
    import time
    import urllib.error
    import urllib.request
    from urllib.parse import urlsplit

    loopback = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if loopback else []))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with opener.open(address, timeout=SOCKET_TIMEOUT) as answer:
                return answer.read()  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in RETRIED or attempt == ATTEMPTS:
                    raise ArgumentError(f"{what} cannot be read: HTTP status {error.code}") from None
        except OSError as error:
            if attempt == ATTEMPTS:
                raise ArgumentError(f"{what} cannot be read: {type(error).__name__}") from None
        time.sleep(0.5 * 2**attempt * random.random())
    raise AssertionError("the last attempt returns or raises")
