"""What a job's tasks are, from tuples, from seed-style ``task.json`` or YAML, or from tables: reading and checking only.

A manifest file is a JSON or YAML object (`TOP_KEYS`) whose ``JOB_MANIFEST`` is a list of entries (`ENTRY_KEYS`), or
that list alone, or a table: JSON lines with one entry per line, or CSV/TSV with one entry per row. Keys are compared
without case. Every fault of a file is reported at once; nothing is uploaded or submitted from here.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import functools
import json
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeAlias

from . import names
from .errors import ManifestError

if TYPE_CHECKING:
    import yaml

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

#: A node takes at most this many tasks at once (Azure Batch, ``taskSlotsPerNode``), so no task can need more slots.
MOST_SLOTS = 256
#: Faults listed of one file: a table of a million wrong rows is wrong in one way.
MOST_FAULTS = 50
#: Nesting and number of values in one entry's input. YAML aliases can make a short file unfold without end.
DEEPEST_INPUT = 64
LARGEST_INPUT = 1_000_000

#: The files of a chain start with their number: ``2_task.py`` comes before ``10_task.py``.
NUMBERED = re.compile(r"(\d+)")

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SHORT_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)\s*(d|h|ms|m|s)\s*)", re.IGNORECASE)
_ISO_DURATION = re.compile(
    r"P(?=.)(?:(?P<w>\d+)W)?(?:(?P<d>\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?=.)(?:(?P<h>\d+(?:[.,]\d+)?)H)?(?:(?P<m>\d+(?:[.,]\d+)?)M)?(?:(?P<s>\d+(?:[.,]\d+)?)S)?)?\Z",
    re.IGNORECASE,
)
_NEEDS_SHELL_RULES = re.compile(r"['\"\\\x0b\x0c\x1c-\x1f]|[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task to submit. ``index`` is its place in the submission, from 0; ``timeout`` is in seconds.

    ``args`` are the words of the input, split already. ``chain`` asks for the numbered files after ``module`` too
    (a file without a number runs alone in any case). ``inputs`` limits which input files the task sees (``None``:
    all). ``retries`` counts attempts after the first.
    """

    index: int
    id: str | None
    module: str
    args: tuple[JSON, ...] = ()
    chain: bool = True
    inputs: tuple[str, ...] | None = None
    retries: int = 0
    timeout: float | None = None
    slots: int = 1
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest. ``records`` is a tuple, or for a table a collection that reads it anew when iterated.

    ``modules`` are the names of the task files to deploy, all present in ``modules_directory``.
    """

    records: Collection[TaskRecord]
    modules: tuple[str, ...]
    modules_directory: Path | None
    output_container: str | None
    source: str

    @property
    def module_paths(self) -> tuple[Path, ...]:
        """The task files on this machine."""
        folder = self.modules_directory or Path()
        return tuple(folder / name for name in self.modules)


class _Fault(ValueError):
    """What is wrong with one value; whoever knows the entry and the key adds them."""


# --- words and values -------------------------------------------------------------------------------------------------


def split_words(text: str) -> tuple[str, ...]:
    """``text`` split as a POSIX shell splits words: quotes and backslashes respected, nothing expanded.

    Raises ManifestError when a quote is not closed or the text ends in a backslash.
    """
    if _NEEDS_SHELL_RULES.search(text) is None:
        return tuple(text.split())
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ManifestError(f"{_shortened(text)}: {_quote_fault(error)}") from error


def parse_duration(value: object) -> float:
    """Seconds from a positive number, ``"90"``, ``"10m"``, ``"1h30m"`` or an ISO 8601 duration such as ``"PT1H"``.

    Raises ManifestError for anything else; years and months have no fixed length and are refused.
    """
    try:
        return _duration(value)
    except _Fault as fault:
        raise ManifestError(f"{_shortened(value)}: {fault}") from fault


def chain_number(module: str) -> int | None:
    """The number a task file's name starts with, or ``None`` for a file that runs alone."""
    match = NUMBERED.match(module)
    return int(match[1][:18]) if match else None


def _quote_fault(error: ValueError) -> str:
    if "escaped" in str(error):
        return "ends in a backslash with nothing after it"
    return "has an unbalanced quote (a quote character as such is written \\' or \\\" outside quotes)"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _kind(value: object) -> str:
    words = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else words.get(type(value), f"a {type(value).__name__}")


def _wrong_type(value: object, wanted: str) -> _Fault:
    return _Fault(f"must be {wanted}, not {_kind(value)} ({_shortened(value)})")


