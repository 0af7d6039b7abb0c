"""Invoking the endpoint, following its jobs, and bringing their results."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azbatchwrap.errors import (
    ConfigurationError,
    Conflict,
    NotFound,
    ServiceError,
    Throttled,
    Unreachable,
    WaitTimeout,
)
from azbatchwrap.names import new_id
from azbatchwrap.pipelines import assets, invocation
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import INPUT, SOURCE_STORE, last_word
from azbatchwrap.pipelines.resources.dependents import StorageAccount
from azbatchwrap.pipelines.resources.endpoint import Endpoint
from azbatchwrap.pipelines.resources.workspace import ML_VERSION, Workspace

FINAL = frozenset({"completed", "failed", "canceled", "notresponding"})
#: A job is looked at this often (seconds): at first, and after a while.
FIRST_LOOK, LAST_LOOK = 0.25, 10.0
#: After an answer that never came, the job is looked for so often, with so many seconds between.
LOOKS, LOOK_PAUSE = 4, 1.0
#: The end of a log that is shown (bytes).
LOG_TAIL = 4000
_STORE_PATH = re.compile(r"azureml://(?:.+/)?datastores/([^/]+)/paths/(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job in the words of the first batchcreate: started, complete, success. ``elapsed`` is seconds."""

    name: str
    state: str
    is_started: bool
    is_complete: bool
    is_success: bool
    elapsed: float | None
    created: str | None
    error: str | None
    #: Output -> where it lies.
    outputs: dict[str, str]

    def record(self) -> dict[str, Any]:
        return {
            "job": self.name, "status": self.state, "started": self.is_started, "complete": self.is_complete,
            "success": self.is_success, "elapsed": self.elapsed, "created": self.created, "error": self.error,
            "outputs": self.outputs,
        }  # fmt: skip


def connect(context: Context) -> Document:
    """Read what invocations and downloads need; returns the endpoint. Raises NotFound when nothing was applied."""
    workspace = Workspace().read(context)
    context.found["workspace"] = workspace
    endpoint = Endpoint().read(context) if workspace is not None else None
    if endpoint is None:
        raise NotFound(
            f"there is no endpoint {context.place.endpoint} in the workspace {context.settings.workspace}: "
            f"run `batchcreate apply` first"
        )
    context.found["endpoint"] = endpoint
    return endpoint


def invoke(context: Context, given: str | None = None) -> str:
    """Start a job over the configured data, a local file or folder, or an address in Azure; returns its name.

    The name is chosen here, before the first attempt: when an answer is lost the job is looked for under it, and the
    request is never repeated blindly.
    """
    endpoint = connect(context)
    name = new_id("score")
    body = {
        "properties": {
            "name": name,
            "inputData": {INPUT: _input(context, given)},
            "outputData": invocation.output(context, name),
            "properties": {"experimentName": context.settings.experiment},
        }
    }
    # Always by name: nothing is left to a default that may have been changed.
    headers = {"azureml-model-deployment": context.settings.deployment_name}
    try:
        answer = context.arm.submit(str(endpoint["properties"]["scoringUri"]), body, headers)
    except (Unreachable, Throttled, Conflict) as error:
        return _look_for(context, name, error)
    except ServiceError as error:
        if error.status is None or error.status < 500:
            raise
        return _look_for(context, name, error)
    return str(answer.get("name") or name)


def _look_for(context: Context, name: str, error: ServiceError) -> str:
    """Whether the service took a request whose answer is unknown."""
    for _ in range(LOOKS):
        if context.arm.find(_path(context, name), ML_VERSION) is not None:
            return name
        context.arm.sleep(LOOK_PAUSE)
    raise type(error)(
        f"{error}. There is no job {name}, so it was most likely not taken; it was not sent again. See "
        f"`batchcreate status` before you invoke once more",
        code=error.code,
        status=error.status,
    ) from error


def _input(context: Context, given: str | None) -> dict[str, str]:
    if given is None:
        return invocation.configured_input(context)
    if re.match(r"[a-z]+:", given, re.IGNORECASE):
        return invocation.remote_input(context, given)
    return _uploaded(context, Path(given))


