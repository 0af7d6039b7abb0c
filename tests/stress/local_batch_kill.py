"""SIGKILL for the local Batch service every two seconds for a minute: ``python tests/stress/local_batch_kill.py``.

Meanwhile a client adds 5,000 tasks and looks at those that are completed. Prints what was seen; exits 1 when a task is
lost, has no success, or was seen completed and then was not, or otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from azure.batch import BatchClient, models
from azure.core.exceptions import AzureError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.fixtures_service import BatchService  # noqa: E402

POOL, JOB = "pool", "job"
GROUP = 100
#: Seconds that an outage of the service may last for the client.
PATIENCE = 60.0
_T = TypeVar("_T")


@dataclass
class Seen:
    """What the client knows. ``ended`` is what it first saw of each completed task."""

    added: int = 0
    kills: int = 0
    ended: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def persist(ask: Callable[[], _T]) -> _T:
    """Ask until there is an answer: the service comes back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except AzureError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def prepare(client: BatchClient) -> None:
    image = models.BatchVmImageReference(publisher="canonical", offer="0001-com-ubuntu-server-jammy", sku="22_04-lts")
    machine = models.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 22.04")
    size: dict[str, Any] = {"target_dedicated_nodes": 2, "task_slots_per_node": 4}
    client.create_pool(
        models.BatchPoolCreateOptions(id=POOL, vm_size="standard_d2s_v3", virtual_machine_configuration=machine, **size)
    )
    client.create_job(models.BatchJobCreateOptions(id=JOB, pool_info=models.BatchPoolInfo(pool_id=POOL)))


def add(client: BatchClient, seen: Seen, tasks: int, runs: Path) -> None:
    """Add groups of tasks, each as often as it takes: the second time they exist, which is as good."""
    for start in range(0, tasks, GROUP):
        numbers = range(start, min(tasks, start + GROUP))
        group = models.BatchTaskGroup(
            task_values=[
                models.BatchTaskCreateOptions(id=f"t{n}", command_line=f"/bin/sh -c 'echo t{n} >> {runs}'")
                for n in numbers
            ]
        )
        results = persist(lambda group=group: client.create_task_collection(JOB, group)).result_values or []
        for result in results:
            if result.error is not None and result.error.code != "TaskExists":
                seen.faults.append(f"{result.task_id} was refused: {result.error.code}")
        seen.added += len(numbers)


def look(client: BatchClient, seen: Seen) -> int:
    """Compare every completed task with what was seen of it before; returns how many there are."""
    options: dict[str, Any] = {"filter": "state eq 'completed'", "select": ["id", "executionInfo"]}
    found = persist(lambda: list(client.list_tasks(JOB, **options)))
    shown = {task.id: f"{task.execution_info.end_time} {task.execution_info.exit_code}" for task in found}
    if len(shown) != len(found):
        seen.faults.append("a list holds a task twice")
    for name, ended in seen.ended.items():
        if shown.get(name) != ended:
            seen.faults.append(f"{name} had ended at {ended}, now {shown.get(name)}")
    seen.ended = shown
    return len(shown)


def kill(service: BatchService, seen: Seen, every: float, seconds: float, least: int) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or seen.kills < least:
        time.sleep(every)
        service.kill9()
        seen.kills += 1
        service.restart()


def torture(
    folder: Path, *, tasks: int, every: float, seconds: float, least: int = 1, patience: float = 600.0
) -> tuple[Seen, Counter[str]]:
    """Kill for so many ``seconds`` and at ``least`` so often; returns what was seen and how often each task ran."""
    service, seen, runs = BatchService(folder / "service"), Seen(), folder / "runs"
    service.start()
    try:
        with service.client(retry_total=0, connection_timeout=5, read_timeout=20) as client:
            prepare(client)
            adding = threading.Thread(target=add, args=(client, seen, tasks, runs), daemon=True)
            killing = threading.Thread(target=kill, args=(service, seen, every, seconds, least), daemon=True)
            adding.start()
            killing.start()
            deadline = time.monotonic() + seconds + patience
            while look(client, seen) < tasks or killing.is_alive():
                if time.monotonic() > deadline:
                    seen.faults.append(f"{tasks - len(seen.ended)} tasks did not end within {patience:.0f} s")
                    break
                time.sleep(0.3)
            killing.join()
            adding.join()
            look(client, seen)
            counts = client.get_job_task_counts(JOB).task_counts
            if (counts.active, counts.running, counts.succeeded, counts.failed) != (0, 0, tasks, 0):
                seen.faults.append(f"the counts are {counts}")
    finally:
        service.stop()
    return seen, Counter(runs.read_text().split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from a start to the next kill")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        seen, runs = torture(Path(name), tasks=options.tasks, every=options.every, seconds=options.seconds)
    again = sum(count - 1 for count in runs.values())
    print(  # noqa: T201
        f"{seen.kills} kills; {seen.added} tasks added, {len(seen.ended)} completed once, {len(runs)} ran, "
        f"{again} ran again after a kill; {time.monotonic() - began:.0f} s"
    )
    for fault in seen.faults[:20]:
        print(f"FAULT {fault}")  # noqa: T201
    return 1 if seen.faults or len(runs) != options.tasks else 0


if __name__ == "__main__":
    raise SystemExit(main())