def _json_value(value: object) -> JSON:
    """``value`` as JSON holds it (tuples become lists). Raises _Fault for what JSON cannot hold."""
    budget = [LARGEST_INPUT]

    def check(item: object, depth: int) -> JSON:
        budget[0] -= 1
        if depth > DEEPEST_INPUT or budget[0] < 0:
            raise _Fault(f"is nested deeper than {DEEPEST_INPUT} or holds more than {LARGEST_INPUT} values")
        if item is None or isinstance(item, str | bool | int):
            return item
        if isinstance(item, float):
            if not math.isfinite(item):
                raise _Fault(f"holds {item}, which JSON cannot hold")
            return item
        if isinstance(item, list | tuple):
            return [check(inner, depth + 1) for inner in item]
        if isinstance(item, Mapping):
            return {_json_key(key): check(inner, depth + 1) for key, inner in item.items()}
        raise _Fault(f"holds {_shortened(item)} of type {type(item).__name__}, which JSON cannot hold")

    return check(value, 0)


def _json_key(key: object) -> str:
    if not isinstance(key, str):
        raise _Fault(f"holds an object with the key {_shortened(key)}: keys are text")
    return key


def _input(value: object) -> tuple[JSON, ...]:
    """The words of a TASK_INPUT: text is split, a list is taken as it is, nothing gives none, any other value is one."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            return split_words(value)
        except ManifestError as error:
            raise _Fault(str(error)) from error
    checked = _json_value(value)
    return tuple(checked) if isinstance(checked, list) else (checked,)


def _module(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, "the name of a task file")
    if not value.strip():
        raise _Fault("is empty: name a task file such as 1_task.py")
    if "/" in value or "\\" in value or "\0" in value or value in {".", ".."}:
        bare = re.split(r"[/\\]", value)[-1]
        hint = f"; write {bare!r}" if bare.endswith(".py") else ""
        raise _Fault(f"{_shortened(value)} must be the bare name of a file, without folders{hint}")
    if not value.endswith(".py"):
        raise _Fault(f"{_shortened(value)} is not a Python file: its name must end in .py")
    return value


def _identifier(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(value)
    if not isinstance(value, str):
        raise _wrong_type(value, "text")
    if not names.is_id(value):
        raise _Fault(f"{_shortened(value)} may hold 1 to 64 of the characters A-Z a-z 0-9 _ - and no others")
    return value


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError as error:  # Python refuses to write integers of thousands of digits
        raise _Fault("is a number of thousands of digits") from error


def _identifiers(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, "a list of IDs")
    return tuple(dict.fromkeys(_identifier(item) for item in value))


def _input_names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = list(_input(value))
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, "a list of input file names")
    return tuple(dict.fromkeys(_relative(item) for item in value))


def _relative(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, "the name of an input file")
    try:
        return names.safe_relative(value).as_posix()
    except ValueError as error:
        raise _Fault(str(error)) from error


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(value, "true or false")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(value, "a whole number")
    if not least <= value <= most:
        raise _Fault(f"must be a whole number from {least} to {most}, not {_shortened(value)}")
    return value


def _retries(value: object) -> int:
    return _whole(value, 0, 1000)


def _slots(value: object) -> int:
    return _whole(value, 1, MOST_SLOTS)


def _duration(value: object) -> float:
    if isinstance(value, str):
        seconds = _duration_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 1e12 else math.inf
    else:
        raise _wrong_type(value, "seconds, or a duration such as 10m or PT10M")
    if not 0 < seconds < 1e9:
        raise _Fault(f"must be more than 0 and less than 30 years, not {_shortened(value)}")
    return seconds


def _duration_text(text: str) -> float:
    if re.fullmatch(r"[+-]?\d{1,12}(\.\d{1,12})?", text):
        return float(text)
    if iso := _ISO_DURATION.match(text):
        weeks = float(iso["w"] or 0) * 7 * 86400
        return weeks + sum(float((iso[unit] or "0").replace(",", ".")) * _UNITS[unit] for unit in "dhms")
    parts = _SHORT_DURATION.findall(text)
    if not parts or _SHORT_DURATION.sub("", text):
        raise _Fault(f"{_shortened(text)} is no duration: write seconds, 10m, 1h30m or PT10M")
    return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in parts)


#: The keys of an entry, what each value must be, and the field of `TaskRecord` it sets.
ENTRY_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "TASK_MODULE": ("module", _module),
    "TASK_INPUT": ("args", _input),
    "ID": ("id", _identifier),
    "CHAIN": ("chain", _flag),
    "INPUTS": ("inputs", _input_names),
    "RETRIES": ("retries", _retries),
    "TIMEOUT": ("timeout", _duration),
    "SLOTS": ("slots", _slots),
    "DEPENDS_ON": ("depends_on", _identifiers),
}
#: The keys beside them. ``TASK_ARGS`` is the input of entries that have none, and with no ``JOB_MANIFEST`` the input of
#: the one task that starts with the first of ``TASK_MODULES``.
TOP_KEYS = ("TASK_MODULES", "TASK_MODULES_DIRECTORY", "TASK_ARGS", "TASK_OUTPUT_CONTAINER", "JOB_MANIFEST")


# --- faults -----------------------------------------------------------------------------------------------------------


class _Faults:
    """Collects faults in file order and raises them together."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._listed: list[str] = []
        self._count = 0

    def add(self, where: str, reason: object) -> None:
        self._count += 1
        if len(self._listed) < MOST_FAULTS:
            self._listed.append(f"{where}: {reason}" if where else str(reason))

    def raise_if_any(self) -> None:
        if not self._count:
            return
        listed = list(self._listed)
        if self._count > len(listed):
            listed.append(f"… and {self._count - len(listed)} more")
        raise ManifestError(f"{self._source}: {self._count} fault{'s' if self._count > 1 else ''}", listed)


