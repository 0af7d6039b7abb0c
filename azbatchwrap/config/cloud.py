"""Which Azure: the public one, or what ``ARM_CLOUD_METADATA_URL`` describes (sovereign clouds, Azure on this machine)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azbatchwrap.errors import ConfigurationError, Unreachable

METADATA_VARIABLE = "ARM_CLOUD_METADATA_URL"
#: Seconds for one request of the cloud's metadata.
TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Cloud:
    """Addresses without a slash at the end."""

    name: str = "AzureCloud"
    manager: str = "https://management.azure.com"
    #: Whom tokens for the management plane, and for batch endpoints, are for.
    audience: str = "https://management.azure.com"
    scoring_audience: str = "https://ml.azure.com"
    login: str = "https://login.microsoftonline.com"
    portal: str = "https://portal.azure.com"
    storage_suffix: str = "core.windows.net"

    @property
    def is_public(self) -> bool:
        return self.name == "AzureCloud"


def find(environment: Mapping[str, str]) -> Cloud:
    """The cloud that the environment names. Raises Unreachable, or ConfigurationError for metadata that is none."""
    return described_at(environment.get(METADATA_VARIABLE, "").strip())


def described_at(url: str) -> Cloud:
    """The cloud whose metadata is at this address, the public one for an empty address. Raises as `find`."""
    if not url:
        return Cloud()
    try:
        clouds = json.loads(_get(url))
        fitting = [each for each in clouds if _host(each["resourceManager"]) in url]
        return _cloud((fitting or clouds)[0])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigurationError(f"{METADATA_VARIABLE} ({url}) does not describe a cloud: {error!r}") from error


def _get(url: str) -> str:
    import requests

    if not url.startswith("https://"):
        raise ConfigurationError(f"{METADATA_VARIABLE} must begin with https://, not {url!r}: tokens are sent there")
    try:
        response = requests.get(url, timeout=TIMEOUT)
        response.raise_for_status()
    except requests.RequestException as error:
        raise Unreachable(
            f"{METADATA_VARIABLE} ({url}) does not answer: {error}. Unset it for Azure itself, or start what it names"
        ) from error
    return response.text


def _host(url: str) -> str:
    return url.split("://", 1)[-1].strip("/")


def _cloud(given: Mapping[str, Any]) -> Cloud:
    portal = str(given["portal"]).rstrip("/")
    signing_in = given["authentication"]
    return Cloud(
        name=str(given["name"]),
        manager=str(given["resourceManager"]).rstrip("/"),
        audience=str(signing_in["audiences"][0]).rstrip("/"),
        # As the SDK does: ml.azure.com belongs to portal.azure.com.
        scoring_audience=portal.replace("://portal.", "://ml."),
        login=str(signing_in["loginEndpoint"]).rstrip("/"),
        portal=portal,
        storage_suffix=str(given["suffixes"]["storage"]),
    )
