"""Addresses of files, as jobs write them, and where in the storage account they lead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from azbatchwrap.local.aml import assets, datastores
from azbatchwrap.local.arm.accounts import storage_host
from azbatchwrap.local.arm.ids import ResourceId

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

_DATASTORE = re.compile(r"azureml:/{1,2}(?:.*/)?datastores/([^/]+)/paths/?(.*)\Z", re.IGNORECASE)
_WASB = re.compile(r"(?:wasbs?|abfss?)://([^@]+)@([^/]+)/?(.*)\Z", re.IGNORECASE)


class UnknownAddress(Exception):
    """The address leads nowhere: a sentence for who gave it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in the storage account."""

    container: str
    path: str

    def below(self, name: str) -> Place:
        return Place(self.container, "/".join(part for part in (self.path.strip("/"), name) if part))


def locate(arm: Arm, workspace: ResourceId, address: str) -> Place:
    """Where ``address`` leads: a datastore path, an asset, or the URL of a container or blob. Raises UnknownAddress."""
    match = _DATASTORE.match(address)
    if match:
        return Place(_container(arm, workspace, match.group(1)), match.group(2))
    match = _WASB.match(address)
    if match:
        return Place(match.group(1), match.group(3))
    if address.startswith(("azureml:", "/subscriptions/")):
        properties = assets.find_version(arm, workspace, address)["properties"]
        inner = properties.get("dataUri") or properties.get("modelUri") or properties.get("codeUri")
        return locate(arm, workspace, str(inner))
    return _from_url(arm, address)


def _container(arm: Arm, workspace: ResourceId, datastore: str) -> str:
    document = arm.resources.find(workspace.child("datastores", datastore))
    if document is None:
        raise UnknownAddress(f"the datastore {datastore} does not exist")
    container = document["properties"].get("containerName")
    if not container:
        raise UnknownAddress(f"the datastore {datastore} is not one of blobs")
    return str(container)


def _from_url(arm: Arm, address: str) -> Place:
    """A URL of the account: with its name in the path, as here, or in the host, as in Azure."""
    parts = urlsplit(address)
    path = unquote(parts.path).strip("/").split("/")
    if parts.netloc == storage_host(arm):
        path = path[1:]
    elif ".blob." not in parts.netloc:
        raise UnknownAddress(
            f"{address} does not lead to this instance's storage, and this service fetches nothing else"
        )
    if not path or not path[0]:
        raise UnknownAddress(f"{address} names no container")
    return Place(path[0], "/".join(path[1:]))


def default_output(job: str, output: str) -> str:
    """Where an output goes that has no place of its own."""
    return f"azureml://datastores/{datastores.DEFAULT}/paths/azureml/{job}/{output}/"