def _suggestion(word: str, known: Iterable[str]) -> str:
    by_upper = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word.upper(), by_upper, n=1, cutoff=0.6)
    return f"; did you mean {by_upper[close[0]]}?" if close else ""


def _upper_keys(entry: Mapping[Any, object], known: Collection[str], where: str, faults: _Faults) -> dict[str, object]:
    """``entry`` with its keys in upper case; unknown and repeated keys are faults."""
    found: dict[str, object] = {}
    for key, value in entry.items():
        upper = key.upper() if isinstance(key, str) else None
        if upper is None or upper not in known:
            faults.add(where, f"{_shortened(key)} is not a known key{_suggestion(str(key)[:80], known)}")
        elif upper in found:
            faults.add(where, f"{key} is given twice")
        else:
            found[upper] = value
    return found


# --- entries ----------------------------------------------------------------------------------------------------------


class _EntryReader:
    """Turns entries into records and keeps what is compared across entries: task files, ids and dependencies."""

    def __init__(self, faults: _Faults, default_input: tuple[JSON, ...] = ()) -> None:
        self.modules: dict[
            str, tuple[str, bool]
        ] = {}  # name -> (where it was named first, whether a chain starts there)
        self._faults = faults
        self._default_input = default_input
        self._ids: dict[str, str] = {}  # without case -> where it was given
        self._edges: dict[str, tuple[str, str, tuple[str, ...]]] = {}  # id without case -> (where, id, depends on)

    def read(self, index: int, entry: object, where: str) -> TaskRecord | None:
        """The record of one entry, or ``None`` when it has faults (which are noted)."""
        if not isinstance(entry, Mapping):
            self._faults.add(where, _wrong_type(entry, "an object with TASK_MODULE and TASK_INPUT"))
            return None
        # A value that is nothing is an absent one, as the empty cell of a table is.
        given = {
            key: value
            for key, value in _upper_keys(entry, ENTRY_KEYS, where, self._faults).items()
            if value is not None
        }
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
            except _Fault as fault:
                self._faults.add(f"{where}, {key}", fault)
        return fields

    def _remember(self, fields: Mapping[str, Any], where: str) -> None:
        module, task_id = fields.get("module"), fields.get("id")
        if module is not None:
            first, chained = self.modules.get(module, (where, False))
            self.modules[module] = (first, chained or fields.get("chain", True))
        if task_id is not None:
            first = self._ids.setdefault(task_id.casefold(), where)
            if first != where:
                self._faults.add(f"{where}, ID", f"{task_id!r} is the ID of {first} already (case does not count)")
        if fields.get("depends_on"):
            own = task_id or where
            self._edges.setdefault(own.casefold(), (where, own, fields["depends_on"]))

    def check_dependencies(self) -> None:
        """Notes every DEPENDS_ON that names no entry, and one line for each circle of entries that wait for each other."""
        for where, _, wanted in self._edges.values():
            for task_id in wanted:
                if task_id.casefold() not in self._ids:
                    hint = _suggestion(task_id, self._ids) if len(self._ids) < 1000 else ""
                    self._faults.add(f"{where}, DEPENDS_ON", f"no entry has the ID {task_id!r}{hint}")
        for circle in self._circles():
            where = self._edges[circle[0].casefold()][0]
            self._faults.add(
                f"{where}, DEPENDS_ON", f"the entries wait for each other: {' -> '.join([*circle, circle[0]])}"
            )

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


