"""From what was given to the two accounts, or to the faults that stand in the way."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from azbatchwrap.config.layers import BATCH_GROUP, BY_NAME, STORAGE_GROUP, Given, Report, Values
from azbatchwrap.config.records import BatchAccount, Secret, StorageAccount
from azbatchwrap.errors import ConfigurationError

#: What the credentials template says before it is filled in.
_PLACEHOLDER = re.compile(r"<[^>]*>|\bhere$|^batch account name$|^your[ _-]|^(xxx+|changeme|todo)$", re.IGNORECASE)

#: What ``UseDevelopmentStorage=true`` stands for. The key is public, the same in every storage emulator.
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def refuse_placeholders(values: Values, report: Report) -> None:
    for name in sorted(values.keys() & (BATCH_GROUP | STORAGE_GROUP)):
        given = values[name]
        if _PLACEHOLDER.search(given.text):
            report.faults.append(
                f"{given.place} ({given.layer}) still holds the template's placeholder: put the real value there, or "
                f"remove it (with no account configured at all, Azure on this machine is used)"
            )


def batch_account_of(values: Values, report: Report) -> BatchAccount | None:
    missing = [name for name in ("batch_account", "batch_url") if name not in values]
    if missing:
        have = _first(values, BATCH_GROUP) or _first(values, STORAGE_GROUP)
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


def storage_account_of(values: Values, report: Report) -> StorageAccount | None:
    if "storage_connection_string" in values:
        return _from_connection_string(values, report)
    if "storage_account" not in values:
        have = _first(values, STORAGE_GROUP) or _first(values, BATCH_GROUP)
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


def _from_connection_string(values: Values, report: Report) -> StorageAccount | None:
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


def _service_url(given: Given, report: Report) -> str:
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


def _check_base64(given: Given, report: Report) -> None:
    if not _is_base64(given.text):
        report.faults.append(f"{given.origin} is not base64, as account keys are (cut off when it was copied?)")


def _is_base64(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) > 0
    except (binascii.Error, ValueError):
        return False


def redis_of(values: Values, batch: BatchAccount, report: Report) -> Secret | None:
    """The URL of the Redis server, if one is given."""
    given = values.get("redis_url")
    if given is None:
        return None
    parts = _split(given.text)
    if parts is None or parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        report.faults.append(f"{given.origin} is not an address such as rediss://USER:PASSWORD@HOST:6380/0")
    elif is_loopback(given.text) and not is_loopback(batch.url):
        report.faults.append(f"{given.origin} is on this machine, where no Azure node can reach it")
    return Secret(given.text)


def refuse_contradictions(batch: BatchAccount, storage: StorageAccount, report: Report) -> None:
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


def _first(values: Values, group: frozenset[str]) -> str:
    return next((given.origin for name, given in values.items() if name in group), "")


def _and(names: Iterable[str]) -> str:
    return " and ".join(BY_NAME[name].file_key if name in BY_NAME else name for name in names)
