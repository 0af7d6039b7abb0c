"""What a batch endpoint is asked to score, and where it is to leave the result."""

from __future__ import annotations

import re
from typing import Any

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import OUTPUT, RESULT_STORE, SOURCE_STORE

#: A path in a datastore; the container's root is none, for clients and service alike.
_DATASTORE = re.compile(r"azureml://(.+/)?datastores/[^/]+/paths/.+", re.IGNORECASE)
_ASSET = re.compile(r"azureml:[^/:]+:[^/:]+|azureml:/subscriptions/.+/data/[^/]+/versions/[^/]+", re.IGNORECASE)
_URL = re.compile(r"(https|wasbs|abfss)://[^/]+/.+", re.IGNORECASE)
#: Name of the output of a model deployment.
_MODEL_OUTPUT = "score"


def configured_input(context: Context) -> dict[str, str]:
    data = context.settings.data
    uri = f"azureml://datastores/{SOURCE_STORE}/paths/{data.name}"
    return folder_input(uri) if data.is_dir() else {"jobInputType": "UriFile", "uri": uri}


def folder_input(uri: str) -> dict[str, str]:
    return {"jobInputType": "UriFolder", "uri": uri.rstrip("/") + "/"}


def remote_input(context: Context, address: str) -> dict[str, str]:
    """An input that lies in Azure already. Raises ConfigurationError for an address that no service takes."""
    if not any(pattern.fullmatch(address) for pattern in (_DATASTORE, _ASSET, _URL)):
        raise ConfigurationError(
            f"{address!r} is no input: give a local file or folder, azureml://datastores/NAME/paths/PATH (not the root), "
            f"azureml:NAME:VERSION of a data asset, or an https address"
        )
    return folder_input(address) if takes_folder(context, address) else {"jobInputType": "UriFile", "uri": address}


def takes_folder(context: Context, address: str) -> bool:
    """A pipeline takes what it was deployed for, a file or a folder; a model takes either."""
    if context.settings.model is None:
        return context.settings.data.is_dir()
    return address.endswith("/")


def output(context: Context, job: str) -> dict[str, Any]:
    """A place of the job's own in the result container."""
    place = f"azureml://datastores/{RESULT_STORE}/paths/{job}/"
    if context.settings.model is None:
        return {OUTPUT: {"jobOutputType": "UriFolder", "uri": place}}
    from azbatchwrap.pipelines.resources.endpoint import PREDICTIONS

    return {_MODEL_OUTPUT: {"jobOutputType": "UriFile", "uri": f"{place}{PREDICTIONS}"}}