# --- tuples -----------------------------------------------------------------------------------------------------------


def from_tuples(work: object) -> Iterator[TaskRecord]:
    """Records from one tuple ``("1_task.py", "input.txt 2 34")``, or from a list or any iterable of such items.

    An item is a tuple (the task file's name, the input, further arguments that are appended as they are), a mapping
    with the keys of a manifest entry, or a `TaskRecord`. One tuple, mapping, record or list is checked whole and its
    faults are raised together, before the first record is given out; any other iterable is read lazily, so that a
    million items need no memory, and raises at its first faulty item. Raises ManifestError.
    """
    if isinstance(work, str | bytes):
        raise ManifestError(f"a task is a tuple such as ('1_task.py', 'input.txt 2 34'), not {_shortened(work)}")
    if isinstance(work, TaskRecord | Mapping) or (isinstance(work, tuple) and work and isinstance(work[0], str)):
        work = [work]
    if not isinstance(work, Iterable):
        raise ManifestError(f"tasks are given as tuples, not as {_kind(work)} ({_shortened(work)})")
    if isinstance(work, Sequence):
        return iter(_all_records(work))
    return _lazy_records(work)


def _all_records(items: Sequence[object]) -> list[TaskRecord]:
    faults = _Faults("the tasks")
    if len(items) > 1 and isinstance(items[0], str) and items[0].endswith(".py"):
        raise ManifestError(f"a list holds many tasks: for one, write the tuple ({_shortened(items[0])}, …)")
    reader = _EntryReader(faults)
    records = [_record(index, item, reader, faults) for index, item in enumerate(items)]
    reader.check_dependencies()
    faults.raise_if_any()
    return [record for record in records if record is not None]


def _lazy_records(items: Iterable[object]) -> Iterator[TaskRecord]:
    for index, item in enumerate(items):
        faults = _Faults("the tasks")
        record = _record(index, item, _EntryReader(faults), faults)
        faults.raise_if_any()
        if record is not None:
            yield record


def _record(index: int, item: object, reader: _EntryReader, faults: _Faults) -> TaskRecord | None:
    where = f"task {index + 1}"
    if isinstance(item, TaskRecord):
        return replace(item, index=index)
    if isinstance(item, Mapping):
        return reader.read(index, item, where)
    if not isinstance(item, tuple | list) or not item:
        faults.add(where, _wrong_type(item, "a tuple such as ('1_task.py', 'input.txt 2 34')"))
        return None
    try:
        further = tuple(_json_value(value) for value in item[2:])
        return TaskRecord(index, None, _module(item[0]), _input(item[1]) + further if len(item) > 1 else ())
    except _Fault as fault:
        faults.add(where, fault)
        return None


# --- files ------------------------------------------------------------------------------------------------------------


def read(path: Path | str, *, modules_directory: Path | str | None = None) -> Manifest:
    """The manifest in the file ``path``, checked whole.

    ``modules_directory`` overrides the file's TASK_MODULES_DIRECTORY (which is relative to the file). With neither,
    the task files are looked for in the folder ``tasks`` beside the manifest, then beside it. TASK_MODULES lists the
    files to deploy; those the entries name are added to it, and when it is absent so are the numbered files that
    continue a chain. Raises ManifestError with every fault.
    """
    path = Path(path)
    readers = {".yaml": _yaml, ".yml": _yaml, ".csv": None, ".tsv": None, ".jsonl": None, ".ndjson": None}
    if not path.is_file():
        raise ManifestError(f"there is no manifest {str(path)!r}")
    override = Path(modules_directory) if modules_directory is not None else None
    faults = _Faults(str(path))
    parse = readers.get(path.suffix.lower(), _json)
    if parse is None:
        return _read_table(path, override, faults)
    return _read_document(path, parse(path, faults), override, faults)


