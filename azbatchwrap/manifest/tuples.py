"""Tasks given by a program: one tuple, a list of them, or any iterable, read lazily."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from azbatchwrap.errors import ManifestError

from .entries import EntryReader, Faults
from .records import TaskRecord
from .values import Fault, json_value, kind_of, read_input, read_module, shortened, wrong_type


def from_tuples(work: object) -> Iterator[TaskRecord]:
    """Records from one tuple ``("1_task.py", "input.txt 2 34")``, or from a list or any iterable of such items.

    An item is a tuple (the task file's name, the input, further arguments that are appended as they are), a mapping
    with the keys of a manifest entry, or a `TaskRecord`. One tuple, mapping, record or list is checked whole and its
    faults are raised together, before the first record is given out; any other iterable is read lazily, so that a
    million items need no memory, and raises at its first faulty item. Raises ManifestError.
    """
    if isinstance(work, str | bytes):
        raise ManifestError(f"a task is a tuple such as ('1_task.py', 'input.txt 2 34'), not {shortened(work)}")
    if isinstance(work, TaskRecord | Mapping) or (isinstance(work, tuple) and work and isinstance(work[0], str)):
        work = [work]
    if not isinstance(work, Iterable):
        raise ManifestError(f"tasks are given as tuples, not as {kind_of(work)} ({shortened(work)})")
    if isinstance(work, Sequence):
        return iter(_all_records(work))
    return _lazy_records(work)


def _all_records(items: Sequence[object]) -> list[TaskRecord]:
    faults = Faults("the tasks")
    if len(items) > 1 and isinstance(items[0], str) and items[0].endswith(".py"):
        raise ManifestError(f"a list holds many tasks: for one, write the tuple ({shortened(items[0])}, …)")
    reader = EntryReader(faults)
    records = [_record(index, item, reader, faults) for index, item in enumerate(items)]
    reader.check_dependencies()
    faults.raise_if_any()
    return [record for record in records if record is not None]


def _lazy_records(items: Iterable[object]) -> Iterator[TaskRecord]:
    for index, item in enumerate(items):
        faults = Faults("the tasks")
        record = _record(index, item, EntryReader(faults), faults)
        faults.raise_if_any()
        if record is not None:
            yield record


def _record(index: int, item: object, reader: EntryReader, faults: Faults) -> TaskRecord | None:
    where = f"task {index + 1}"
    if isinstance(item, TaskRecord):
        return replace(item, index=index)
    if isinstance(item, Mapping):
        return reader.read(index, item, where)
    if not isinstance(item, tuple | list) or not item:
        faults.add(where, wrong_type(item, "a tuple such as ('1_task.py', 'input.txt 2 34')"))
        return None
    try:
        further = tuple(json_value(value) for value in item[2:])
        return TaskRecord(index, None, read_module(item[0]), read_input(item[1]) + further if len(item) > 1 else ())
    except Fault as fault:
        faults.add(where, fault)
        return None
