"""`azbatchwrap pool`: the pools of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azbatchwrap.cli.opening import confirm, json_option, open_account, project_option, yes_option
from azbatchwrap.cli.output import note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from azbatchwrap.batch.service import Json

EPILOG = """\b
Examples:
  azbatchwrap pool list
  azbatchwrap pool resize POOL --nodes 0
  azbatchwrap pool delete POOL --yes
"""


@click.group(epilog=EPILOG)
def pool() -> None:
    """List, show, resize and delete pools."""


@pool.command("list", epilog="\b\nExample:\n  azbatchwrap pool list --all --json")
@click.option("--all", "everything", is_flag=True, help="Every pool of the account, not only this project's.")
@project_option
@json_option
def list_(everything: bool, project: str | None, as_json: bool) -> None:
    """List the pools of the project."""
    pools = list(open_account(project).pools.list(everything=everything))
    if as_json:
        print_json(pools)
        return
    if not pools:
        note("no pools" if everything else "no pools in this project (--all shows every pool of the account)")
        return
    columns = ("pool", "state", "allocation", "size", "nodes", "slots", "created")
    print_table(columns, (
        (item["id"], item.get("state"), item.get("allocationState"), item.get("vmSize"), nodes_text(item),
         str(item.get("taskSlotsPerNode", 1)), item.get("creationTime", "")[:19])
        for item in pools
    ))  # fmt: skip


@pool.command(epilog="\b\nExample:\n  azbatchwrap pool show POOL")
@click.argument("pool_id", metavar="POOL")
@json_option
def show(pool_id: str, as_json: bool) -> None:
    """Show a pool and its nodes."""
    from azbatchwrap.batch.access import identity_of
    from azbatchwrap.batch.service import at, metadata

    account = open_account()
    found = account.pools.get(pool_id)
    nodes = list(account.service.list(at("pools", pool_id, "nodes")))
    if as_json:
        print_json({**found, "nodes": nodes})
        return
    machine = found.get("virtualMachineConfiguration") or {}
    image, containers = machine.get("imageReference") or {}, machine.get("containerConfiguration") or {}
    special = {
        "scaled by": scale_text(found),
        "containers": " ".join(containers.get("containerImageNames") or ()),
        "identity": identity_of(found),
        "subnet": (found.get("networkConfiguration") or {}).get("subnetId"),
    }
    print_facts({
        "pool": found["id"],
        "state": f"{found.get('state')}, {found.get('allocationState')}",
        "image": " ".join(str(image[key]) for key in ("publisher", "offer", "sku") if key in image),
        "size": found.get("vmSize"),
        "nodes": nodes_text(found),
        "slots per node": str(found.get("taskSlotsPerNode", 1)),
        **{name: value for name, value in special.items() if value},
        **{f"metadata {name}": value for name, value in metadata(found).items()},
        **{f"resize error {error.get('code')}": error.get("message") for error in found.get("resizeErrors") or ()},
    })  # fmt: skip
    click.echo()
    print_table(("node", "state", "running", "total tasks", "start task"), (
        (node["id"], node.get("state"), str(node.get("runningTasksCount", 0)), str(node.get("totalTasksRun", 0)),
         (node.get("startTaskInfo") or {}).get("state"))
        for node in nodes
    ))  # fmt: skip


@pool.command(epilog="\b\nExample:\n  azbatchwrap pool resize POOL --nodes 4")
@click.argument("pool_id", metavar="POOL")
@click.option("--nodes", type=click.IntRange(0), help="Dedicated nodes.")
@click.option("--spot-nodes", type=click.IntRange(0), help="Spot nodes: cheaper, and Azure may take them back.")
def resize(pool_id: str, nodes: int | None, spot_nodes: int | None) -> None:
    """Ask for another number of nodes. Nodes that go finish their tasks first."""
    if nodes is None and spot_nodes is None:
        raise click.UsageError("say how many: --nodes N, --spot-nodes N, or both")
    open_account().pools.resize(pool_id, nodes, spot_nodes)
    note(f"pool {pool_id}: resizing (azbatchwrap pool show {pool_id})")


@pool.command(epilog="\b\nExample:\n  azbatchwrap pool delete POOL --yes")
@click.argument("pool_ids", metavar="POOL...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every pool of the project.")
@project_option
@yes_option
def delete(pool_ids: tuple[str, ...], everything: bool, project: str | None, yes: bool) -> None:
    """Delete pools. Their running tasks are put back into their jobs' queues."""
    if bool(pool_ids) == everything:
        raise click.UsageError("name the pools, or use --all")
    account = open_account(project)
    doomed = [item["id"] for item in account.pools.list()] if everything else list(pool_ids)
    if not doomed:
        note("no pools in this project")
        return
    confirm(f"Delete {', '.join(doomed)}?", yes=yes)
    missing = [pool_id for pool_id in doomed if not account.pools.delete(pool_id)]
    for pool_id in doomed:
        note(f"pool {pool_id}: " + ("there is none" if pool_id in missing else "deleting"))
    if missing:
        raise click.exceptions.Exit(1)


def scale_text(item: Json) -> str | None:
    """What a pool's formula does, as far as it is ours."""
    from azbatchwrap.batch.formula import read_formula

    if not item.get("enableAutoScale"):
        return None
    scale = read_formula(item.get("autoScaleFormula", ""))
    if scale is None:
        return "a formula"
    nodes = f"{scale.least} to {scale.most}" if scale.least != scale.most else f"{scale.most}"
    return (
        f"a formula: {nodes} nodes and {scale.spot} spot nodes, until {scale.span / 60:g} minutes after the last task"
    )


def nodes_text(item: Json) -> str:
    """How many nodes there are, and how many are wanted where that differs."""
    have = item.get("currentDedicatedNodes", 0) + item.get("currentLowPriorityNodes", 0)
    wanted = item.get("targetDedicatedNodes", 0) + item.get("targetLowPriorityNodes", 0)
    return str(have) if have == wanted else f"{have} of {wanted}"
