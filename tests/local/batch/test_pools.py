"""Pools and nodes over the real SDK."""

from __future__ import annotations

import datetime as dt

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, machine, new_id
from tests.waiting import wait_until

#: The SDK sends no request at all without options here.
OPTION = models._models.BatchNodeDisableSchedulingOptions(node_disable_scheduling_option="requeue")


def test_a_new_pool_is_answered_with_the_services_defaults(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0, slots=1, metadata=[])

    pool = client.get_pool(pool_id).as_dict()

    assert pool["state"] == "active"
    assert pool["vmSize"] == "standard_d2s_v3"
    assert pool["resizeTimeout"] == "PT15M"
    assert pool["taskSlotsPerNode"] == 1
    assert pool["taskSchedulingPolicy"] == {"nodeFillType": "Spread", "jobDefaultOrder": "none"}
    assert pool["virtualMachineConfiguration"]["imageReference"]["version"] == "latest"
    assert pool["enableAutoScale"] is pool["enableInterNodeCommunication"] is False
    assert "metadata" not in pool
    assert "startTask" not in pool
    assert client.pool_exists(pool_id)


def test_nodes_are_idle_at_once(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=2, target_low_priority_nodes=1)

    nodes = list(client.list_nodes(pool_id))

    assert [node.state for node in nodes] == [models.BatchNodeState.IDLE] * 3
    assert sum(node.is_dedicated for node in nodes) == 2
    assert client.get_pool(pool_id).current_low_priority_nodes == 1
    (counts,) = client.list_pool_node_counts(filter=f"poolId eq '{pool_id}'")
    assert (counts.dedicated.idle, counts.dedicated.total, counts.low_priority.total) == (2, 2, 1)


def test_a_start_task_runs_before_the_node_takes_tasks(client: BatchClient) -> None:
    start = models.BatchStartTask(
        command_line="/bin/sh -c 'sleep 0.3; echo $MARK > $AZ_BATCH_NODE_SHARED_DIR/mark'",
        environment_settings=[models.EnvironmentSetting(name="MARK", value="ready")],
        wait_for_success=True,
    )
    pool_id = add_pool(client, start_task=start)
    job_id = add_job(client, pool_id)
    task_id = add_task(client, job_id, "cat $AZ_BATCH_NODE_SHARED_DIR/mark")

    completed(client, job_id, task_id)

    assert b"".join(client.download_task_file(job_id, task_id, "stdout.txt")) == b"ready\n"
    (node,) = client.list_nodes(pool_id)
    assert node.start_task_info.exit_code == 0
    assert node.start_task_info.state == models.BatchStartTaskState.COMPLETED


def test_a_failed_start_task_keeps_tasks_away(client: BatchClient) -> None:
    start = models.BatchStartTask(command_line="/bin/sh -c 'echo why >&2; exit 4'", wait_for_success=True)
    pool_id = add_pool(client, start_task=start)

    wait_until(lambda: [node.state for node in client.list_nodes(pool_id)] == ["starttaskfailed"])

    (node,) = client.list_nodes(pool_id)
    assert node.start_task_info.exit_code == 4
    assert node.start_task_info.failure_info.code == "FailureExitCode"
    assert b"".join(client.download_node_file(pool_id, node.id, "startup/stderr.txt")) == b"why\n"
    (counts,) = client.list_pool_node_counts(filter=f"poolId eq '{pool_id}'")
    assert counts.dedicated.start_task_failed == 1


def test_a_repaired_start_task_works_after_a_reboot(client: BatchClient) -> None:
    pool_id = add_pool(client, start_task=models.BatchStartTask(command_line="/bin/false", wait_for_success=True))
    wait_until(lambda: [node.state for node in client.list_nodes(pool_id)] == ["starttaskfailed"])
    client.update_pool(
        pool_id, models.BatchPoolUpdateOptions(start_task=models.BatchStartTask(command_line="/bin/true"))
    )
    (node,) = client.list_nodes(pool_id)
    assert node.state == "starttaskfailed"

    client.begin_reboot_node(
        pool_id, node.id, models._models.BatchNodeRebootOptions(node_reboot_kind="requeue")
    ).result()

    wait_until(lambda: client.get_node(pool_id, node.id).state == models.BatchNodeState.IDLE)


def test_resize_up_and_down(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=1)

    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=3)).result()
    assert len(list(client.list_nodes(pool_id))) == 3

    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1)).result()
    pool = client.get_pool(pool_id)
    assert (pool.current_dedicated_nodes, pool.allocation_state) == (1, models.AllocationState.STEADY)


