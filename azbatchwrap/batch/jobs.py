"""Jobs: created with a limit, a preparation and a release task; sealed after the last task; ended and deleted."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from azbatchwrap import names
from azbatchwrap.errors import ConfigurationError, Conflict, ManifestError
from azbatchwrap.manifest import parse_duration

from .node_setup import CONTAINER_OPTIONS, POOL_FOLDER, Container
from .pools import TOKEN
from .service import Json, Service, as_metadata, at, metadata, parse_time
from .tasks import AUTO_USER, engine_folder, iso_duration

_log = logging.getLogger(__name__)

#: Seconds a job may live, from its creation, unless it says otherwise. No job runs for ever.
DEFAULT_LIMIT = 7 * 86400.0
#: What an identity can sign: user delegation keys live 7 days at most.
LONGEST_DELEGATION = 7 * 86400.0
#: Seconds that a SAS outlives its job's limit: outputs are uploaded after the last command has ended.
SAS_MARGIN = 3600.0
#: Attempts of the preparation task after the first, and seconds each may take: it installs packages from the network.
PREPARATION_RETRIES = 2
PREPARATION_LIMIT = 3600.0
#: The metadata entry with the image that a job's tasks run in.
CONTAINER = "azbatchwrap_container"
#: The metadata entry with the identity that opens storage for a job's nodes.
IDENTITY = "azbatchwrap_identity"
#: States in which a job takes no tasks any more.
ENDED = frozenset({"completed", "terminating", "deleting"})
JOB_FIELDS = ("id", "state", "creationTime", "executionInfo", "metadata", "poolInfo", "onAllTasksComplete")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job to make. ``limit`` is in seconds from its creation."""

    job_id: str
    pool_id: str
    deployment: str
    files_container: str
    output_container: str
    limit: float = DEFAULT_LIMIT
    priority: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None
    #: Opens storage for the nodes; empty: signed addresses do.
    identity: str = ""

    def check(self, *, longest_sas: float | None) -> None:
        """Raises ConfigurationError for what the service would refuse, or what no SAS could cover."""
        if not names.is_id(self.job_id):
            raise ConfigurationError(f"job id {self.job_id!r}: 1 to 64 of the characters A-Z a-z 0-9 _ - are allowed")
        if not 0 < self.limit < 1e9:
            raise ConfigurationError(f"job {self.job_id}: its limit must be more than 0 seconds, not {self.limit}")
        if not -1000 <= self.priority <= 1000:
            raise ConfigurationError(f"job {self.job_id}: priority must be -1000 to 1000, not {self.priority}")
        if not self.identity and not signature_lasts(self.limit, longest_sas):
            assert longest_sas is not None
            raise ConfigurationError(
                f"job {self.job_id}: without a storage account key an access signature lives 7 days at most, and nodes "
                f"need one for the job's whole life. Set a limit below {(longest_sas - SAS_MARGIN) / 3600:.0f} hours, or "
                "use an account key or a managed identity of the pool (PoolPolicy(identity=…))."
            )


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What later calls need to know of a job that may have been made by another process."""

    job_id: str
    state: str
    pool_id: str
    deployment: str
    files_container: str
    output_container: str
    sas_expiry: datetime
    terminate_reason: str = ""
    sealed: bool = False
    ours: bool = True
    #: What its tasks run in.
    container: Container | None = None
    #: The pool's identity that opens storage for its nodes; empty: signed addresses do.
    identity: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Jobs:
    """The jobs of an account."""

    def __init__(self, service: Service, project: str) -> None:
        self._service = service
        self._project = project

    def create(self, plan: JobPlan, *, files: Sequence[Json], files_url: str) -> None:
        """Make the job. ``files`` are those of the preparation task: the engine and the deployment's list of files.

        What the list names is at ``files_url``; where that is ``names.BROUGHT``, among ``files`` too.
        """
        body: Json = {
            "id": plan.job_id,
            "priority": plan.priority,
            # It cannot be set later, and costs nothing for tasks that depend on none.
            "usesTaskDependencies": True,
            "constraints": {"maxWallClockTime": iso_duration(plan.limit), "maxTaskRetryCount": 0},
            "jobPreparationTask": _preparation(plan, files, files_url),
            "jobReleaseTask": _release(plan),
            "commonEnvironmentSettings": [{"name": names.OUTPUT_CONTAINER_VARIABLE, "value": plan.output_container}],
            "poolInfo": {"poolId": plan.pool_id},
            "metadata": as_metadata(
                {
                    **plan.metadata,
                    **_container_metadata(plan.container),
                    **({IDENTITY: plan.identity} if plan.identity else {}),
                    names.MANAGED: "1",
                    names.PROJECT: self._project,
                    names.DEPLOYMENT: plan.deployment,
                    names.FILES_CONTAINER: plan.files_container,
                    names.OUTPUT_CONTAINER: plan.output_container,
                    TOKEN: secrets.token_hex(8),
                }
            ),
            "onAllTasksComplete": "noaction",
        }
        self._service.create("/jobs", body, entity=at("jobs", plan.job_id))
        _log.info("job %s: created on pool %s", plan.job_id, plan.pool_id)

    def facts(self, job_id: str) -> JobFacts:
        """Raises NotFound for a job that is not there, ConfigurationError for one that we did not make."""
        facts = _facts(self._service.get(at("jobs", job_id)))
        if not facts.ours:
            raise ConfigurationError(
                f"job {job_id} was not made by azbatchwrap: it has no preparation and no output place"
            )
        return facts

    def list(self, *, everything: bool = False) -> Iterator[Json]:
        """The jobs of this project; with ``everything`` all jobs of the account."""
        for job in self._service.list("/jobs", select=JOB_FIELDS):
            known = metadata(job)
            if everything or (names.MANAGED in known and known.get(names.PROJECT) == self._project):
                yield job

    def set_metadata(self, job_id: str, entries: Mapping[str, str]) -> None:
        """Change some entries and keep the others."""
        merged = {**metadata(self._service.get(at("jobs", job_id))), **entries}
        self._service.request("PATCH", at("jobs", job_id), {"metadata": as_metadata(merged)})

    def seal(self, job_id: str) -> None:
        """Let the job end when its tasks have: only after the last task is in, for it cannot be undone."""
        try:
            self._service.request("PATCH", at("jobs", job_id), {"onAllTasksComplete": "terminatejob"})
        except Conflict as error:
            _log.info("job %s: not sealed, it is ending already (%s)", job_id, error.code)

    def terminate(self, job_id: str, reason: str = "UserTerminate") -> None:
        """End the job and its running tasks. A job that has ended, or is ending, is left as it is."""
        try:
            self._service.request("POST", at("jobs", job_id, "terminate"), {"terminateReason": reason})
        except Conflict as error:
            _log.info("job %s: not terminated, it has ended already (%s)", job_id, error.code)

    def delete(self, job_id: str) -> bool:
        """Ask for the end of a job and its tasks; False when there was none."""
        return self._service.delete(at("jobs", job_id))


def _facts(job: Json) -> JobFacts:
    known = metadata(job)
    execution: Mapping[str, Any] = job.get("executionInfo") or {}
    return JobFacts(
        job_id=job["id"],
        state=job["state"],
        pool_id=execution.get("poolId") or (job.get("poolInfo") or {}).get("poolId", ""),
        deployment=known.get(names.DEPLOYMENT, ""),
        files_container=known.get(names.FILES_CONTAINER, ""),
        output_container=known.get(names.OUTPUT_CONTAINER, ""),
        sas_expiry=parse_time(job["creationTime"]) + timedelta(seconds=_limit(job) + SAS_MARGIN),
        terminate_reason=execution.get("terminateReason", ""),
        sealed=job.get("onAllTasksComplete") == "terminatejob",
        ours=names.DEPLOYMENT in known,
        container=Container(known[CONTAINER], known.get(CONTAINER_OPTIONS, "")) if known.get(CONTAINER) else None,
        identity=known.get(IDENTITY, ""),
    )


def _container_metadata(container: Container | None) -> dict[str, str]:
    if container is None:
        return {}
    return {CONTAINER: container.image, **({CONTAINER_OPTIONS: container.options} if container.options else {})}


def signature_lasts(limit: float, longest_sas: float | None) -> bool:
    """Whether a signature can cover a job that may live so long; ``longest_sas`` is None where any can be made."""
    return longest_sas is None or limit <= longest_sas - SAS_MARGIN


def _limit(job: Json) -> float:
    """Seconds of a job's limit; the default for one that has practically none."""
    try:
        return parse_duration((job.get("constraints") or {}).get("maxWallClockTime", ""))
    except ManifestError:
        return DEFAULT_LIMIT


