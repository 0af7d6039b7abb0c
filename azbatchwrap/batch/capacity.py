"""Whether an account has room for a pool: its quotas, what runs already, and the VM sizes of its location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from azbatchwrap.config import Settings

from .jobs import ENDED
from .management import MachineSize, Quotas, management_of
from .service import Json, Service

#: What cannot be told without the management plane.
UNKNOWN = (
    "unknown (Azure's management plane knows it: pip install 'azbatchwrap[mgmt]', sign in, set AZURE_SUBSCRIPTION_ID)"
)
_POOL_FIELDS = (
    "id", "vmSize", "currentDedicatedNodes", "targetDedicatedNodes", "currentLowPriorityNodes", "targetLowPriorityNodes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a quota: what is ``wanted`` beside what is ``used`` by others, of at most ``limit``."""

    what: str
    wanted: int
    used: int
    limit: int

    @property
    def fits(self) -> bool:
        return self.wanted + self.used <= self.limit

    def __str__(self) -> str:
        text = f"{self.what}: {self.wanted} wanted, {self.used} in use, {self.limit} allowed"
        return text if self.fits else f"{text}: {self.wanted + self.used - self.limit} too many"


@dataclass(frozen=True, slots=True)
class Demand:
    """The nodes that a pool is to have. Those that it has already count as its own."""

    pool_id: str
    vm_size: str
    nodes: int
    spot_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the management plane says of an account, and the pools and active jobs that it has."""

    quotas: Quotas
    sizes: Mapping[str, MachineSize]
    pools: Sequence[Json]
    jobs: int

    def size(self, vm_size: str) -> MachineSize | None:
        """The size as the account's location offers it; ``None`` where it does not."""
        return self.sizes.get(vm_size.lower())

    def shares(self, demand: Demand) -> tuple[Share, ...]:
        """What of each quota the pool and one job on it would take."""
        return tuple(self._shares(demand))

    def _shares(self, demand: Demand) -> Iterator[Share]:
        others = [pool for pool in self.pools if pool["id"].lower() != demand.pool_id.lower()]
        size = self.size(demand.vm_size)
        if size is not None:
            yield from self._cores(demand, size, others)
        if self.quotas.pools is not None:
            yield Share("pools", 1, len(others), self.quotas.pools)
        if self.quotas.jobs is not None:
            yield Share("active jobs", 1, self.jobs, self.quotas.jobs)

    def _cores(self, demand: Demand, size: MachineSize, others: Sequence[Json]) -> Iterator[Share]:
        dedicated, spot = demand.nodes * size.cores, demand.spot_nodes * size.cores
        if self.quotas.dedicated_cores is not None:
            yield Share("dedicated cores", dedicated, self._used(others, "Dedicated"), self.quotas.dedicated_cores)
        family = self.quotas.families.get(size.family.lower())
        if family is not None:
            used = self._used(others, "Dedicated", size.family)
            yield Share(f"dedicated cores of {size.family}", dedicated, used, family)
        if spot and self.quotas.low_priority_cores is not None:
            yield Share("spot cores", spot, self._used(others, "LowPriority"), self.quotas.low_priority_cores)

    def _used(self, pools: Sequence[Json], kind: str, family: str | None = None) -> int:
        """Cores that pools have, or will have: of one family, or of all."""
        total = 0
        for pool in pools:
            size = self.size(pool["vmSize"])
            if size is not None and family in {None, size.family}:
                total += size.cores * max(int(pool.get(f"{when}{kind}Nodes", 0)) for when in ("current", "target"))
        return total


def capacity_of(settings: Settings, service: Service) -> Capacity:
    """Ask both planes. Raises ConfigurationError where no management plane is configured, `ServiceError`."""
    management = management_of(settings)
    try:
        quotas, sizes = management.quotas(), management.sizes()
    finally:
        management.close()
    jobs = sum(job.get("state") not in ENDED for job in service.list("/jobs", select=("id", "state")))
    return Capacity(quotas, sizes, list(service.list("/pools", select=_POOL_FIELDS)), jobs)