def test_tasks_of_a_removed_node_run_elsewhere(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=1, slots=1)
    job_id = add_job(client, pool_id)
    task_id = add_task(client, job_id, "sleep 0.5")
    wait_until(lambda: client.get_task(job_id, task_id).state == models.BatchTaskState.RUNNING)
    (node,) = client.list_nodes(pool_id)

    client.begin_remove_nodes(pool_id, models.BatchNodeRemoveOptions(node_ids=[node.id])).result()
    assert list(client.list_nodes(pool_id)) == []
    assert client.get_task(job_id, task_id).state == models.BatchTaskState.ACTIVE

    client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1)).result()
    assert completed(client, job_id, task_id).node_info.node_id != node.id


def test_patch_and_replace_properties(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0, start_task=models.BatchStartTask(command_line="/bin/true"))
    item = models.BatchMetadataItem(name="a", value="1")

    client.update_pool(pool_id, models.BatchPoolUpdateOptions(metadata=[item]))
    assert client.get_pool(pool_id).start_task.command_line == "/bin/true"
    assert client.get_pool(pool_id).metadata[0].value == "1"

    client.replace_pool_properties(
        pool_id, models.BatchPoolReplaceOptions(application_package_references=[], metadata=[])
    )
    pool = client.get_pool(pool_id)
    assert pool.start_task is None
    assert pool.metadata is None


def test_delete(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=2)
    client.begin_delete_pool(pool_id).result()
    with pytest.raises(ResourceNotFoundError) as missing:
        client.get_pool(pool_id)
    assert missing.value.error.code == "PoolNotFound"
    assert pool_id not in {pool.id for pool in client.list_pools()}


def test_an_existing_id_is_refused(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0)
    with pytest.raises(ResourceExistsError) as refused:
        add_pool(client, id=pool_id.upper())
    assert refused.value.error.code == "PoolExists"


def test_images_are_checked_against_the_list(client: BatchClient) -> None:
    offered = list(client.list_supported_images(filter="osType eq 'linux'"))
    assert {"batch.node.ubuntu 22.04", "batch.node.ubuntu 24.04"} <= {image.node_agent_sku_id for image in offered}
    wrong = machine()
    wrong.image_reference.sku = "16_04-lts"
    with pytest.raises(HttpResponseError) as refused:
        add_pool(client, virtual_machine_configuration=wrong)
    assert refused.value.error.code == "InvalidPropertyValue"
    wrong = machine()
    wrong.node_agent_sku_id = "batch.node.debian 12"
    with pytest.raises(HttpResponseError):
        add_pool(client, virtual_machine_configuration=wrong)


def test_applications_that_are_not_there_are_refused(client: BatchClient) -> None:
    assert list(client.list_applications()) == []
    references = [models.BatchApplicationPackageReference(application_id="nothing")]
    with pytest.raises(ResourceExistsError) as refused:
        add_pool(client, nodes=0, application_package_references=references)
    assert refused.value.error.code == "InvalidApplicationPackageReferences"


def test_spread_and_pack(client: BatchClient) -> None:
    used = {}
    for fill in ("spread", "pack"):
        policy = models.BatchTaskSchedulingPolicy(node_fill_type=fill)
        pool_id = add_pool(client, nodes=2, slots=2, task_scheduling_policy=policy)
        job_id = add_job(client, pool_id)
        for number in range(2):
            add_task(client, job_id, "sleep 0.5", id=f"t{number}")
        used[fill] = {completed(client, job_id, f"t{number}").node_info.node_id for number in range(2)}
    assert {fill: len(nodes) for fill, nodes in used.items()} == {"spread": 2, "pack": 1}


def test_scheduling_can_be_disabled_on_a_node(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=1, slots=1)
    (node,) = client.list_nodes(pool_id)
    client.disable_node_scheduling(pool_id, node.id, OPTION)
    job_id = add_job(client, pool_id)
    task_id = add_task(client, job_id)
    assert client.get_node(pool_id, node.id).scheduling_state == models.SchedulingState.DISABLED
    assert client.get_task(job_id, task_id).state == models.BatchTaskState.ACTIVE
    with pytest.raises(ResourceExistsError):
        client.disable_node_scheduling(pool_id, node.id, OPTION)

    client.enable_node_scheduling(pool_id, node.id)

    completed(client, job_id, task_id)


def test_reimage_empties_the_node(client: BatchClient) -> None:
    pool_id = add_pool(client)
    job_id = add_job(client, pool_id)
    completed(client, job_id, add_task(client, job_id, "touch $AZ_BATCH_NODE_SHARED_DIR/mark"))
    (node,) = client.list_nodes(pool_id)

    client.begin_reimage_node(
        pool_id, node.id, models._models.BatchNodeReimageOptions(node_reimage_option="requeue")
    ).result()

    wait_until(lambda: client.get_node(pool_id, node.id).state == models.BatchNodeState.IDLE)
    assert "shared/mark" not in {file.name for file in client.list_node_files(pool_id, node.id, recursive=True)}


