"""The environment of everything that runs for a job or a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from azbatchwrap.local.batch import packages
from azbatchwrap.local.batch.model import Job, Node
from azbatchwrap.local.batch.node import TaskIdentity, task_environment

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service


def environment_of(
    service: Service,
    job: Job | None,
    node: Node,
    *,
    task_id: str | None,
    folder: Path,
    own: list[dict[str, str]] | None,
    own_packages: Iterable[packages.Reference] | None = None,
    further: Mapping[str, str] | None = None,
    hosts: tuple[str, ...] = (),
    host: str | None = None,
) -> dict[str, str]:
    """The job's common settings, the task's own over them, and the service's variables over both."""
    settings: dict[str, str] = {}
    for setting in (job.spec.get("commonEnvironmentSettings") or ()) if job is not None else ():
        settings[setting["name"]] = setting.get("value") or ""
    for setting in own or ():
        settings[setting["name"]] = setting.get("value") or ""
    prepared = job.folder(node) / job.preparation["id"] if job is not None and job.preparation is not None else None
    identity = TaskIdentity(
        account_name=service.settings.account,
        account_url=service.url,
        pool_id=node.pool.id,
        node_id=node.id,
        job_id=job.id if job is not None else None,
        task_id=task_id,
        is_dedicated=node.is_dedicated,
        preparation_folder=prepared,
        further={**packages.variables(service, node, own_packages), **(further or {})},
        hosts=hosts,
        host=host,
    )
    return task_environment(node.place, identity, folder, settings, service.network)