def _preparation(plan: JobPlan, files: Sequence[Json], files_url: str) -> Json:
    """Lays out the deployment on a node, once per node and job, before the first task there."""
    return {
        "id": "jobpreparation",
        # What the pool's start task installed for Python comes first.
        "commandLine": f"""/bin/sh -c 'PATH="{POOL_FOLDER}/python/bin:$PATH"; export PATH; exec python3 engine.pyz prepare'""",
        "resourceFiles": list(files),
        "environmentSettings": [
            {"name": names.DEPLOYMENT_VARIABLE, "value": plan.deployment},
            {"name": names.FILES_URL_VARIABLE, "value": files_url},
        ],
        "constraints": {
            "maxTaskRetryCount": PREPARATION_RETRIES,
            "maxWallClockTime": iso_duration(PREPARATION_LIMIT),
        },
        "userIdentity": AUTO_USER,
        "waitForSuccess": True,
        "rerunOnNodeRebootAfterSuccess": True,
    }


def _release(plan: JobPlan) -> Json:
    """Gives up the job's lease on the deployment, so that a later preparation may remove it."""
    return {
        "id": "jobrelease",
        "commandLine": f"""/bin/sh -c 'exec python3 "{engine_folder(plan.deployment)}/engine/__main__.py" release'""",
        "environmentSettings": [{"name": names.DEPLOYMENT_VARIABLE, "value": plan.deployment}],
        "userIdentity": AUTO_USER,
    }
