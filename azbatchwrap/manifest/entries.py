"""Entries to records, whatever file or call they come from; every fault is collected with its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from azbatchwrap.errors import ManifestError

from .records import TaskRecord
from .values import (
    JSON,
    Fault,
    read_duration,
    read_flag,
    read_id,
    read_ids,
    read_input,
    read_input_names,
    read_module,
    read_retries,
    read_slots,
    shortened,
    wrong_type,
)

#: The keys of an entry, what each value must be, and the field of `TaskRecord` it sets.
ENTRY_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "TASK_MODULE": ("module", read_module),
    "TASK_INPUT": ("args", read_input),
    "ID": ("id", read_id),
    "CHAIN": ("chain", read_flag),
    "INPUTS": ("inputs", read_input_names),
    "RETRIES": ("retries", read_retries),
    "TIMEOUT": ("timeout", read_duration),
    "SLOTS": ("slots", read_slots),
    "DEPENDS_ON": ("depends_on", read_ids),
}
#: The keys beside them. ``TASK_ARGS`` is the input of entries that have none, and with no ``JOB_MANIFEST`` the input of
#: the one task that starts with the first of ``TASK_MODULES``. ``INPUT_FILES`` are files, folders and patterns.
TOP_KEYS = (
    "TASK_MODULES",
    "TASK_MODULES_DIRECTORY",
    "TASK_ARGS",
    "TASK_OUTPUT_CONTAINER",
    "INPUT_FILES",
    "JOB_MANIFEST",
)

#: Faults listed of one file: a table of a million wrong rows is wrong in one way.
MOST_FAULTS = 50


class Faults:
    """Collects faults in file order and raises them together."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._listed: list[str] = []
        self._count = 0

    def add(self, where: str, reason: object) -> None:
        self._count += 1
        if len(self._listed) < MOST_FAULTS:
            self._listed.append(f"{where}: {reason}" if where else str(reason))

    def __bool__(self) -> bool:
        return self._count > 0

    def raise_if_any(self) -> None:
        if not self._count:
            return
        listed = list(self._listed)
        if self._count > len(listed):
            listed.append(f"… and {self._count - len(listed)} more")
        raise ManifestError(f"{self._source}: {self._count} fault{'s' if self._count > 1 else ''}", listed)


def suggestion(word: str, known: Iterable[str]) -> str:
    by_upper = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word.upper(), by_upper, n=1, cutoff=0.6)
    return f"; did you mean {by_upper[close[0]]}?" if close else ""


def upper_keys(entry: Mapping[Any, object], known: Collection[str], where: str, faults: Faults) -> dict[str, object]:
    """``entry`` with its keys in upper case; unknown and repeated keys are faults."""
    found: dict[str, object] = {}
    for key, value in entry.items():
        upper = key.upper() if isinstance(key, str) else None
        if upper is None or upper not in known:
            faults.add(where, f"{shortened(key)} is not a known key{suggestion(str(key)[:80], known)}")
        elif upper in found:
            faults.add(where, f"{key} is given twice")
        else:
            found[upper] = value
    return found


class EntryReader:
    """Turns entries into records and keeps what is compared across entries: task files, ids and dependencies."""

    def __init__(self, faults: Faults, default_input: tuple[JSON, ...] = ()) -> None:
        # The name of each task file -> where it was named first, and whether a chain starts there.
        self.modules: dict[str, tuple[str, bool]] = {}
        self._faults = faults
        self._default_input = default_input
        self._ids: dict[str, tuple[str, str]] = {}  # without case -> (where it was given, as it was given)
        self._edges: dict[str, tuple[str, str, tuple[str, ...]]] = {}  # id without case -> (where, id, depends on)

    def read(self, index: int, entry: object, where: str) -> TaskRecord | None:
        """The record of one entry, or ``None`` when it has faults (which are noted)."""
        if not isinstance(entry, Mapping):
            self._faults.add(where, wrong_type(entry, "an object with TASK_MODULE and TASK_INPUT"))
            return None
        # A value that is nothing is an absent one, as the empty cell of a table is.
        keys = upper_keys(entry, ENTRY_KEYS, where, self._faults)
        given = {key: value for key, value in keys.items() if value is not None}
        fields = self._checked(given, where)
        if "TASK_MODULE" not in given:
            self._faults.add(where, "TASK_MODULE is missing: it names the task file to run")
        self._remember(fields, where)
        if "module" not in fields or len(fields) < len(given):
            return None
        return TaskRecord(index, id=fields.pop("id", None), args=fields.pop("args", self._default_input), **fields)

    def _checked(self, given: Mapping[str, object], where: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, value in given.items():
            field, check = ENTRY_KEYS[key]
            try:
                fields[field] = check(value)
            except Fault as fault:
                self._faults.add(f"{where}, {key}", fault)
        return fields

    def _remember(self, fields: Mapping[str, Any], where: str) -> None:
        module, task_id = fields.get("module"), fields.get("id")
        if module is not None:
            first, chained = self.modules.get(module, (where, False))
            self.modules[module] = (first, chained or fields.get("chain", True))
        if task_id is not None:
            first, _ = self._ids.setdefault(task_id.casefold(), (where, task_id))
            if first != where:
                self._faults.add(f"{where}, ID", f"{task_id!r} is the ID of {first} already (case does not count)")
        if fields.get("depends_on"):
            own = task_id or where
            self._edges.setdefault(own.casefold(), (where, own, fields["depends_on"]))

    def check_dependencies(self) -> None:
        """Notes every DEPENDS_ON that names no entry, and one line for each circle of entries that wait for each other."""
        for where, _, wanted in self._edges.values():
            for task_id in wanted:
                _, given = self._ids.get(task_id.casefold(), ("", ""))
                if given != task_id:  # nor in another case: what the service would make of that is not written down
                    near = [given] if given else [given for _, given in self._ids.values()]
                    hint = suggestion(task_id, near) if len(near) < 1000 else ""
                    self._faults.add(f"{where}, DEPENDS_ON", f"no entry has the ID {task_id!r}{hint}")
        for circle in self._circles():
            where = self._edges[circle[0].casefold()][0]
            way = " -> ".join([*circle, circle[0]])
            self._faults.add(f"{where}, DEPENDS_ON", f"the entries wait for each other: {way}")

    def _circles(self) -> Iterator[list[str]]:
        """Circles of ids, each given once, found by walking depth first without recursion (chains may be long)."""
        done: set[str] = set()
        for start in self._edges:
            path: list[str] = []
            on_path: dict[str, int] = {}
            waiting = [(start, False)]
            while waiting:
                node, leaving = waiting.pop()
                if leaving:
                    done.add(path.pop())
                    del on_path[node]
                elif node in on_path:
                    yield [self._edges[key][1] for key in path[on_path[node] :]]
                elif node not in done and node in self._edges:
                    on_path[node] = len(path)
                    path.append(node)
                    waiting.append((node, True))
                    waiting.extend((wanted.casefold(), False) for wanted in self._edges[node][2])
