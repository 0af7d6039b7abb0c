"""The environment a task finds: Azure Batch's variables, the user's settings, and nothing of this machine's user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from azbatchwrap.local.batch.node.place import NodePlace

#: What a Linux node's image has on its PATH, behind the node's Python.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Free bytes below which Azure Batch calls a disk full; the value its nodes show.
RESERVED_DISK_BYTES = 1_000_000
#: Settings of this machine that tasks need to reach the network. Values that hold a password are left out.
NETWORK_SETTINGS = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST",
)  # fmt: skip
#: Names that users cannot set.
RESERVED_PREFIX = "AZ_BATCH_"


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """What the ``AZ_BATCH_*`` variables say about a task. A start task has no job and no task id."""

    account_name: str
    account_url: str
    pool_id: str
    node_id: str
    job_id: str | None = None
    task_id: str | None = None
    is_dedicated: bool = True
    #: Folder of the job's preparation task, where the job has one.
    preparation_folder: Path | None = None
    authentication_token: str | None = None
    #: Multi-instance tasks: the nodes' addresses (this node's first is the primary's), else empty.
    hosts: tuple[str, ...] = ()
    host: str | None = None
    #: ``AZ_BATCH_APP_PACKAGE_*`` and the like: further variables of the service itself.
    further: Mapping[str, str] | None = None


def network_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of this machine that are passed on to tasks, from the service's own ``environment``."""
    return {name: value for name in NETWORK_SETTINGS if (value := environment.get(name)) and not _holds_password(value)}


def _holds_password(value: str) -> bool:
    return any("@" in urlsplit(word if "//" in word else f"//{word}").netloc for word in value.split())


def task_environment(
    place: NodePlace,
    identity: TaskIdentity,
    folder: Path,
    settings: Mapping[str, str],
    network: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment of a task's process.

    ``folder`` is the task's folder, ``settings`` the user's (the job's common ones, then the task's, merged),
    ``network`` what :func:`network_settings` returned. Users may set anything but ``AZ_BATCH_*``.
    """
    root = str(place.root)
    environment = {
        "PATH": f"{place.python_bin}:{SYSTEM_PATH}",
        "HOME": str(place.home),
        "TMPDIR": str(place.temporary),
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        **network,
    }
    environment |= {name: value for name, value in settings.items() if not name.startswith(RESERVED_PREFIX)}
    environment |= {
        "AZ_BATCH_ACCOUNT_NAME": identity.account_name,
        "AZ_BATCH_ACCOUNT_URL": identity.account_url,
        "AZ_BATCH_POOL_ID": identity.pool_id,
        "AZ_BATCH_NODE_ID": identity.node_id,
        "AZ_BATCH_NODE_ROOT_DIR": root,
        "AZ_BATCH_NODE_SHARED_DIR": f"{root}/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": f"{root}/startup",
        "AZ_BATCH_NODE_MOUNTS_DIR": f"{root}/fsmounts",
        "AZ_BATCH_NODE_IS_DEDICATED": "true" if identity.is_dedicated else "false",
        "AZ_BATCH_TASK_DIR": str(folder),
        "AZ_BATCH_TASK_WORKING_DIR": f"{folder}/wd",
        "AZ_BATCH_CERTIFICATES_DIR": f"{folder}/certs",
        "AZ_BATCH_TASK_RESERVED_EPHEMERAL_DISK_SPACE_BYTES": str(RESERVED_DISK_BYTES),
    }
    environment.update(_job_variables(identity))
    if identity.hosts:
        environment.update(_multi_instance_variables(identity, folder))
    environment.update(identity.further or {})
    return environment


def _job_variables(identity: TaskIdentity) -> dict[str, str]:
    variables = {}
    if identity.job_id is not None:
        variables["AZ_BATCH_JOB_ID"] = identity.job_id
    if identity.task_id is not None:
        variables["AZ_BATCH_TASK_ID"] = identity.task_id
    if identity.preparation_folder is not None:
        variables["AZ_BATCH_JOB_PREP_DIR"] = str(identity.preparation_folder)
        variables["AZ_BATCH_JOB_PREP_WORKING_DIR"] = f"{identity.preparation_folder}/wd"
    if identity.authentication_token is not None:
        variables["AZ_BATCH_AUTHENTICATION_TOKEN"] = identity.authentication_token
    return variables


def _multi_instance_variables(identity: TaskIdentity, folder: Path) -> dict[str, str]:
    master = identity.hosts[0]
    return {
        "AZ_BATCH_HOST_LIST": ",".join(identity.hosts),
        "AZ_BATCH_NODE_LIST": ";".join(identity.hosts),
        "AZ_BATCH_MASTER_NODE": f"{master}:6000",
        "AZ_BATCH_IS_CURRENT_NODE_MASTER": "true" if identity.host in {None, master} else "false",
        "AZ_BATCH_TASK_SHARED_DIR": str(folder.parent),
    }
