"""Spot nodes that are taken away: at the rate the user asked for, back with empty disks a little later."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from azbatchwrap.local.batch.allocation import boot
from azbatchwrap.local.batch.model import WORKING_STATES, Node

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

log = logging.getLogger(__name__)

#: How often it is decided who goes, and how long they stay away (seconds; on Azure as long as capacity lacks).
ROUND_SECONDS = 0.5
AWAY_SECONDS = 2.0


async def preempt_for_ever(service: Service) -> None:
    """Take Spot nodes away while `Chaos.spot_preemption` asks for it."""
    while True:
        await asyncio.sleep(ROUND_SECONDS)
        if service.chaos.spot_preemption <= 0:
            continue
        for pool in list(service.pools.values()):
            for node in list(pool.nodes.values()):
                if not node.is_dedicated and node.state in WORKING_STATES and service.chaos.takes_node(ROUND_SECONDS):
                    service.spawn(preempt(service, node), f"pre-emption of {node.id}")


async def preempt(service: Service, node: Node) -> None:
    """The node loses its tasks (they run again elsewhere, without a count) and its disk; later it is there again."""
    log.info("Spot node %s of pool %s is taken away", node.id, node.pool.id)
    node.enter("preempted")
    service.save_node(node)
    while works := {run.work for run in node.runs.values() if run.work is not None}:
        for run in list(node.runs.values()):
            service.scheduler.stop(run, "recover")
        await asyncio.wait(works)
        await asyncio.sleep(0)
    for number in list(node.preparations):
        del node.preparations[number]
        service.store.drop("preparation", f"{number}/{node.key}")
    await asyncio.to_thread(node.folders.remove)
    await asyncio.sleep(AWAY_SECONDS)
    if node.pool.nodes.get(node.id) is node and node.state == "preempted":
        boot(service, node)
