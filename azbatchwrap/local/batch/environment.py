"""The environment of everything that runs for a job or a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from azbatchwrap.local.arm.certificate import trusting
from azbatchwrap.local.arm.tokens import Tokens
from azbatchwrap.local.batch import identities, packages
from azbatchwrap.local.batch.auth import AUDIENCE, JOB_CLAIM
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
    wants_token: bool = False,
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
    token = _token(service, job) if wants_token and job is not None else None
    own_tokens = identities.variables(service, node.pool)
    trusted = _trusted(service) if token is not None or own_tokens else {}
    identity = TaskIdentity(
        account_name=service.settings.account,
        account_url=service.url if token is None else service.tls_url,
        authentication_token=token,
        pool_id=node.pool.id,
        node_id=node.id,
        job_id=job.id if job is not None else None,
        task_id=task_id,
        is_dedicated=node.is_dedicated,
        preparation_folder=prepared,
        further={**packages.variables(service, node, own_packages), **own_tokens, **trusted, **(further or {})},
        hosts=hosts,
        host=host,
    )
    return task_environment(node.place, identity, folder, settings, service.network)


def _token(service: Service, job: Job) -> str | None:
    """The token of a task with ``authenticationTokenSettings``.

    There is none without TLS: no client would send one in clear.
    """
    settings = service.settings
    if settings.tls is None or settings.token_secret is None:
        return None
    return Tokens(settings.token_secret).issue(AUDIENCE, **{JOB_CLAIM: job.id})


def _trusted(service: Service) -> dict[str, str]:
    """What a task needs to trust the addresses that take its token."""
    settings = service.settings
    if settings.tls is None:
        return {}
    bundle = Path(settings.tls["certificate"]).with_name("ca-bundle.pem")
    return trusting(str(bundle if bundle.exists() else bundle.with_name("ca.pem")))
