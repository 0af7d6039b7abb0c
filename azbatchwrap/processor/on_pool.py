"""Processors as tasks on an Azure Batch pool: competing consumers of one queue, as many as it takes.

One of the two doors from dispatch to pools. No secret reaches a node: queues whose URL holds a password are refused;
on a pool they are opened by the pool's managed identity (azurequeue://) or by the network alone (redis:// inside a
virtual network).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap.batch import AzureBatch
from azbatchwrap.batch.own_wheel import build_wheel
from azbatchwrap.errors import ConfigurationError

TASK = Path(__file__).with_name("node") / "processor_worker.py"
#: The packages that a processor imports on a node, and those that only some queues need, by the scheme of their URL.
PACKAGES = frozenset({"aiohappyeyeballs", "aiohttp", "click", "httptools", "orjson", "platformdirs", "uvloop", "yarl"})
FOR_QUEUES = {
    "redis": {"redis"},
    "rediss": {"redis"},
    "azurequeue": {"azure-core", "azure-identity", "azure-storage-blob", "azure-storage-queue"},
    "pubsub": {"google-cloud-pubsub"},
}
_URL = re.compile(r"[a-z]+://[^\s;]*")
#: Such a job ends by itself after this long (seconds).
LIMIT = 86_400.0


@dataclass(frozen=True, slots=True)
class PoolWorkers:
    """``words`` are the words of `azbatchwrap processor run` on each node.

    ``interpreter`` names a Python on the nodes that has azbatchwrap (an image or a start task brought it); without
    it, the version that runs here is installed once per node.
    """

    words: Sequence[str]
    workers: int = 1
    interpreter: str | None = None
    limit: float = LIMIT


def start_workers(batch: AzureBatch, plan: PoolWorkers, pool_id: str | None = None) -> str:
    """Add ``plan.workers`` processors to a job of their own and give its id; wait for it with `wait_for_tasks`.

    Without ``pool_id`` a pool with one node per worker is made. Raises ConfigurationError when a node could not open
    the queue, and whatever `AzureBatch` raises.
    """
    _check(plan.words, local=batch.settings.is_local)
    with tempfile.TemporaryDirectory(prefix="azbatchwrap-workers-") as folder:
        storage = batch.storage
        storage.add_task_file_path(TASK)
        if plan.interpreter is None:
            for path in _installable(plan.words, Path(folder)):
                storage.add_input_file_path(path)
        storage.upload_task_files()
        storage.upload_input_files()
        if pool_id is None:
            batch.create_pool(app_name="processor", node_count=plan.workers)
        job_id = batch.create_a_job(pool_id, limit=plan.limit)
    words = [plan.interpreter or "-", *plan.words]
    batch.add_tasks_to_job(job_id, [(TASK.name, words)] * plan.workers)
    batch.seal_job(job_id)
    return job_id


def _installable(words: Sequence[str], folder: Path) -> list[Path]:
    """Files in ``folder`` by which a node installs what runs here."""
    schemes = {url.partition(":")[0] for url in _urls(words)}
    name, content = build_wheel(PACKAGES.union(*(FOR_QUEUES.get(scheme, ()) for scheme in schemes)))
    made = {name: content, "requirements.txt": f"./{name}\n".encode()}
    for file, data in made.items():
        (folder / file).write_bytes(data)
    return [folder / file for file in made]


def _check(words: Sequence[str], *, local: bool) -> None:
    for url in _urls(words):
        scheme, _, rest = url.partition("://")
        if "@" in re.split("[/?#]", rest, maxsplit=1)[0]:
            raise ConfigurationError(
                f"a {scheme} URL holds a password, and no secret may reach a node; use a network or identity"
            )
        if scheme == "sqlite" and not local:
            raise ConfigurationError("a SQLite file cannot be shared between machines; use redis:// or azurequeue://")


def _urls(words: Sequence[str]) -> list[str]:
    """All URLs, also those in the middle of a word such as ``--queue=URL`` or a gate's."""
    return [url for word in words for url in _URL.findall(word)]
