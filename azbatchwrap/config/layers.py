"""What each file, the environment and the caller give: values that know where they came from."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from azbatchwrap.config.records import Secret
from azbatchwrap.errors import ConfigurationError

BATCH_FILE = "batch.json"
CREDENTIALS_FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its name in arguments and ``sources``, in its file, and in the environment."""

    name: str
    file: str
    file_key: str
    variable: str
    kind: type[str | int] = str


KEYS = (
    Key("batch_account", CREDENTIALS_FILE, "BATCH_ACCOUNT_NAME", "AZURE_BATCH_ACCOUNT"),
    Key("batch_key", CREDENTIALS_FILE, "BATCH_ACCOUNT_KEY", "AZURE_BATCH_ACCESS_KEY"),
    Key("batch_url", CREDENTIALS_FILE, "BATCH_ACCOUNT_URL", "AZURE_BATCH_ENDPOINT"),
    Key("storage_connection_string", CREDENTIALS_FILE, "STORAGE_CONNECTION_STRING", "AZURE_STORAGE_CONNECTION_STRING"),
    Key("storage_account", CREDENTIALS_FILE, "STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    Key("storage_key", CREDENTIALS_FILE, "STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
    Key("storage_url", CREDENTIALS_FILE, "STORAGE_ACCOUNT_URL", "AZBATCHWRAP_STORAGE_URL"),
    Key("subscription", CREDENTIALS_FILE, "SUBSCRIPTION_ID", "AZURE_SUBSCRIPTION_ID"),
    Key("cloud_metadata", CREDENTIALS_FILE, "CLOUD_METADATA_URL", "ARM_CLOUD_METADATA_URL"),
    Key("redis_url", CREDENTIALS_FILE, "REDIS_URL", "AZBATCHWRAP_REDIS_URL"),
    Key("project", BATCH_FILE, "BATCH_PROJECT", "AZBATCHWRAP_PROJECT"),
    Key("node_count", BATCH_FILE, "BATCH_NODE_COUNT", "AZBATCHWRAP_NODE_COUNT", int),
    Key("vm_size", BATCH_FILE, "BATCH_VM_SIZE", "AZBATCHWRAP_VM_SIZE"),
    Key("publisher", BATCH_FILE, "BATCH_OS_PUBLISHER", "AZBATCHWRAP_OS_PUBLISHER"),
    Key("offer", BATCH_FILE, "BATCH_OS_TYPE", "AZBATCHWRAP_OS_TYPE"),
    Key("sku", BATCH_FILE, "BATCH_OS_VERSION", "AZBATCHWRAP_OS_VERSION"),
    Key("slots_per_node", BATCH_FILE, "BATCH_SLOTS_PER_NODE", "AZBATCHWRAP_SLOTS_PER_NODE", int),
)
BY_NAME = {key.name: key for key in KEYS}
#: Keys of older files that nothing needs any more; they are no reason to warn.
_OBSOLETE_KEYS = frozenset({"BATCH_ENGINE_NAME", "BATCH_DEBUG_MODE", "SERVICEBUS_CONNECTION_STRING"})
BATCH_GROUP = frozenset({"batch_account", "batch_key", "batch_url"})
STORAGE_GROUP = frozenset({"storage_connection_string", "storage_account", "storage_key", "storage_url"})
#: Smallest and largest value the service takes. Slots: 4 per core, at most 256; nodes: 0 makes an empty pool.
_BOUNDS = {"node_count": (0, 100_000), "slots_per_node": (1, 256)}


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it came from: ``place`` names the key, ``layer`` the file, the environment or the caller."""

    value: str | int
    place: str
    layer: str

    @property
    def text(self) -> str:
        return str(self.value)

    @property
    def origin(self) -> str:
        return f"{self.layer}: {self.place}"


Values = dict[str, Given]


@dataclass(slots=True)
class Report:
    """Faults are collected, so that one run names them all."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def raise_faults(self) -> None:
        if len(self.faults) == 1:
            raise ConfigurationError(self.faults[0])
        if self.faults:
            listed = "".join(f"\n  - {fault}" for fault in self.faults)
            raise ConfigurationError(f"the configuration has {len(self.faults)} faults:{listed}")


def read_layers(
    directory: Path, variables: Mapping[str, str], overrides: Mapping[str, object], report: Report
) -> Iterator[Values]:
    for file in (BATCH_FILE, CREDENTIALS_FILE):
        path = _find(directory, file, variables)
        if path is not None:
            yield _from_file(path, report)
    yield _from_environment(variables, report)
    yield _from_overrides(overrides, report)


def _find(directory: Path, file: str, variables: Mapping[str, str]) -> Path | None:
    """``file`` in ``directory`` or the nearest parent; the home directory is the last one looked at."""
    home = Path(variables.get("HOME") or Path.home()).absolute()
    for folder in (directory, *directory.parents):
        if os.path.lexists(folder / file):
            return folder / file
        if folder == home:
            break
    return None


def _from_file(path: Path, report: Report) -> Values:
    known = {key.file_key: key for key in KEYS}
    values: Values = {}
    for name, raw in read_json_object(path).items():
        key = known.get(name)
        if key is None or key.file != path.name:
            _warn_unknown(name, key, path, report)
        else:
            _take(values, key, raw, place=name, layer=str(path), report=report)
    return values


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in ``path``; ConfigurationError says what is wrong and where, by line and column."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}. Correct its rights or remove it") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold a JSON object {{…}}, not {_json_kind(content)}")
    return content


