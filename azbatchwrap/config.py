"""Files, environment and arguments become one frozen `Settings`: the only reader of the environment.

Layers, lowest to highest: built-in defaults, ``batch.json``, ``credentials.json``, environment, arguments.
With no Azure account in any of them, the settings are those of the instance that runs on this machine.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.names import is_id

__all__ = [
    "BatchAccount",
    "LocalEndpoint",
    "PoolSettings",
    "Secret",
    "Settings",
    "StorageAccount",
    "data_folder",
    "is_loopback",
    "load",
    "parse_storage",
    "read_endpoint",
    "read_json_object",
    "start_local",
]

log = logging.getLogger(__name__)

BATCH_FILE = "batch.json"
CREDENTIALS_FILE = "credentials.json"
ENDPOINT_FILE = "endpoint.json"

#: Where an instance on this machine keeps its data, and whether the library may start one (``0``: no).
HOME_VARIABLE = "AZBATCHWRAP_HOME"
AUTOSTART_VARIABLE = "AZBATCHWRAP_AUTOSTART"

#: Starting takes about a second, the very first time it installs Azurite from the network (seconds).
START_TIMEOUT = 900.0
#: A service on this machine answers a connect at once or not at all (seconds).
CONNECT_TIMEOUT = 1.0

#: What ``UseDevelopmentStorage=true`` stands for. The key is public, the same in every storage emulator.
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Secret:
    """Text that shows as ``***`` wherever it is printed; only `reveal` gives it away.

    It cannot be pickled: what is pickled travels to nodes, and no secret may.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: account keys never leave this process")


@dataclass(frozen=True, slots=True)
class BatchAccount:
    """``key`` is base64; ``None`` means that ``DefaultAzureCredential`` signs in."""

    name: str
    url: str
    key: Secret | None


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """``connection_string`` is ``None`` when ``DefaultAzureCredential`` signs in at ``blob_url``."""

    connection_string: Secret | None
    name: str
    blob_url: str | None


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What a new pool looks like. ``sku`` is a prefix: the newest verified image that matches is taken."""

    node_count: int = 1
    vm_size: str = "standard_d2s_v3"
    publisher: str = "canonical"
    offer: str = "ubuntu-24_04-lts"
    sku: str = "server"
    slots_per_node: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the library needs to know; ``sources`` tells for each key which layer gave it."""

    batch: BatchAccount
    storage: StorageAccount
    pool: PoolSettings
    project: str
    is_local: bool
    sources: Mapping[str, str] = field(repr=False, hash=False)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """The instance of Azure on this machine whose data lies in ``folder``."""

    folder: Path
    batch: BatchAccount
    storage: StorageAccount

    def answers(self) -> bool:
        """Whether something listens at each of its addresses on this machine."""
        urls = [self.batch.url, self.storage.blob_url or ""]
        return all(_connects(url) for url in urls if is_loopback(url))


@dataclass(frozen=True, slots=True)
class _Key:
    """One setting: its name in arguments and ``sources``, in its file, and in the environment."""

    name: str
    file: str
    file_key: str
    variable: str
    kind: type[str | int] = str


