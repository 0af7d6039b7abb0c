"""Where things lie: the names of containers, blobs, node folders, ids and metadata, all in one place."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from pathlib import PurePosixPath

#: Ids of pools, jobs and tasks: Azure Batch allows 1 to 64 of these characters and compares without case.
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
#: Azure Blob container names: 3 to 63 lower-case letters, digits and single inner hyphens.
CONTAINER_PATTERN = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*\Z")

#: Metadata keys on pools and jobs. A pool or job without ``MANAGED`` was not made by this product.
MANAGED = "azbatchwrap"
PROJECT = "azbatchwrap_project"
DEPLOYMENT = "azbatchwrap_deployment"
FILES_CONTAINER = "azbatchwrap_files"
OUTPUT_CONTAINER = "azbatchwrap_output"
#: On jobs of a session: its name, and the hash of all that its functions run on.
SESSION = "azbatchwrap_session"
CONTENT = "azbatchwrap_content"

#: What a task finds in its environment.
ARGS_VARIABLE = "AZBATCHWRAP_ARGS"
TASK_VARIABLE = "AZBATCHWRAP_TASK"
INDEX_VARIABLE = "AZBATCHWRAP_INDEX"
DEPLOYMENT_VARIABLE = "AZBATCHWRAP_DEPLOYMENT"
FILES_URL_VARIABLE = "AZBATCHWRAP_FILES_URL"
#: The value of that where the node's agent brings the files to the preparation task, since no address is signed.
BROUGHT = "brought"
OUTPUT_CONTAINER_VARIABLE = "AZBATCHWRAP_OUTPUT_CONTAINER"
#: In the environment for whoever looks at a task: the hash of its call (function, arguments, options). Unused on nodes.
CALL_SETTING = "AZBATCHWRAP_CALL"
#: Where a task reads the results that are its arguments.
RESULTS_URL_VARIABLE = "AZBATCHWRAP_RESULTS_URL"
#: Where a warm engine gets its calls.
CALLS_URL_VARIABLE = "AZBATCHWRAP_CALLS_URL"

#: In a task's working folder. In the second are the results that are its arguments, where it does not read them itself.
OUTPUT_FOLDER = "outputs"
RESULTS_FOLDER = "azbatchwrap_results"
RESULT_FILE = "result.json"
#: Where a session's task puts what it has written to its streams, if anything: an upload each is saved by most.
LOGS_FOLDER = "azbatchwrap_logs"
STDOUT_FILE = "stdout.txt"
STDERR_FILE = "stderr.txt"
#: Names in a task's result folder that an output file may not take.
RESERVED_OUTPUTS = frozenset({RESULT_FILE, STDOUT_FILE, STDERR_FILE})

#: Below the node's shared folder.
NODE_FOLDER = "azbatchwrap"


def is_id(text: str) -> bool:
    """Whether ``text`` may name a pool, job or task."""
    return ID_PATTERN.match(text) is not None


def new_id(prefix: str) -> str:
    """A fresh id such as ``job-20261120-101502-3f9a1c``: sorts by time, never repeats."""
    return f"{prefix}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def container_slug(text: str) -> str:
    """``text`` as part of a container name. Different texts that would collide are told apart by a short hash."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    if slug and slug == text:
        return slug
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".lstrip("-")


def files_container(project: str) -> str:
    """Holds inputs, tasks, applications, engines and deployment lists of a project under their content hashes."""
    return f"azbw-{container_slug(project)}-files"


def output_container(project: str) -> str:
    """Holds a project's results, below ``<job>/<task>/``."""
    return f"azbw-{container_slug(project)}-output"


def content_blob(sha256: str) -> str:
    """The blob of a file with this content."""
    return f"content/{sha256[:2]}/{sha256}"


def deployment_blob(deployment: str) -> str:
    """The list of the files of a deployment."""
    return f"deployments/{deployment}.json"


def args_prefix(job_id: str) -> str:
    """Blob folder, with its slash, of the arguments of a job's tasks that are too long for an environment setting."""
    return f"args/{job_id}/"


def task_output_prefix(job_id: str, task_id: str) -> str:
    """Blob folder (no trailing slash) of everything one task leaves behind."""
    return f"{job_id}/{task_id}"


def safe_relative(name: str) -> PurePosixPath:
    """``name`` as a path that stays inside its folder.

    Raises ValueError for an absolute path, a drive, ``..``, an empty name or a NUL character.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{name!r} does not name a file inside its folder")
    return path