def _warn_unknown(name: str, key: Key | None, path: Path, report: Report) -> None:
    if key is not None:
        report.warnings.append(f"{name} in {path} is ignored: it belongs in {key.file}")
    elif name not in _OBSOLETE_KEYS and not name.startswith(("_", "$", "#", "//")):
        own = [key.file_key for key in KEYS if key.file == path.name]
        near = difflib.get_close_matches(name.upper(), own, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known keys: {', '.join(own)}"
        report.warnings.append(f"{name} in {path} is unknown and ignored.{hint}")


def _from_environment(variables: Mapping[str, str], report: Report) -> Values:
    values: Values = {}
    for key in KEYS:
        if key.variable in variables:
            _take(values, key, variables[key.variable], place=key.variable, layer="environment", report=report)
    return values


def _from_overrides(overrides: Mapping[str, object], report: Report) -> Values:
    values: Values = {}
    for name, raw in overrides.items():
        key = BY_NAME.get(name)
        if key is None:
            near = difflib.get_close_matches(name, BY_NAME, n=1)
            report.faults.append(f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        else:
            value = raw.reveal() if isinstance(raw, Secret) else raw
            _take(values, key, value, place=name, layer="argument", report=report)
    return values


def _take(values: Values, key: Key, raw: object, *, place: str, layer: str, report: Report) -> None:
    """Put ``raw`` into ``values`` when it is something and of the right type. Blank text counts as not given."""
    where = f"{place} ({layer})"
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return
    if key.kind is int:
        number = _whole_number(raw)
        low, high = _BOUNDS[key.name]
        if number is None:
            report.faults.append(f"{where} must be a whole number, not {_shown(raw)}")
        elif not low <= number <= high:
            report.faults.append(f"{where} must lie between {low} and {high}, not {number}")
        else:
            values[key.name] = Given(number, place, layer)
    elif key.name == "sku" and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        values[key.name] = Given(str(raw), place, layer)  # "7.7" is easily written without its quotes
    elif isinstance(raw, str):
        values[key.name] = Given(raw.strip(), place, layer)
    else:
        report.faults.append(f"{where} must be text, not {_json_kind(raw)}")


def _whole_number(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", raw):
        return int(raw)
    return None


def _shown(raw: object) -> str:
    return repr(raw)[:60] if isinstance(raw, (str, int, float)) and not isinstance(raw, bool) else _json_kind(raw)


def _json_kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)


def overlay(values: Values, layer: Values) -> None:
    """Lay ``layer`` over ``values``. Another account's key or address never mixes with the account named above it."""
    if _changes(values, layer, "batch_account"):
        drop(values, BATCH_GROUP)
    if "storage_connection_string" in layer or _changes(values, layer, "storage_account"):
        drop(values, STORAGE_GROUP)
    values.update(layer)


def _changes(values: Values, layer: Values, name: str) -> bool:
    if name not in layer:
        return False
    return name not in values or values[name].value != layer[name].value


def drop(values: Values, names: Iterable[str]) -> None:
    for name in names:
        values.pop(name, None)
