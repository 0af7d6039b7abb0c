"""Pools: made, found, changed and deleted. A pool of ours says in its metadata what is deployed on it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from azbatchwrap import names
from azbatchwrap.config import PoolSettings, is_loopback
from azbatchwrap.errors import ConfigurationError, Conflict, PoolError, ServiceError

from . import images
from .formula import read_formula
from .management import Management
from .node_setup import CONTAINER_OPTIONS, NodeSetup, start_task
from .service import Json, Service, as_metadata, at, metadata

_log = logging.getLogger(__name__)

#: Tells a pool or job that we made from one of the same id that somebody else made.
TOKEN = "azbatchwrap_token"  # noqa: S105
#: The shortest interval that Azure Batch allows for a pool's formula.
EVALUATION_INTERVAL = "PT5M"
#: What a list of pools needs to show.
POOL_FIELDS = (
    "id", "state", "allocationState", "vmSize", "currentDedicatedNodes", "targetDedicatedNodes",
    "currentLowPriorityNodes", "targetLowPriorityNodes", "taskSlotsPerNode", "creationTime", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PoolPlan(NodeSetup):
    """A pool to make. ``nodes`` and ``spot_nodes`` are targets.

    With a ``formula`` the service sets the targets by it, every five minutes (it allows no shorter interval).
    """

    pool_id: str
    vm_size: str
    nodes: int
    spot_nodes: int = 0
    slots_per_node: int = 1
    metadata: Mapping[str, str] | None = None
    formula: str = ""

    def check(self) -> None:
        """Raises ConfigurationError for numbers and ids that the service would refuse after a round trip."""
        if not names.is_id(self.pool_id):
            raise ConfigurationError(f"pool id {self.pool_id!r}: 1 to 64 of the characters A-Z a-z 0-9 _ - are allowed")
        if self.nodes < 0 or self.spot_nodes < 0:
            raise ConfigurationError(f"pool {self.pool_id}: a number of nodes cannot be negative")
        if not 1 <= self.slots_per_node <= 256:
            raise ConfigurationError(f"pool {self.pool_id}: slots per node must be 1 to 256, not {self.slots_per_node}")
        self.check_setup()


class Pools:
    """The pools of an account."""

    def __init__(
        self, service: Service, settings: PoolSettings, project: str, management: Callable[[], Management] | None = None
    ) -> None:
        """``management`` opens the management plane, for pools that only it can make."""
        self._service = service
        self._settings = settings
        self._project = project
        self._management = management

    def create(self, plan: PoolPlan) -> str:
        """Make the pool (its nodes come later); what was replaced in its image, or an empty text."""
        plan.check()
        image, replaced = self.image(plan.capabilities)
        body = self._body(plan, image)
        if self._needs_management(plan):
            self._create_by_management(body, plan.identity)
        else:
            self._service.create("/pools", body, entity=at("pools", plan.pool_id))
        _log.info("pool %s: created with %d nodes of %s, image %s", plan.pool_id, plan.nodes, plan.vm_size, image)
        return replaced

    def image(self, capabilities: frozenset[str] = frozenset()) -> tuple[images.Image, str]:
        """The configured image, or what takes its place and why. Raises PoolError when there is none."""
        wanted = self._settings
        supported = self._service.list("/supportedimages")
        return images.choose(supported, wanted.publisher, wanted.offer, wanted.sku, capabilities=capabilities)

    def _needs_management(self, plan: PoolPlan) -> bool:
        """The data plane gives no pool an identity, and takes networks and images of one's own from no account key."""
        account = self._service.account
        by_key = account.key is not None and not is_loopback(account.url)
        return bool(plan.identity) or (by_key and bool(plan.subnet or plan.vm_image))

    def _create_by_management(self, body: Json, identity: str) -> None:
        if self._management is None:
            raise ConfigurationError(
                "only the management plane makes a pool with an identity (or, where an account key signs in, with a subnet or "
                "an image of your own): set AZURE_SUBSCRIPTION_ID"
            )
        management = self._management()
        try:
            management.create_pool(body, identity)
        except Conflict:
            # The answer to an earlier attempt may have been lost.
            if metadata(self.get(body["id"])).get(TOKEN) != metadata(body)[TOKEN]:
                raise
        finally:
            management.close()

    def get(self, pool_id: str) -> Json:
        """The pool as the service shows it. Raises NotFound."""
        return self._service.get(at("pools", pool_id))

    def list(self, *, everything: bool = False) -> Iterator[Json]:
        """The pools of this project; with ``everything`` all pools of the account."""
        for pool in self._service.list("/pools", select=POOL_FIELDS):
            if everything or self.is_ours(pool):
                yield pool

    def is_ours(self, entity: Json) -> bool:
        """Whether this product made a pool or job, for this project."""
        facts = metadata(entity)
        return names.MANAGED in facts and facts.get(names.PROJECT) == self._project

    def set_metadata(self, pool_id: str, entries: Mapping[str, str]) -> None:
        """Change some entries and keep the others: the service replaces the whole list, so it is read first.

        Raises Conflict when somebody else changed the pool in between, three times over.
        """
        for attempt in (1, 2, 3):
            pool = self.get(pool_id)
            merged = {**metadata(pool), **entries}
            headers = {"If-Match": pool["eTag"]} if "eTag" in pool else {}
            try:
                self._service.request("PATCH", at("pools", pool_id), {"metadata": as_metadata(merged)}, headers=headers)
            except Conflict as error:
                if error.status != 412 or attempt == 3:
                    raise
            else:
                return

    def resize(self, pool_id: str, nodes: int | None, spot_nodes: int | None) -> None:
        """Ask for other numbers of nodes; ``None`` keeps one. Nodes that go finish their tasks first.

        The service resizes no pool that scales by a formula: of one that a policy made, the formula is changed.
        Raises PoolError for another formula, and when the service takes no new one so soon.
        """
        pool = self.get(pool_id)
        if pool.get("enableAutoScale"):
            self._rescale(pool, nodes, spot_nodes)
            return
        body = {
            "targetDedicatedNodes": pool.get("targetDedicatedNodes", 0) if nodes is None else nodes,
            "targetLowPriorityNodes": pool.get("targetLowPriorityNodes", 0) if spot_nodes is None else spot_nodes,
            "nodeDeallocationOption": "taskcompletion",
        }
        self._service.request("POST", at("pools", pool_id, "resize"), body)

    def _rescale(self, pool: Json, nodes: int | None, spot_nodes: int | None) -> None:
        pool_id, scale = pool["id"], read_formula(pool.get("autoScaleFormula", ""))
        if scale is None:
            raise PoolError(f"pool {pool_id} scales by a formula of somebody else's: change that one", pool_id=pool_id)
        resized = replace(scale.resized(nodes, spot_nodes), wanted=datetime.now(timezone.utc))
        if not self.set_formula(pool_id, resized.formula()):
            raise PoolError(
                f"pool {pool_id} was given a formula, or resized, less than 30 s ago: try again in half a minute",
                pool_id=pool_id,
            )

    def set_formula(self, pool_id: str, formula: str) -> bool:
        """Let the pool scale by this formula, evaluated at once. False when the service takes no new one so soon (30 s)."""
        body = {"autoScaleFormula": formula, "autoScaleEvaluationInterval": EVALUATION_INTERVAL}
        try:
            self._service.request("POST", at("pools", pool_id, "enableautoscale"), body)
        except ServiceError as error:
            if error.code not in {"TooManyEnableAutoScaleRequests", "PoolBeingResized"}:
                raise
            return False
        return True

    def delete(self, pool_id: str) -> bool:
        """Ask for the end of a pool; False when there was none."""
        return self._service.delete(at("pools", pool_id))

    def _body(self, plan: PoolPlan, image: images.Image) -> Json:
        facts = {
            names.MANAGED: "1",
            names.PROJECT: self._project,
            TOKEN: secrets.token_hex(8),
            **({CONTAINER_OPTIONS: plan.container_options} if plan.container_options else {}),
            **(plan.metadata or {}),
        }
        body: Json = {
            "id": plan.pool_id,
            "vmSize": plan.vm_size,
            "virtualMachineConfiguration": plan.machine(image),
            **_size(plan),
            "taskSlotsPerNode": plan.slots_per_node,
            "taskSchedulingPolicy": {"nodeFillType": "spread"},
            "metadata": as_metadata(facts),
        }
        if commands := list(plan.commands()):
            body["startTask"] = start_task(commands)
        if plan.subnet:
            body["networkConfiguration"] = {"subnetId": plan.subnet}
        return body


def _size(plan: PoolPlan) -> Json:
    if not plan.formula:
        return {"targetDedicatedNodes": plan.nodes, "targetLowPriorityNodes": plan.spot_nodes}
    return {
        "enableAutoScale": True,
        "autoScaleFormula": plan.formula,
        "autoScaleEvaluationInterval": EVALUATION_INTERVAL,
    }