def test_deallocate_and_start(client: BatchClient) -> None:
    pool_id = add_pool(client)
    (node,) = client.list_nodes(pool_id)

    client.begin_deallocate_node(
        pool_id, node.id, models._models.BatchNodeDeallocateOptions(node_deallocate_option="requeue")
    ).result()
    assert client.get_node(pool_id, node.id).state == "deallocated"

    client.begin_start_node(pool_id, node.id).result()
    wait_until(lambda: client.get_node(pool_id, node.id).state == models.BatchNodeState.IDLE)


def test_node_users_and_login(client: BatchClient) -> None:
    pool_id = add_pool(client)
    (node,) = client.list_nodes(pool_id)
    expiry = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    user = models.BatchNodeUserCreateOptions(name="guest", password="p", expiry_time=expiry)
    client.create_node_user(pool_id, node.id, user)
    with pytest.raises(ResourceExistsError) as refused:
        client.create_node_user(pool_id, node.id, user)
    assert refused.value.error.code == "NodeUserExists"
    client.replace_node_user(pool_id, node.id, "guest", models.BatchNodeUserReplaceOptions(password="q"))
    client.delete_node_user(pool_id, node.id, "guest")
    with pytest.raises(ResourceNotFoundError):
        client.delete_node_user(pool_id, node.id, "guest")
    assert client.get_node_remote_login_settings(pool_id, node.id).remote_login_port >= 50000
    assert [each.vm_extension.name for each in client.list_node_extensions(pool_id, node.id)] == ["batchNodeExtension"]


def test_lists_of_pools_filter_and_page(client: BatchClient) -> None:
    prefix = new_id("paged")
    for number in range(3):
        add_pool(client, nodes=0, id=f"{prefix}-{number}")
    found = client.list_pools(filter=f"startswith(id, '{prefix}')", max_results=1, select=["id"])
    assert [[pool.as_dict() for pool in page] for page in found.by_page()] == [
        [{"id": f"{prefix}-{number}"}] for number in range(3)
    ]


def test_windows_nodes_are_unusable_here(client: BatchClient) -> None:
    windows = models.VirtualMachineConfiguration(
        image_reference=models.BatchVmImageReference(
            publisher="microsoftwindowsserver", offer="windowsserver", sku="2022-datacenter"
        ),
        node_agent_sku_id="batch.node.windows amd64",
    )
    pool_id = add_pool(client, virtual_machine_configuration=windows)
    (node,) = client.list_nodes(pool_id)
    assert node.state == models.BatchNodeState.UNUSABLE
    assert "Linux" in node.errors[0].message


def test_prefixes_of_auto_pools_are_ids(client: BatchClient) -> None:
    specification = models.BatchAutoPoolSpecification(
        auto_pool_id_prefix="../../x",
        pool_lifetime_option="job",
        pool=models.BatchPoolSpecification(vm_size="standard_d2s_v3", virtual_machine_configuration=machine()),
    )
    with pytest.raises(HttpResponseError) as refused:
        client.create_job(
            models.BatchJobCreateOptions(
                id=new_id("job"), pool_info=models.BatchPoolInfo(auto_pool_specification=specification)
            )
        )
    assert refused.value.error.code == "InvalidPropertyValue"


def test_subnets_of_other_subscriptions_cannot_be_reached(client: BatchClient) -> None:
    """Those of the account's own are kept and shown, no more."""
    network = "resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"
    own = f"/subscriptions/{SUBSCRIPTION}/{network}"
    pool_id = add_pool(client, nodes=0, network_configuration=models.NetworkConfiguration(subnet_id=own))
    assert client.get_pool(pool_id).network_configuration.subnet_id == own
    for wrong in (f"/subscriptions/somebody/{network}", "nodes", own.rpartition("/")[0]):
        other = models.NetworkConfiguration(subnet_id=wrong)
        for attempt in (
            lambda other=other: add_pool(client, nodes=0, network_configuration=other),
            lambda other=other: client.update_pool(pool_id, models.BatchPoolUpdateOptions(network_configuration=other)),
        ):
            with pytest.raises(HttpResponseError) as refused:
                attempt()
            assert refused.value.error.code == "InvalidPropertyValue"


@pytest.mark.parametrize(
    "image",
    [
        {
            "virtual_machine_image_id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/gallery/g/images/i"
        },
        {"virtual_machine_image_id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d"},
        {"virtual_machine_image_id": "my-image"},
        {"shared_gallery_image_id": "/communityGalleries/g/images/i"},
        {"community_gallery_image_id": "/communityGalleries/g/images/i/versions/1/2"},
    ],
)
def test_images_of_ones_own_lie_in_galleries(client: BatchClient, image: dict[str, str]) -> None:
    configuration = models.VirtualMachineConfiguration(
        image_reference=models.BatchVmImageReference(**image), node_agent_sku_id="batch.node.ubuntu 22.04"
    )
    with pytest.raises(HttpResponseError, match="must be of the format") as refused:
        add_pool(client, nodes=0, virtual_machine_configuration=configuration)
    assert refused.value.error.code == "InvalidPropertyValue"
