"""Files, environment and arguments become one frozen `Settings`: the only reader of the environment.

Layers, lowest to highest: built-in defaults, ``batch.json``, ``credentials.json``, environment, arguments.
With no Azure account in any of them, the settings are those of the instance that runs on this machine.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from azbatchwrap.config.accounts import (
    DEVELOPMENT_KEY,
    batch_account_of,
    is_loopback,
    parse_storage,
    redis_of,
    refuse_contradictions,
    refuse_placeholders,
    storage_account_of,
)
from azbatchwrap.config.layers import (
    BATCH_GROUP,
    BY_NAME,
    STORAGE_GROUP,
    Report,
    Values,
    drop,
    overlay,
    read_json_object,
    read_layers,
)
from azbatchwrap.config.machine import (
    ENDPOINT_FILE,
    LocalEndpoint,
    data_folder,
    local_endpoint,
    read_endpoint,
    start_local,
)
from azbatchwrap.config.records import BatchAccount, ManagementPlane, PoolSettings, Secret, Settings, StorageAccount
from azbatchwrap.names import is_id

__all__ = [
    "DEVELOPMENT_KEY",
    "ENDPOINT_FILE",
    "BatchAccount",
    "LocalEndpoint",
    "ManagementPlane",
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

#: Images and sizes that older files name and Azure no longer has: CentOS 7, Ubuntu up to 20.04, Debian up to 10;
#: the Basic and the first A, NC, ND and NV series.
_RETIRED_OFFERS = re.compile(
    r"centos|centos-hpc|ubuntuserver|0001-com-ubuntu-server-(bionic|focal)|debian-?(8|9|10)?$", re.IGNORECASE
)
_RETIRED_SIZES = re.compile(
    r"basic_a\d+$|standard_a(\d|10|11)$|standard_(nc|nv)(6|12|24)r?$|standard_nd\d+r?s$", re.IGNORECASE
)


def load(
    directory: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    start_local: bool | None = None,
    tell: Callable[[str], None] | None = None,
) -> Settings:
    """Read every layer and return what holds.

    ``batch.json`` and ``credentials.json`` are looked for in ``directory`` (default: the working directory) and its
    parents, up to the home directory. ``overrides`` takes the names that ``Settings.sources`` shows (``batch_account``,
    ``node_count``, …); ``None`` values count as not given. ``start_local`` forbids or allows starting the instance on
    this machine when no account is configured (default: what ``AZBATCHWRAP_AUTOSTART`` says); ``tell`` gets the lines
    that it says meanwhile.

    Raises ConfigurationError that names every fault with its key, its place and the way out.
    """
    variables = os.environ if environment is None else environment
    report = Report()
    values: Values = {}
    for layer in read_layers((directory or Path.cwd()).absolute(), variables, overrides or {}, report):
        overlay(values, layer)
    refuse_placeholders(values, report)
    report.raise_faults()
    if not values.keys() & (BATCH_GROUP | STORAGE_GROUP):
        endpoint = local_endpoint(variables, start_local, report, tell)
        return _settings(values, endpoint.batch, endpoint.storage, report, local=endpoint)
    batch, storage = batch_account_of(values, report), storage_account_of(values, report)
    report.raise_faults()
    assert batch is not None
    assert storage is not None
    refuse_contradictions(batch, storage, report)
    report.raise_faults()
    return _settings(values, batch, storage, report)


def _settings(
    values: Values,
    batch: BatchAccount,
    storage: StorageAccount,
    report: Report,
    *,
    local: LocalEndpoint | None = None,
) -> Settings:
    project = values["project"].text if "project" in values else "default"
    if not is_id(project):
        report.faults.append(
            f"{values['project'].origin} must be 1 to 64 letters, digits, hyphens or underscores, not {project!r}"
        )
    redis = redis_of(values, batch, report)
    report.raise_faults()
    pool = _pool_settings(values, report)
    for warning in report.warnings:
        log.warning("%s", warning)
    sources = {name: values[name].origin if name in values else "default" for name in BY_NAME}
    if local is not None:
        given = BATCH_GROUP | {"storage_connection_string", "storage_account"}
        sources |= dict.fromkeys(given, f"instance on this machine: {local.folder / ENDPOINT_FILE}")
    return Settings(
        batch=batch,
        storage=storage,
        pool=pool,
        project=project,
        is_local=is_loopback(batch.url),
        sources=sources,
        warnings=tuple(report.warnings),
        redis=redis,
        management=_management(values, is_local=is_loopback(batch.url)),
    )


def _management(values: Values, *, is_local: bool) -> ManagementPlane | None:
    """The management plane of the account: Azure's knows nothing of an account on this machine, nor the other way round."""
    url = values["cloud_metadata"].text if "cloud_metadata" in values else ""
    if "subscription" not in values or (bool(url) and is_loopback(url)) != is_local:
        return None
    return ManagementPlane(values["subscription"].text, url)


def _pool_settings(values: Values, report: Report) -> PoolSettings:
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
        drop(values, ("publisher", "offer", "sku"))
    if size and _RETIRED_SIZES.match(size.text):
        report.warnings.append(
            f"the VM size {size.text} ({size.origin}) is retired in Azure; {defaults.vm_size} takes its place"
        )
        drop(values, ("vm_size",))

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