def _read_document(path: Path, document: object, override: Path | None, faults: _Faults) -> Manifest:
    top = document if isinstance(document, dict) else {"JOB_MANIFEST": document}
    keys = _upper_keys(top, TOP_KEYS, "", faults)
    listed = _names_of_modules(keys.get("TASK_MODULES"), faults)
    default_input: tuple[JSON, ...] = ()
    try:
        default_input = _input(keys.get("TASK_ARGS"))
    except _Fault as fault:
        faults.add("TASK_ARGS", fault)
    reader = _EntryReader(faults, default_input)
    records = []
    for index, entry in enumerate(_entries(keys, listed, faults)):
        record = reader.read(index, entry, f"entry {index + 1}")
        records += [record] if record else []
    reader.check_dependencies()
    container = _container(keys.get("TASK_OUTPUT_CONTAINER"), faults)
    folder = override or _directory(path, keys.get("TASK_MODULES_DIRECTORY"), faults)
    modules = _modules(folder, listed, reader, faults)
    faults.raise_if_any()
    return Manifest(tuple(records), modules, folder, container, str(path))


def _entries(keys: Mapping[str, object], listed: Sequence[str], faults: _Faults) -> list[object]:
    entries = keys.get("JOB_MANIFEST")
    if entries is None and listed:
        return [{"TASK_MODULE": listed[0]}]
    if entries is None:
        faults.add("JOB_MANIFEST", "is missing: it lists the tasks, each with TASK_MODULE and TASK_INPUT")
    elif not isinstance(entries, list):
        faults.add("JOB_MANIFEST", _wrong_type(entries, "a list of entries"))
    elif not entries:
        faults.add("JOB_MANIFEST", "holds no entries, so there is nothing to run")
    else:
        return entries
    return []


def _names_of_modules(value: object, faults: _Faults) -> list[str]:
    if value is None or value == "":
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        faults.add("TASK_MODULES", _wrong_type(value, "a list of file names"))
        return []
    found = []
    for item in items:
        try:
            found.append(_module(item))
        except _Fault as fault:
            faults.add("TASK_MODULES", fault)
    return found


def _container(value: object, faults: _Faults) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and names.CONTAINER_PATTERN.match(value):
        return value
    reason = f"{_shortened(value)} is no container name: 3 to 63 of a-z 0-9 and single inner hyphens"
    faults.add("TASK_OUTPUT_CONTAINER", reason)
    return None


def _directory(path: Path, value: object, faults: _Faults) -> Path:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return path.parent / value
    if value is not None and value != "":
        faults.add("TASK_MODULES_DIRECTORY", _wrong_type(value, "the path of a folder"))
    beside = path.parent / "tasks"
    return beside if beside.is_dir() else path.parent


def _modules(folder: Path, listed: Sequence[str], reader: _EntryReader, faults: _Faults) -> tuple[str, ...]:
    """The task files to deploy; a missing folder or file is a fault, with the nearest name there is."""
    wanted = dict.fromkeys(listed, "TASK_MODULES") | {
        name: f"{where}, TASK_MODULE" for name, (where, _) in reader.modules.items() if name not in listed
    }
    if not folder.is_dir():
        if wanted:
            faults.add("TASK_MODULES_DIRECTORY", f"there is no folder {str(folder)!r}")
        return ()
    present = sorted(item.name for item in folder.iterdir() if item.suffix == ".py" and item.is_file())
    for name, where in wanted.items():
        if name not in present:
            faults.add(where, f"there is no {name} in {str(folder)!r}{_suggestion(name, present)}")
    if not listed:
        starts = [chain_number(name) for name, (_, chained) in reader.modules.items() if chained]
        first = min((number for number in starts if number is not None), default=None)
        following = [name for name in present if first is not None and (chain_number(name) or -1) > first]
        wanted |= dict.fromkeys(following, "")
    return tuple(wanted)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: byte {error.start} is not {error.encoding} text") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error


def _json(path: Path, faults: _Faults) -> object:
    try:
        return _load_json(_text(path), faults, "")
    except _Fault as fault:
        raise ManifestError(f"{path}: {fault}") from fault