def _uploaded(context: Context, path: Path) -> dict[str, str]:
    """A local file or folder, uploaded under its hash: the same content is uploaded once."""
    if not path.exists():
        raise ConfigurationError(f"the input {path} does not exist")
    if context.settings.model is None and path.is_dir() != context.settings.data.is_dir():
        kind = "folder" if context.settings.data.is_dir() else "file"
        raise ConfigurationError(f"the input {path} must be a {kind}, as the data that the pipeline was deployed for")
    context.found["storage account"] = StorageAccount().read(context)
    files = assets.tree(path)
    container, prefix = context.settings.source_container, f"inputs/{files.digest}/"
    there = context.blobs().hashes(container, prefix)
    missing = {
        name: f"{prefix}{name}" for name, digest in files.hashes.items() if there.get(f"{prefix}{name}") != digest
    }
    context.blobs().upload(container, files, missing)
    uri = f"azureml://datastores/{SOURCE_STORE}/paths/{prefix}{path.absolute().name}"
    return invocation.folder_input(uri) if path.is_dir() else {"jobInputType": "UriFile", "uri": uri}


def status(context: Context, name: str | None = None) -> JobStatus:
    """How a job is (default: the endpoint's latest). Raises NotFound."""
    return status_of(context.arm.get(_path(context, name or latest(context)), ML_VERSION))


def latest(context: Context) -> str:
    """The name of the endpoint's latest job. Raises NotFound."""
    path = context.place.inside("jobs")
    for job in context.arm.pages(path, ML_VERSION):
        properties = job["properties"].get("properties") or {}
        if str(properties.get("azureml.endpointName", "")).lower() == context.place.endpoint.lower():
            return str(job["name"])
    raise NotFound(f"the endpoint {context.place.endpoint} has no job yet: run `batchcreate invoke`")


def status_of(job: Document) -> JobStatus:
    properties = job["properties"]
    state = str(properties.get("status") or "Unknown")
    word = state.lower()
    system = job.get("systemData") or {}
    created = properties.get("creationContext", {}).get("createdAt") or system.get("createdAt")
    details = properties.get("properties") or {}
    began = _moment(details.get("StartTimeUtc")) or _moment(created)
    ended = _moment(details.get("EndTimeUtc"))
    error = properties.get("error") or {}
    return JobStatus(
        name=str(job["name"]),
        state=state,
        is_started=created is not None,
        is_complete=word in FINAL,
        is_success=word == "completed",
        elapsed=round((ended or _now() if word not in FINAL or ended else began) - began, 3) if began else None,
        created=created,
        error=str(error.get("message") or error.get("code") or "") or None,
        outputs={
            output: str(place["uri"])
            for output, place in (properties.get("outputs") or {}).items()
            if isinstance(place, dict) and place.get("uri")
        },
    )


def _moment(text: Any) -> float | None:
    """Seconds since 1970 of an ISO time, or of the run history's form without a zone."""
    if not text:
        return None
    match = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?", str(text))
    if match is None:
        return None
    moment = dt.datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=dt.timezone.utc)
    return moment.timestamp() + float(match[3] or 0)


def _now() -> float:
    return time.time()


