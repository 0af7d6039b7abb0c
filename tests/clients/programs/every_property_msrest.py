"""azure-batch 6 to 14: bodies with every property that the models have, created and read back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

from azure.batch import BatchServiceClient, models
from azure.batch.batch_auth import SharedKeyCredentials
from recording import AGENT, JAMMY, Recorder, check, read_settings

#: Rounds enough for every word of every enumeration here.
ROUNDS = 6
SECRETS = {"password", "account_key", "sas_key", "ssh_private_key", "protected_settings"}
NETWORKS = "/subscriptions/00000000-0000-4000-8000-000000a2ba7c/resourceGroups/g/providers/Microsoft.Network"
PLAIN: dict[str, Any] = {
    "int": 7,
    "long": 7,
    "float": 1.5,
    "duration": dt.timedelta(minutes=20),
    "iso-8601": dt.datetime(2031, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc),
    "object": {"any": [1]},
    "{str}": {"key": "value"},
}
URL = "http://127.0.0.1:9/x"
#: End of a property's address -> its values, round by round; None leaves it out.
OWN: dict[str, list[Any]] = {
    "image_reference": [models.ImageReference(**JAMMY, version="1.2.3")],
    "node_agent_sku_id": [AGENT],
    "cloud_service_configuration": [None],
    "vm_size": ["standard_d2s_v3"],
    "target_dedicated_nodes": [0],
    "target_low_priority_nodes": [0],
    "enable_auto_scale": [False],
    "auto_scale_formula": [None],
    "auto_scale_evaluation_interval": [None],
    "subnet_id": [f"{NETWORKS}/virtualNetworks/v/subnets/s"],
    "application_package_references": [None],
    "container_configuration.type": ["dockerCompatible"],
    "mount_configuration": [None],
    "user_identity": [
        models.UserIdentity(user_name="joe"),
        models.UserIdentity(auto_user=models.AutoUserSpecification(scope="task", elevation_level="admin")),
    ],
    "resource_files": [
        [models.ResourceFile(http_url=URL, file_path="a", file_mode="0755")],
        [models.ResourceFile(storage_container_url=URL, blob_prefix="p")],
    ],
    "common_resource_files": [[models.ResourceFile(http_url=URL, file_path="a")]],
    "inbound_nat_pools.frontend_port_range_start": [3000],
    "inbound_nat_pools.frontend_port_range_end": [4000],
    "network_security_group_rules.priority": [200],
    "max_batch_instance_percent": [20],
    "max_unhealthy_instance_percent": [20],
    "task_id_ranges": [[models.TaskIdRange(start=1, end=4)]],
    "exit_code_ranges.start": [1],
    "allow_task_preemption": [False],
    "max_parallel_tasks": [-1],
    "uses_task_dependencies": [True],
    "job_release_task.max_wall_clock_time": [dt.timedelta(minutes=10)],
    "recurrence_interval": [dt.timedelta(days=1)],
    "required_slots": [1],
    "job_specification.pool_info": [models.PoolInformation(pool_id="no-such-pool")],
}


def filled(model: Any, number: int, place: str = "") -> Any:
    """A model with every property set."""
    made = {}
    for name, about in model._attribute_map.items():
        value = value_of(about["type"], f"{place}.{name}", number)
        if value is not None:
            made[name] = value
    return model(**made)


def value_of(kind: str, place: str, number: int) -> Any:
    for end, given in OWN.items():
        if place.endswith(end):
            return given[number % len(given)]
    if kind.startswith("["):
        return [value_of(kind[1:-1], place, number)]
    found = getattr(models, kind, None)
    if hasattr(found, "_attribute_map"):
        return filled(found, number, place)
    if found is not None:
        return list(found)[number % len(found)]
    if kind == "bool":
        return number % 2 == 0
    return PLAIN[kind] if kind in PLAIN else place.rpartition(".")[2].replace("_", "")[:15]


def lost(sent: Any, shown: Any, place: str = "") -> Iterator[str]:
    """What ``shown`` lacks of ``sent``, or has another way. Secrets must be gone."""
    if hasattr(sent, "_attribute_map"):
        for name in sent._attribute_map:
            value, found = getattr(sent, name, None), getattr(shown, name, None)
            if name in SECRETS:
                yield from [f"{place}.{name} is shown"] if found is not None else []
            elif value is not None:
                yield from lost(value, found, f"{place}.{name}")
    elif isinstance(sent, list) and isinstance(shown, list) and len(sent) == len(shown):
        for index, (value, found) in enumerate(zip(sent, shown)):  # noqa: B905 - Python 3.8 has no strict
            yield from lost(value, found, f"{place}[{index}]")
    elif getattr(sent, "value", sent) != getattr(shown, "value", shown):
        yield f"{place}: {sent!r} became {shown!r}"


class Program:
    """Pools, jobs on no pool and on one of their own, tasks, schedules."""

    def __init__(self) -> None:
        settings = read_settings()
        credentials = SharedKeyCredentials(settings["account"], settings["key"])
        self.client = BatchServiceClient(credentials, batch_url=settings["url"])
        self.client.config.retry_policy.retries = 0
        self.record = Recorder(self.client.api_version)
        self.prefix = settings["prefix"]

    def run(self) -> None:
        client, nowhere = self.client, models.PoolInformation(pool_id="no-such-pool")
        for number in range(ROUNDS):
            self.keep("pool", number, models.PoolAddParameter, client.pool.add, client.pool.get)
            self.keep("job", number, models.JobAddParameter, client.job.add, client.job.get, pool_info=nowhere)
            own = models.PoolInformation(auto_pool_specification=filled(models.AutoPoolSpecification, number))
            self.keep("auto", number, models.JobAddParameter, client.job.add, client.job.get, pool_info=own)
            schedules = client.job_schedule
            self.keep("schedule", number, models.JobScheduleAddParameter, schedules.add, schedules.get)
            self.tasks(number, f"{self.prefix}-{number}-tasks", nowhere)

    def tasks(self, number: int, job_id: str, info: Any) -> None:
        tasks = self.client.task
        self.client.job.add(models.JobAddParameter(id=job_id, pool_info=info, uses_task_dependencies=True))
        self.keep(
            "task",
            number,
            models.TaskAddParameter,
            lambda task: tasks.add(job_id, task),
            lambda task_id: tasks.get(job_id, task_id),
        )
        self.client.job.delete(job_id)

    def keep(
        self, kind: str, number: int, model: Any, add: Callable[[Any], object], get: Callable[[str], Any], **fixed: Any
    ) -> None:
        with self.record(kind, f"round {number}"):
            body = filled(model, number)
            for name, value in {"id": f"{self.prefix}-{number}-{kind}", **fixed}.items():
                setattr(body, name, value)
            add(body)
            missing = list(lost(body, get(body.id)))
            check(not missing, missing)


if __name__ == "__main__":
    Program().run()
