"""Tables: JSON lines, CSV and TSV; checked in one pass, and read anew, row by row, when the tasks are submitted."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from azbatchwrap.errors import ManifestError

from .entries import ENTRY_KEYS, EntryReader, Faults, suggestion
from .modules import modules_folder, needed_modules
from .records import Manifest, TaskRecord
from .syntax import load_json
from .values import Fault, read_input, shortened

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
        for index, (where, entry) in enumerate(_rows(self._path, faults := Faults(str(self._path)))):
            # A reader for each row: what is compared across rows was checked when the table was read first.
            record = EntryReader(faults).read(index, entry, where)
            faults.raise_if_any()  # the file was changed since
            if record is not None:
                yield record


def read_table(path: Path, override: Path | None, faults: Faults) -> Manifest:
    reader = EntryReader(faults)
    count = 0
    for count, (where, entry) in enumerate(_rows(path, faults), start=1):
        reader.read(count - 1, entry, where)
    reader.check_dependencies()
    if not count and not faults:
        faults.add("", "holds no entries, so there is nothing to run")
    folder = override or modules_folder(path, None, faults)
    modules = needed_modules(folder, (), reader, faults)
    faults.raise_if_any()
    return Manifest(_TableRecords(path, count), modules, folder, None, str(path))


def _rows(path: Path, faults: Faults) -> Iterator[tuple[str, object]]:
    """Each entry of a table with where it stands. Lines that cannot be read are noted and given as no entry."""
    separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    try:
        with path.open(encoding="utf-8-sig", newline="" if separator else None) as stream:
            yield from _csv_rows(stream, separator, faults) if separator else _json_rows(stream, faults)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: holds bytes that are not {error.encoding} text") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error


def _json_rows(stream: IO[str], faults: Faults) -> Iterator[tuple[str, object]]:
    number = 0
    for line_number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        number += 1
        where = f"entry {number} (line {line_number})"
        try:
            yield where, load_json(line, faults, where)
        except Fault as fault:
            faults.add(where, str(fault).removeprefix("line 1, "))


def _csv_rows(stream: IO[str], separator: str, faults: Faults) -> Iterator[tuple[str, object]]:
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


def _columns(header: Sequence[str], faults: Faults) -> list[str]:
    columns: list[str] = []
    for title in header:
        upper = title.strip().upper()
        name = COLUMN_NAMES.get(upper, upper)
        if name not in ENTRY_KEYS and not _ARGUMENT_COLUMN.match(name):
            hint = suggestion(upper, [*ENTRY_KEYS, *COLUMN_NAMES])
            if ";" in title:
                hint = "; put commas between the cells, or tabs in a .tsv, and no semicolons"
            faults.add("header", f"{shortened(title)} is not a known column{hint}")
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
        with contextlib.suppress(Fault):  # then the text is kept, and its fault is noted where TASK_INPUT is checked
            entry["TASK_INPUT"] = [*read_input(words), *further]
    return entry


def _cell(name: str, text: str) -> object:
    if name in {"RETRIES", "SLOTS"} and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if name == "CHAIN":
        return _FLAGS.get(text.lower(), text)
    return text
