"""Manifest files: a JSON or YAML object, or a table; checked whole before anything is done with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from glob import has_magic
from os.path import lexists
from pathlib import Path, PurePosixPath

from azbatchwrap import names
from azbatchwrap.errors import ManifestError

from .entries import TOP_KEYS, EntryReader, Faults, suggestion, upper_keys
from .modules import modules_folder, needed_modules
from .records import Manifest
from .syntax import read_json, read_yaml
from .tables import read_table
from .values import JSON, Fault, read_input, read_module, shortened, wrong_type


def read(path: Path | str, *, modules_directory: Path | str | None = None) -> Manifest:
    """The manifest in the file ``path``, checked whole.

    ``modules_directory`` overrides the file's TASK_MODULES_DIRECTORY (which is relative to the file). With neither,
    the task files are looked for in the folder ``tasks`` beside the manifest, then beside it. TASK_MODULES lists the
    files to deploy; those the entries name are added to it, and when it is absent so are the numbered files that
    continue a chain. Raises ManifestError with every fault.
    """
    path = Path(path)
    readers = {".yaml": read_yaml, ".yml": read_yaml, ".csv": None, ".tsv": None, ".jsonl": None, ".ndjson": None}
    try:
        there = path.is_file()
    except OSError as error:
        raise ManifestError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if not there:
        raise ManifestError(f"there is no manifest {str(path)!r}")
    override = Path(modules_directory) if modules_directory is not None else None
    faults = Faults(str(path))
    parse = readers.get(path.suffix.lower(), read_json)
    if parse is None:
        return read_table(path, override, faults)
    return _read_document(path, parse(path, faults), override, faults)


def check_inputs(manifest: Manifest, there: Collection[str]) -> None:
    """Raises ManifestError for INPUTS that name no file, and no folder, of the input files ``there``."""
    known = set(there)
    for name in there:  # the folders they lie in may be named too
        known.update(str(parent) for parent in PurePosixPath(name).parents)
    faults = Faults(manifest.source)
    for record in manifest.records:
        for name in record.inputs or ():
            if name not in known:
                reason = f"there is no {name!r} among the input files{suggestion(name, there)}"
                faults.add(f"entry {record.index + 1}, INPUTS", reason)
    faults.raise_if_any()


def _read_document(path: Path, document: object, override: Path | None, faults: Faults) -> Manifest:
    top = document if isinstance(document, dict) else {"JOB_MANIFEST": document}
    keys = upper_keys(top, TOP_KEYS, "", faults)
    listed = _names_of_modules(keys.get("TASK_MODULES"), faults)
    default_input: tuple[JSON, ...] = ()
    try:
        default_input = read_input(keys.get("TASK_ARGS"))
    except Fault as fault:
        faults.add("TASK_ARGS", fault)
    reader = EntryReader(faults, default_input)
    records = []
    for index, entry in enumerate(_entries(keys, listed, faults)):
        record = reader.read(index, entry, f"entry {index + 1}")
        records += [record] if record else []
    reader.check_dependencies()
    container = _container(keys.get("TASK_OUTPUT_CONTAINER"), faults)
    inputs = _input_paths(path, keys.get("INPUT_FILES"), faults)
    folder = override or modules_folder(path, keys.get("TASK_MODULES_DIRECTORY"), faults)
    modules = needed_modules(folder, listed, reader, faults)
    faults.raise_if_any()
    return Manifest(tuple(records), modules, folder, container, str(path), inputs)


def _entries(keys: Mapping[str, object], listed: Sequence[str], faults: Faults) -> list[object]:
    entries = keys.get("JOB_MANIFEST")
    if entries is None and listed:
        return [{"TASK_MODULE": listed[0]}]
    if entries is None:
        faults.add("JOB_MANIFEST", "is missing: it lists the tasks, each with TASK_MODULE and TASK_INPUT")
    elif not isinstance(entries, list):
        faults.add("JOB_MANIFEST", wrong_type(entries, "a list of entries"))
    elif not entries:
        faults.add("JOB_MANIFEST", "holds no entries, so there is nothing to run")
    else:
        return entries
    return []


def _names_of_modules(value: object, faults: Faults) -> list[str]:
    if value is None or value == "":
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        faults.add("TASK_MODULES", wrong_type(value, "a list of file names"))
        return []
    found = []
    for item in items:
        try:
            found.append(read_module(item))
        except Fault as fault:
            faults.add("TASK_MODULES", fault)
    return found


def _input_paths(path: Path, value: object, faults: Faults) -> tuple[str, ...]:
    """The paths of INPUT_FILES, relative to the manifest. What a pattern matches is found when files are uploaded."""
    items = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list):
        faults.add("INPUT_FILES", wrong_type(value, "a list of paths"))
        return ()
    found = []
    for item in items:
        if not isinstance(item, str) or not item or "\0" in item:
            faults.add("INPUT_FILES", wrong_type(item, "the path of a file or folder, or a pattern"))
        elif not has_magic(item) and not lexists(path.parent / item):
            faults.add("INPUT_FILES", f"there is no file or folder {shortened(str(path.parent / item))}")
        else:
            found.append(str(path.parent / item))
    return tuple(found)


def _container(value: object, faults: Faults) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and names.CONTAINER_PATTERN.match(value):
        return value
    reason = f"{shortened(value)} is no container name: 3 to 63 of a-z 0-9 and single inner hyphens"
    faults.add("TASK_OUTPUT_CONTAINER", reason)
    return None