def wait(
    context: Context, name: str, *, timeout: float | None = None, tell: Callable[[JobStatus], None] = lambda _: None
) -> JobStatus:
    """Until the job is over. Raises WaitTimeout after ``timeout`` seconds; the job goes on then."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause, said = FIRST_LOOK, ""
    while True:
        found = status(context, name)
        if found.state != said:
            said = found.state
            tell(found)
        if found.is_complete:
            return found
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTimeout(
                f"the job {name} is {found.state} after {timeout:g} s; it goes on (batchcreate status {name})"
            )
        context.arm.sleep(pause)
        pause = min(pause * 1.3, LAST_LOOK)


def download(context: Context, found: JobStatus, folder: Path) -> list[Path]:
    """Bring a job's outputs into ``folder``. Raises NotFound when the job left none."""
    if not found.outputs:
        raise NotFound(f"the job {found.name} names no output")
    context.found["storage account"] = StorageAccount().read(context)
    written: list[Path] = []
    for name, uri in found.outputs.items():
        match = _STORE_PATH.match(uri)
        if match is None:
            raise ServiceError(f"the output {name} of {found.name} lies at {uri}, which is no datastore path")
        path = context.place.inside("datastores", match[1])
        store = context.arm.get(path, ML_VERSION)["properties"]
        if store["accountName"] != last_word(context.dependent("storageAccount")):
            raise ServiceError(
                f"the output {name} lies in the account {store['accountName']}, which is not the workspace's"
            )
        written += context.blobs().download(str(store["containerName"]), match[2], folder)
    return written


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: the service's sentence, and the ends of the logs by name."""

    reason: str
    logs: dict[str, str]


def failure(context: Context, name: str) -> Failure:
    """What the workspace's run history says about a job; nothing where it does not answer."""
    workspace = context.found.get("workspace") or context.arm.get(context.place.workspace, ML_VERSION)
    try:
        history = str(_services(context, workspace)["history"])
        record = context.arm.get(f"{history}/history/v1.0{context.place.workspace}/runs/{name}/details", "")
    except (ServiceError, KeyError):
        return Failure("", {})
    error = (record.get("error") or {}).get("error") or {}
    files: dict[str, str] = record.get("logFiles") or {}
    wanted = {file: url for file, url in files.items() if file.startswith(("user_logs/", "logs/user/"))}
    return Failure(str(error.get("message") or ""), {file: _tail(url) for file, url in wanted.items()})


def _services(context: Context, workspace: Document) -> Document:
    url = str(workspace["properties"]["discoveryUrl"])
    host = urlsplit(url).hostname or ""
    if not url.startswith("https://") or not (
        host.endswith(".azureml.ms") or url.startswith(context.arm.cloud.manager)
    ):
        raise ServiceError(f"{url} is no address of Azure Machine Learning: no token is sent there")
    return context.arm.get(url, "")


def _tail(url: str) -> str:
    """The end of a log behind a signed address."""
    import requests

    try:
        response = requests.get(url, timeout=30)
        response.raise_for_status()
    except requests.RequestException as error:
        return f"(cannot be read: {type(error).__name__})"
    return response.content[-LOG_TAIL:].decode("utf-8", "replace")


def outputs(context: Context) -> dict[str, Any]:
    """What programs need to use what was made: addresses, names and versions."""
    endpoint = connect(context)
    from azbatchwrap.pipelines.resources.endpoint import DEPLOYMENT_VERSION, PipelineDeployment

    deployment = context.arm.find(PipelineDeployment().path(context), DEPLOYMENT_VERSION)
    properties = (deployment or {}).get("properties", {})
    configuration = properties.get("deploymentConfiguration") or {}
    component = (configuration.get("componentId") or {}).get("assetId")
    model = (properties.get("model") or {}).get("assetId")
    return {
        "scoring_uri": endpoint["properties"].get("scoringUri"),
        "endpoint": endpoint["name"],
        "endpoint_id": endpoint["id"],
        "deployment": context.settings.deployment_name if deployment else None,
        "default_deployment": (endpoint["properties"].get("defaults") or {}).get("deploymentName"),
        "component_id": component,
        "component_version": last_word(component) if component else None,
        "model_id": model,
        "model_version": last_word(model) if model else None,
        "workspace_id": context.place.workspace,
        "storage_account": last_word(context.dependent("storageAccount")),
        "source_container": context.settings.source_container,
        "result_container": context.settings.result_container,
        "studio": f"https://ml.azure.com/endpoints/batch/{endpoint['name']}/detail?wsid={context.place.workspace}",
    }


def _path(context: Context, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,254}", name, re.ASCII):
        raise ConfigurationError(f"{name!r} is no name of a job")
    return context.place.inside("jobs", name)