def _load_json(text: str, faults: _Faults, where: str) -> object:
    """``text`` as JSON, strictly. Raises _Fault with line and column; keys given twice are noted in ``faults``."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in items]
        for key in {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else ():
            faults.add(where, f"the key {_shortened(key)} is given twice in one object")
        return dict(items)

    def constant(word: str) -> NoReturn:
        raise _Fault(f"holds {word}, which is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _Fault(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except _Fault:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise _Fault(f"not JSON that can be held: {error}") from error


def _yaml(path: Path, _faults: _Faults) -> object:
    import yaml

    text = _text(path)
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


# --- tables -----------------------------------------------------------------------------------------------------------

#: Short names of columns, beside the keys of an entry. ``ARG1``, ``ARG2``, … hold further arguments, as they are.
COLUMN_NAMES = {"MODULE": "TASK_MODULE", "INPUT": "TASK_INPUT", "ARGS": "TASK_INPUT"}
_ARGUMENT_COLUMN = re.compile(r"ARG([1-9]\d{0,3})\Z")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class _TableRecords(Collection[TaskRecord]):
    """The records of a table, read anew from the file each time: a big table is never held in memory."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, record: object) -> bool:
        return any(record == own for own in self)

    def __iter__(self) -> Iterator[TaskRecord]:
        for index, (where, entry) in enumerate(_rows(self._path, faults := _Faults(str(self._path)))):
            # A reader for each row: what is compared across rows was checked when the table was read first.
            record = _EntryReader(faults).read(index, entry, where)
            faults.raise_if_any()  # the file was changed since
            if record is not None:
                yield record


def _read_table(path: Path, override: Path | None, faults: _Faults) -> Manifest:
    reader = _EntryReader(faults)
    count = 0
    for count, (where, entry) in enumerate(_rows(path, faults), start=1):
        reader.read(count - 1, entry, where)
    reader.check_dependencies()
    if not count:
        faults.add("", "holds no entries, so there is nothing to run")
    folder = override or _directory(path, None, faults)
    modules = _modules(folder, (), reader, faults)
    faults.raise_if_any()
    return Manifest(_TableRecords(path, count), modules, folder, None, str(path))


def _rows(path: Path, faults: _Faults) -> Iterator[tuple[str, object]]:
    """Each entry of a table with where it stands. Lines that cannot be read are noted and given as no entry."""
    separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    try:
        with path.open(encoding="utf-8-sig", newline="" if separator else None) as stream:
            yield from _csv_rows(stream, separator, faults) if separator else _json_rows(stream, faults)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: holds bytes that are not {error.encoding} text") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error


def _json_rows(stream: IO[str], faults: _Faults) -> Iterator[tuple[str, object]]:
    number = 0
    for line_number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        number += 1
        where = f"entry {number} (line {line_number})"
        try:
            yield where, _load_json(line, faults, where)
        except _Fault as fault:
            faults.add(where, str(fault).removeprefix("line 1, "))


def _csv_rows(stream: IO[str], separator: str, faults: _Faults) -> Iterator[tuple[str, object]]:
    rows = csv.reader(stream, delimiter=separator, strict=True)
    try:
        columns = _columns(next(rows, []), faults)
        number = 0
        for row in rows:
            if not row:
                continue
            number += 1
            where = f"entry {number} (line {rows.line_num})"
            if len(row) > len(columns):
                faults.add(where, f"has {len(row)} cells, but there are {len(columns)} columns")
            yield where, _row_entry(dict(zip(columns, row, strict=False)))
    except csv.Error as error:
        faults.add(f"line {rows.line_num}", f"not {'CSV' if separator == ',' else 'TSV'}: {error}")


def _columns(header: Sequence[str], faults: _Faults) -> list[str]:
    columns: list[str] = []
    for title in header:
        upper = title.strip().upper()
        name = COLUMN_NAMES.get(upper, upper)
        if name not in ENTRY_KEYS and not _ARGUMENT_COLUMN.match(name):
            hint = _suggestion(upper, [*ENTRY_KEYS, *COLUMN_NAMES])
            faults.add("header", f"{_shortened(title)} is not a known column{hint}")
            name = ""
        elif name in columns:
            faults.add("header", f"the column {name} is given twice")
        columns.append(name)
    return columns


def _row_entry(cells: dict[str, str]) -> dict[str, object]:
    """The entry of a CSV row: empty cells are absent, numbers and flags are read from their text."""
    cells.pop("", None)  # an unknown column, noted with the header
    numbered = {int(match[1]): cells.pop(name) for name in list(cells) if (match := _ARGUMENT_COLUMN.match(name))}
    entry: dict[str, object] = {name: _cell(name, text.strip()) for name, text in cells.items() if text.strip()}
    further = [numbered[number] for number in sorted(numbered)]
    while further and not further[-1]:
        further.pop()
    if further:
        words = entry.get("TASK_INPUT", "")
        with contextlib.suppress(_Fault):  # then the text is kept, and its fault is noted where TASK_INPUT is checked
            entry["TASK_INPUT"] = [*_input(words), *further]
    return entry


def _cell(name: str, text: str) -> object:
    if name in {"RETRIES", "SLOTS"} and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if name == "CHAIN":
        return _FLAGS.get(text.lower(), text)
    return text