_KEYS = (
    _Key("batch_account", CREDENTIALS_FILE, "BATCH_ACCOUNT_NAME", "AZURE_BATCH_ACCOUNT"),
    _Key("batch_key", CREDENTIALS_FILE, "BATCH_ACCOUNT_KEY", "AZURE_BATCH_ACCESS_KEY"),
    _Key("batch_url", CREDENTIALS_FILE, "BATCH_ACCOUNT_URL", "AZURE_BATCH_ENDPOINT"),
    _Key("storage_connection_string", CREDENTIALS_FILE, "STORAGE_CONNECTION_STRING", "AZURE_STORAGE_CONNECTION_STRING"),
    _Key("storage_account", CREDENTIALS_FILE, "STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    _Key("storage_key", CREDENTIALS_FILE, "STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
    _Key("storage_url", CREDENTIALS_FILE, "STORAGE_ACCOUNT_URL", "AZBATCHWRAP_STORAGE_URL"),
    _Key("project", BATCH_FILE, "BATCH_PROJECT", "AZBATCHWRAP_PROJECT"),
    _Key("node_count", BATCH_FILE, "BATCH_NODE_COUNT", "AZBATCHWRAP_NODE_COUNT", int),
    _Key("vm_size", BATCH_FILE, "BATCH_VM_SIZE", "AZBATCHWRAP_VM_SIZE"),
    _Key("publisher", BATCH_FILE, "BATCH_OS_PUBLISHER", "AZBATCHWRAP_OS_PUBLISHER"),
    _Key("offer", BATCH_FILE, "BATCH_OS_TYPE", "AZBATCHWRAP_OS_TYPE"),
    _Key("sku", BATCH_FILE, "BATCH_OS_VERSION", "AZBATCHWRAP_OS_VERSION"),
    _Key("slots_per_node", BATCH_FILE, "BATCH_SLOTS_PER_NODE", "AZBATCHWRAP_SLOTS_PER_NODE", int),
)
_BY_NAME = {key.name: key for key in _KEYS}
#: Keys of older files that nothing needs any more; they are no reason to warn.
_OBSOLETE_KEYS = frozenset({"BATCH_ENGINE_NAME", "BATCH_DEBUG_MODE", "SERVICEBUS_CONNECTION_STRING"})
_BATCH_GROUP = frozenset({"batch_account", "batch_key", "batch_url"})
_STORAGE_GROUP = frozenset({"storage_connection_string", "storage_account", "storage_key", "storage_url"})
#: Smallest and largest value the service takes. Slots: 4 per core, at most 256; nodes: 0 makes an empty pool.
_BOUNDS = {"node_count": (0, 100_000), "slots_per_node": (1, 256)}

#: What the credentials template says before it is filled in.
_PLACEHOLDER = re.compile(r"<[^>]*>|\bhere$|^batch account name$|^your[ _-]|^(xxx+|changeme|todo)$", re.IGNORECASE)

#: Images and sizes that older files name and Azure no longer has: CentOS 7, Ubuntu up to 20.04, Debian up to 10;
#: the Basic and the first A, NC, ND and NV series.
_RETIRED_OFFERS = re.compile(
    r"centos|centos-hpc|ubuntuserver|0001-com-ubuntu-server-(bionic|focal)|debian-?(8|9|10)?$", re.IGNORECASE
)
_RETIRED_SIZES = re.compile(
    r"basic_a\d+$|standard_a(\d|10|11)$|standard_(nc|nv)(6|12|24)r?$|standard_nd\d+r?s$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Given:
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


_Values = dict[str, _Given]


@dataclass(slots=True)
class _Report:
    """Faults are collected, so that one run names them all."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def raise_faults(self) -> None:
        if len(self.faults) == 1:
            raise ConfigurationError(self.faults[0])
        if self.faults:
            listed = "".join(f"\n  - {fault}" for fault in self.faults)
            raise ConfigurationError(f"the configuration has {len(self.faults)} faults:{listed}")


def load(
    directory: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    start_local: bool | None = None,
) -> Settings:
    """Read every layer and return what holds.

    ``batch.json`` and ``credentials.json`` are looked for in ``directory`` (default: the working directory) and its
    parents, up to the home directory. ``overrides`` takes the names that ``Settings.sources`` shows (``batch_account``,
    ``node_count``, …); ``None`` values count as not given. ``start_local`` forbids or allows starting the instance on
    this machine when no account is configured (default: what ``AZBATCHWRAP_AUTOSTART`` says).

    Raises ConfigurationError that names every fault with its key, its place and the way out.
    """
    variables = os.environ if environment is None else environment
    report = _Report()
    values: _Values = {}
    for layer in _layers((directory or Path.cwd()).absolute(), variables, overrides or {}, report):
        _overlay(values, layer)
    _refuse_placeholders(values, report)
    report.raise_faults()
    if not values.keys() & (_BATCH_GROUP | _STORAGE_GROUP):
        endpoint = _local_endpoint(variables, start_local, report)
        return _settings(values, endpoint.batch, endpoint.storage, report, local=endpoint)
    batch, storage = _batch_account(values, report), _storage_account(values, report)
    report.raise_faults()
    assert batch is not None
    assert storage is not None
    _refuse_contradictions(batch, storage, report)
    report.raise_faults()
    return _settings(values, batch, storage, report)


# Layers


def _layers(
    directory: Path, variables: Mapping[str, str], overrides: Mapping[str, object], report: _Report
) -> Iterator[_Values]:
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


def _from_file(path: Path, report: _Report) -> _Values:
    known = {key.file_key: key for key in _KEYS}
    values: _Values = {}
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


def _warn_unknown(name: str, key: _Key | None, path: Path, report: _Report) -> None:
    if key is not None:
        report.warnings.append(f"{name} in {path} is ignored: it belongs in {key.file}")
    elif name not in _OBSOLETE_KEYS and not name.startswith(("_", "$", "#", "//")):
        own = [key.file_key for key in _KEYS if key.file == path.name]
        near = difflib.get_close_matches(name.upper(), own, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known keys: {', '.join(own)}"
        report.warnings.append(f"{name} in {path} is unknown and ignored.{hint}")


def _from_environment(variables: Mapping[str, str], report: _Report) -> _Values:
    values: _Values = {}
    for key in _KEYS:
        if key.variable in variables:
            _take(values, key, variables[key.variable], place=key.variable, layer="environment", report=report)
    return values


def _from_overrides(overrides: Mapping[str, object], report: _Report) -> _Values:
    values: _Values = {}
    for name, raw in overrides.items():
        key = _BY_NAME.get(name)
        if key is None:
            near = difflib.get_close_matches(name, _BY_NAME, n=1)
            report.faults.append(f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        else:
            value = raw.reveal() if isinstance(raw, Secret) else raw
            _take(values, key, value, place=name, layer="argument", report=report)
    return values


def _take(values: _Values, key: _Key, raw: object, *, place: str, layer: str, report: _Report) -> None:
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
            values[key.name] = _Given(number, place, layer)
    elif key.name == "sku" and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        values[key.name] = _Given(str(raw), place, layer)  # "7.7" is easily written without its quotes
    elif isinstance(raw, str):
        values[key.name] = _Given(raw.strip(), place, layer)
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


def _overlay(values: _Values, layer: _Values) -> None:
    """Lay ``layer`` over ``values``. Another account's key or address never mixes with the account named above it."""
    if _changes(values, layer, "batch_account"):
        _drop(values, _BATCH_GROUP)
    if "storage_connection_string" in layer or _changes(values, layer, "storage_account"):
        _drop(values, _STORAGE_GROUP)
    values.update(layer)


def _changes(values: _Values, layer: _Values, name: str) -> bool:
    if name not in layer:
        return False
    return name not in values or values[name].value != layer[name].value


def _drop(values: _Values, names: Iterable[str]) -> None:
    for name in names:
        values.pop(name, None)


# Checks


def _refuse_placeholders(values: _Values, report: _Report) -> None:
    for name in sorted(values.keys() & (_BATCH_GROUP | _STORAGE_GROUP)):
        given = values[name]
        if _PLACEHOLDER.search(given.text):
            report.faults.append(
                f"{given.place} ({given.layer}) still holds the template's placeholder: put the real value there, or "
                f"remove it (with no account configured at all, Azure on this machine is used)"
            )


def _batch_account(values: _Values, report: _Report) -> BatchAccount | None:
    missing = [name for name in ("batch_account", "batch_url") if name not in values]
    if missing:
        have = _first(values, _BATCH_GROUP) or _first(values, _STORAGE_GROUP)
        report.faults.append(
            f"{have} is given, but not {_and(missing)}. Give the whole Batch account "
            f"(its URL looks like https://ACCOUNT.REGION.batch.azure.com), or nothing to work on this machine"
        )
        return None
    url = _service_url(values["batch_url"], report)
    key = values.get("batch_key")
    if key is not None:
        _check_base64(key, report)
    elif is_loopback(url):
        report.faults.append(
            f"{values['batch_url'].origin} is on this machine, where signing in by identity is not possible: "
            f"give its key too, as `azbatchwrap local env` prints it"
        )
    return BatchAccount(values["batch_account"].text, url, Secret(key.text) if key else None)


def _storage_account(values: _Values, report: _Report) -> StorageAccount | None:
    if "storage_connection_string" in values:
        return _from_connection_string(values, report)
    if "storage_account" not in values:
        have = _first(values, _STORAGE_GROUP) or _first(values, _BATCH_GROUP)
        report.faults.append(
            f"{have} is given, but no storage account. Give STORAGE_CONNECTION_STRING, or STORAGE_ACCOUNT_NAME "
            f"(with STORAGE_ACCOUNT_KEY, or without it to sign in by identity)"
        )
        return None
    name, key, url = values["storage_account"].text, values.get("storage_key"), values.get("storage_url")
    blob_url = _service_url(url, report) if url else f"https://{name}.blob.core.windows.net"
    if key is None:
        if is_loopback(blob_url):
            report.faults.append(f"{url.origin if url else name} is on this machine: give its key too")
        return StorageAccount(None, name, blob_url)
    _check_base64(key, report)
    protocol = urlsplit(blob_url).scheme
    endpoint = f"BlobEndpoint={blob_url};" if url else "EndpointSuffix=core.windows.net;"
    text = f"DefaultEndpointsProtocol={protocol};AccountName={name};AccountKey={key.text};{endpoint}"
    return StorageAccount(Secret(text), name, blob_url)


def _from_connection_string(values: _Values, report: _Report) -> StorageAccount | None:
    given = values["storage_connection_string"]
    try:
        account = parse_storage(given.text)
    except ConfigurationError as error:
        report.faults.append(f"{given.origin}: {error}")
        return None
    other = values.get("storage_account")
    if other is not None and other.text != account.name:
        report.faults.append(
            f"{given.origin} is of the account {account.name}, but {other.origin} says {other.text}: remove one"
        )
    return account


def parse_storage(text: str) -> StorageAccount:
    """The storage account that a connection string names.

    Raises ConfigurationError (which never repeats the text, it holds a key) when it is not one with an account key.
    """
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part.strip())
    fields = {name.strip().lower(): value.strip() for name, value in parts.items()}
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        return _development_storage()
    name, key = fields.get("accountname"), fields.get("accountkey")
    if "sharedaccesssignature" in fields and not key:
        raise ConfigurationError(
            "a connection string with a shared access signature cannot sign what nodes need; give one with AccountKey, "
            "or STORAGE_ACCOUNT_NAME alone to sign in by identity"
        )
    missing = [label for label, value in (("AccountName", name), ("AccountKey", key)) if not value]
    if missing or not name or not key:
        raise ConfigurationError(f"not a storage connection string: {_and(missing)} missing (copy it whole)")
    if not _is_base64(key):
        raise ConfigurationError("its AccountKey is not base64 (cut off when it was copied?)")
    protocol = fields.get("defaultendpointsprotocol", "https")
    suffix = fields.get("endpointsuffix", "core.windows.net")
    blob_url = fields.get("blobendpoint", "").rstrip("/") or f"{protocol}://{name}.blob.{suffix}"
    address = _split(blob_url)
    if address is None or address.scheme not in {"http", "https"} or not address.hostname:
        raise ConfigurationError(f"its BlobEndpoint {blob_url!r} is not an address")
    return StorageAccount(Secret(text), name, blob_url)


def _development_storage() -> StorageAccount:
    blob, queue = (f"http://127.0.0.1:{port}/{DEVELOPMENT_ACCOUNT}" for port in (10000, 10001))
    text = (
        f"DefaultEndpointsProtocol=http;AccountName={DEVELOPMENT_ACCOUNT};AccountKey={DEVELOPMENT_KEY};"
        f"BlobEndpoint={blob};QueueEndpoint={queue};"
    )
    return StorageAccount(Secret(text), DEVELOPMENT_ACCOUNT, blob)


def _service_url(given: _Given, report: _Report) -> str:
    """The address with its scheme and without a trailing slash. A bare host is taken as https, as `az` does."""
    text = given.text if "://" in given.text else f"https://{given.text}"
    parts = _split(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        report.faults.append(f"{given.origin} is not an address such as https://ACCOUNT.REGION.batch.azure.com")
    elif parts.username or parts.query:
        report.faults.append(f"{given.origin} must be a plain address, without a user, password or query")
    elif parts.scheme == "http" and not is_loopback(text):
        report.faults.append(f"{given.origin} is http to another machine: use https")
    return text.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """The parts of an address, or ``None`` when it is none (``urlsplit`` looks at the port only when asked)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_loopback(url: str) -> bool:
    """Whether the address leads to this machine only."""
    parts = _split(url if "://" in url else f"https://{url}")
    host = (parts.hostname or "") if parts is not None else ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_base64(given: _Given, report: _Report) -> None:
    if not _is_base64(given.text):
        report.faults.append(f"{given.origin} is not base64, as account keys are (cut off when it was copied?)")


def _is_base64(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) > 0
    except (binascii.Error, ValueError):
        return False


def _refuse_contradictions(batch: BatchAccount, storage: StorageAccount, report: _Report) -> None:
    here, there = is_loopback(batch.url), is_loopback(storage.blob_url or "")
    if there and not here:
        report.faults.append(
            f"the Batch account {batch.url} is in Azure, but the storage account {storage.blob_url} is on this machine, "
            f"where no Azure node can reach it. Use a storage account in Azure, or the Batch service on this machine "
            f"(azbatchwrap local up)"
        )
    elif here and not there:
        report.warnings.append(
            f"tasks run on this machine ({batch.url}), but their files go to the storage account {storage.blob_url}"
        )


def _first(values: _Values, group: frozenset[str]) -> str:
    return next((given.origin for name, given in values.items() if name in group), "")


def _and(names: Iterable[str]) -> str:
    return " and ".join(_BY_NAME[name].file_key if name in _BY_NAME else name for name in names)


# The result


def _settings(
    values: _Values,
    batch: BatchAccount,
    storage: StorageAccount,
    report: _Report,
    *,
    local: LocalEndpoint | None = None,
) -> Settings:
    project = values["project"].text if "project" in values else "default"
    if not is_id(project):
        report.faults.append(
            f"{values['project'].origin} must be 1 to 64 letters, digits, hyphens or underscores, not {project!r}"
        )
    report.raise_faults()
    pool = _pool_settings(values, report)
    for warning in report.warnings:
        log.warning("%s", warning)
    sources = {name: values[name].origin if name in values else "default" for name in _BY_NAME}
    if local is not None:
        given = _BATCH_GROUP | {"storage_connection_string", "storage_account"}
        sources |= dict.fromkeys(given, f"instance on this machine: {local.folder / ENDPOINT_FILE}")
    return Settings(
        batch=batch,
        storage=storage,
        pool=pool,
        project=project,
        is_local=is_loopback(batch.url),
        sources=sources,
        warnings=tuple(report.warnings),
    )


def _pool_settings(values: _Values, report: _Report) -> PoolSettings:
    """The pool's settings, with a named substitute for what Azure has retired."""
    values = dict(values)
    defaults = PoolSettings()
    offer, size = values.get("offer"), values.get("vm_size")
    if offer and _RETIRED_OFFERS.match(offer.text):
        named = " ".join(values[name].text for name in ("publisher", "offer", "sku") if name in values)
        report.warnings.append(
            f"the image {named} ({offer.layer}) is retired in Azure; "
            f"{defaults.publisher} {defaults.offer} {defaults.sku} takes its place"
        )
        _drop(values, ("publisher", "offer", "sku"))
    if size and _RETIRED_SIZES.match(size.text):
        report.warnings.append(
            f"the VM size {size.text} ({size.origin}) is retired in Azure; {defaults.vm_size} takes its place"
        )
        _drop(values, ("vm_size",))

    def text(name: str, default: str) -> str:
        return values[name].text if name in values else default

    def number(name: str, default: int) -> int:
        return int(values[name].value) if name in values else default

    return PoolSettings(
        node_count=number("node_count", defaults.node_count),
        vm_size=text("vm_size", defaults.vm_size),
        publisher=text("publisher", defaults.publisher),
        offer=text("offer", defaults.offer),
        sku=text("sku", defaults.sku),
        slots_per_node=number("slots_per_node", defaults.slots_per_node),
    )


# The instance on this machine


def data_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the instance on this machine keeps its data: ``AZBATCHWRAP_HOME``, else the user's data folder."""
    variables = os.environ if environment is None else environment
    named = variables.get(HOME_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("azbatchwrap", appauthor=False)


def read_endpoint(folder: Path) -> LocalEndpoint | None:
    """The instance that ``folder`` says was started last, or ``None``. It may have died since: see ``answers``.

    Raises ConfigurationError when the file is there and broken.
    """
    path = folder / ENDPOINT_FILE
    if not path.exists():
        return None
    content = read_json_object(path)
    try:
        batch, storage = content["batch"], content["storage"]
        account = BatchAccount(str(batch["account"]), str(batch["url"]), Secret(str(batch["key"])))  # type: ignore[index]
        return LocalEndpoint(folder, account, parse_storage(str(storage["connection_string"])))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} does not describe an instance ({error} is missing). `azbatchwrap local up` writes it anew"
        ) from error


def start_local(folder: Path) -> LocalEndpoint:
    """Start the instance on this machine in processes of its own (they outlive this one) and return its addresses.

    Raises ConfigurationError with what it said when it does not start.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "azbatchwrap.cli.main", "local", "up", "--data-dir", str(folder)]
    log.info("starting Azure Batch on this machine in %s", folder)
    try:
        # In the data folder: a module of the user's that lies in the working directory must not shadow ours.
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"Azure on this machine did not start within {START_TIMEOUT:.0f} s; see `azbatchwrap local logs`"
        ) from error
    endpoint = read_endpoint(folder) if done.returncode == 0 else None
    if endpoint is None:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise ConfigurationError(f"Azure on this machine did not start (exit code {done.returncode}):\n{said}")
    return endpoint


def _local_endpoint(variables: Mapping[str, str], start: bool | None, report: _Report) -> LocalEndpoint:
    folder = data_folder(variables)
    endpoint = read_endpoint(folder)
    if endpoint is None or not endpoint.answers():
        if start is None:
            start = variables.get(AUTOSTART_VARIABLE, "1").strip().lower() not in {"0", "false", "no", "off"}
        if not start:
            raise ConfigurationError(
                f"no Azure account is configured and no instance runs on this machine ({folder}). Run "
                f"`azbatchwrap local up`, or give an account in {CREDENTIALS_FILE} or the environment"
            )
        endpoint = start_local(folder)
    report.warnings.append(
        f"no Azure account is configured: using Azure Batch on this machine ({endpoint.batch.url}, data in {folder})"
    )
    return endpoint


def _connects(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True
