"""azure-batch 15: all 72 operations, by the client that the first argument names: ``sync`` or ``aio``."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
import time
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import azure.batch
import azure.batch.aio
from azure.batch import models
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from recording import AGENT, JAMMY, PATIENCE_SECONDS, Recorder, check, read_settings

ONE_DAY = dt.timedelta(days=1)
#: Between two looks at a long-running operation; the client's own is 5.
POLL_SECONDS = 0.2


def pool(pool_id: str, nodes: int) -> Any:
    return models.BatchPoolCreateOptions(
        id=pool_id,
        vm_size="STANDARD_D2S_V3",
        virtual_machine_configuration=models.VirtualMachineConfiguration(
            image_reference=models.BatchVmImageReference(**JAMMY), node_agent_sku_id=AGENT
        ),
        target_dedicated_nodes=nodes,
        enable_inter_node_communication=True,
        start_task=models.BatchStartTask(command_line="/bin/sh -c 'echo started'", wait_for_success=True),
        metadata=[models.BatchMetadataItem(name="made", value="by a test")],
    )


async def until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s")
        await asyncio.sleep(0.05)
    return value


async def listed(pages: Any) -> list[Any]:
    return [each async for each in pages] if hasattr(pages, "__aiter__") else list(pages)


async def finished(poller: Any) -> None:
    """Wait for a long-running operation."""
    found = poller.result()
    if isawaitable(found):
        await found


class Ask:
    """Calls either client alike: every call can be awaited."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            if name.startswith("begin_"):
                options["polling_interval"] = POLL_SECONDS
            found = method(*arguments, **options)
            if isawaitable(found):
                found = await found
            if name.startswith("begin_"):
                await finished(found)
            elif name.startswith("list_"):
                return await listed(found)
            elif name.startswith("download_"):
                return b"".join(await listed(found))
            return found

        return call


class Program:
    """One pool, one job, one schedule; everything is done to them in an order that leaves nothing behind."""

    def __init__(self, settings: dict[str, Any], client: Any) -> None:
        self.container_url = settings["container_url"]
        self.ask = Ask(client)
        self.record = Recorder("2025-06-01")
        self.pool, self.job, self.schedule = settings["prefix"], settings["prefix"], f"{settings['prefix']}-s"

    async def run(self) -> None:
        await self.account()
        await self.make_pool()
        await self.change_pool()
        await self.autoscale()
        await self.make_job()
        await self.tasks()
        await self.multi_instance()
        await self.files()
        await self.nodes()
        await self.restart_nodes()
        await self.change_job()
        await self.schedules()
        await self.end()

    async def account(self) -> None:
        ask, record = self.ask, self.record
        with record("list_supported_images"):
            images = await ask.list_supported_images()
            check(any(image.node_agent_sku_id == AGENT for image in images), len(images))
        with record("list_applications"):
            applications = [each.id for each in await ask.list_applications()]
        with record("get_application"):
            check((await ask.get_application(applications[0])).versions, applications)
        with record("list_pool_usage_metrics"):
            check(await ask.list_pool_usage_metrics() == [])

    async def make_pool(self) -> None:
        ask, record = self.ask, self.record
        with record("create_pool"):
            await ask.create_pool(pool(self.pool, 2))
        with record("pool_exists"):
            check(await ask.pool_exists(self.pool))
            with contextlib.suppress(ResourceNotFoundError):  # the client raises where it means to answer False
                check(not await ask.pool_exists("no-such-pool"))
        with record("get_pool"):
            found = await ask.get_pool(self.pool)
            check(found.metadata[0].value == "by a test", found)
            check((await ask.get_pool(self.pool, select=["id", "state"])).vm_size is None)
        with record("list_pools"):
            found = await ask.list_pools(filter=f"startswith(id,'{self.pool}')", max_results=1)
            check([each.id for each in found] == [self.pool])
        self.nodes_found = await until(self._ready_nodes)
        with record("list_pool_node_counts"):
            counts = {each.pool_id: each for each in await ask.list_pool_node_counts()}
            check(counts[self.pool].dedicated.total == 2, counts[self.pool])

    async def _ready_nodes(self) -> list[str]:
        ready = [node.id for node in await self.ask.list_nodes(self.pool) if node.state == "idle"]
        return sorted(ready) if len(ready) == 2 else []

    async def change_pool(self) -> None:
        ask, record = self.ask, self.record
        item = models.BatchMetadataItem(name="a", value="b")
        with record("update_pool"):
            stale = (await ask.get_pool(self.pool)).etag
            await ask.update_pool(self.pool, models.BatchPoolUpdateOptions(metadata=[item]))
            check((await ask.get_pool(self.pool)).metadata[0].name == "a")
            try:
                options = {"etag": stale, "match_condition": MatchConditions.IfNotModified}
                await ask.update_pool(self.pool, models.BatchPoolUpdateOptions(metadata=[]), **options)
            except ResourceModifiedError:
                pass
            else:
                check(False, "a stale ETag was accepted")
        with record("replace_pool_properties"):
            options = models.BatchPoolReplaceOptions(application_package_references=[], metadata=[item])
            await ask.replace_pool_properties(self.pool, options)
            check((await ask.get_pool(self.pool)).start_task is None)

    async def autoscale(self) -> None:
        ask, record = self.ask, self.record
        name = f"{self.pool}-scaled"
        await ask.create_pool(pool(name, 0))

        async def steady() -> bool:
            return bool((await ask.get_pool(name)).allocation_state == "steady")

        await until(steady)
        formula = "$TargetDedicatedNodes = min(2, 1 + 2); $TargetLowPriorityNodes = 0;"
        with record("enable_pool_auto_scale"):
            options = models.BatchPoolEnableAutoScaleOptions(
                auto_scale_formula=formula, auto_scale_evaluation_interval=dt.timedelta(minutes=6)
            )
            await ask.enable_pool_auto_scale(name, options)
            check((await ask.get_pool(name)).auto_scale_formula == formula)
        with record("evaluate_pool_auto_scale"):
            options = models.BatchPoolEvaluateAutoScaleOptions(auto_scale_formula=formula)
            run = await ask.evaluate_pool_auto_scale(name, options)
            check("$TargetDedicatedNodes=2" in run.results, run.results)
        await until(steady)
        with record("disable_pool_auto_scale"):
            await ask.disable_pool_auto_scale(name)
            check((await ask.get_pool(name)).enable_auto_scale is False)
        await until(steady)
        with record("resize_pool"):
            options = models.BatchPoolResizeOptions(target_dedicated_nodes=1, target_low_priority_nodes=1)
            await ask.begin_resize_pool(name, options)
            check(len(await ask.list_nodes(name)) == 2)
        with record("stop_pool_resize"):
            try:
                await ask.begin_stop_pool_resize(name)
            except azure.core.exceptions.HttpResponseError as error:
                check(error.status_code == 409, error)  # it was steady already
        await ask.begin_delete_pool(name)

    async def make_job(self) -> None:
        ask, record = self.ask, self.record
        with record("create_job"):
            await ask.create_job(
                models.BatchJobCreateOptions(
                    id=self.job,
                    pool_info=models.BatchPoolInfo(pool_id=self.pool),
                    uses_task_dependencies=True,
                    job_preparation_task=models.BatchJobPreparationTask(command_line="/bin/sh -c 'echo prepared'"),
                    job_release_task=models.BatchJobReleaseTask(command_line="/bin/sh -c 'echo released'"),
                    common_environment_settings=[models.EnvironmentSetting(name="WORD", value="hello")],
                )
            )
        with record("get_job"):
            check((await ask.get_job(self.job)).pool_info.pool_id == self.pool)
        with record("list_jobs"):
            found = await ask.list_jobs(filter=f"startswith(id,'{self.job}')", select=["id", "state"])
            check(self.job in [each.id for each in found])

    async def tasks(self) -> None:
        ask, record = self.ask, self.record

        async def completed() -> list[Any]:
            return list(await ask.list_tasks(self.job, filter="state eq 'completed'", select=["id", "state"]))

        def task(name: str, command: str, **further: Any) -> Any:
            return models.BatchTaskCreateOptions(id=name, command_line=command, **further)

        with record("create_task"):
            await ask.create_task(self.job, task("1", "/bin/sh -c 'echo $WORD; exit 3'"))
        with record("create_task_collection"):
            after = models.BatchTaskDependencies(
                task_ids=["2"], task_id_ranges=[models.BatchTaskIdRange(start=3, end=5)]
            )
            more = [task(str(n), "/bin/sh -c 'echo $WORD'") for n in range(2, 52)]
            group = models.BatchTaskGroup(task_values=[*more, task("after", "/bin/true", depends_on=after)])
            results = (await ask.create_task_collection(self.job, group)).result_values
            check(len(results) == 51 and results[0].status.lower() == "success", results)
        with record("create_task_collection", "by create_tasks"):
            await ask.create_tasks(self.job, [task(str(n), "/bin/true") for n in range(52, 202)], max_concurrency=2)

        async def all_completed() -> bool:
            return len(await completed()) == 202

        with record("list_tasks"):
            await until(all_completed)
        with record("get_task"):
            found = await ask.get_task(self.job, "1")
            check(found.execution_info.exit_code == 3, found.execution_info)
            check(found.execution_info.failure_info.code == "FailureExitCode", found.execution_info)
        with record("get_job"):
            stats = (await ask.get_job(self.job, expand=["stats"])).job_statistics
            check(stats.succeeded_tasks_count > 0 and stats.wall_clock_time > dt.timedelta(), stats)
        with record("get_pool"):
            stats = (await ask.get_pool(self.pool, expand=["stats"])).pool_statistics
            check(stats.usage_statistics.dedicated_core_time > dt.timedelta(), stats)
        with record("get_job_task_counts"):
            counts = (await ask.get_job_task_counts(self.job)).task_counts
            check((counts.succeeded, counts.failed) == (201, 1), counts)
        with record("list_job_preparation_and_release_task_status"):
            statuses = await ask.list_job_preparation_and_release_task_status(self.job)
            check(statuses[0].job_preparation_task_execution_info.exit_code == 0, statuses)
        with record("reactivate_task"):
            await ask.reactivate_task(self.job, "1")
            await until(all_completed)
        with record("replace_task"):
            await ask.create_task(self.job, task("long", "/bin/sleep 100"))
            found = await ask.get_task(self.job, "long")
            found.constraints = models.BatchTaskConstraints(max_task_retry_count=3)
            await ask.replace_task(self.job, "long", found)
            check((await ask.get_task(self.job, "long")).constraints.max_task_retry_count == 3)
        with record("terminate_task"):
            await ask.terminate_task(self.job, "long")

            async def ended() -> Any:
                found = await ask.get_task(self.job, "long")
                return found if found.state == "completed" else None

            found = await until(ended)
            check(found.execution_info.failure_info.code == "TaskEnded", found.execution_info)
        with record("delete_task"):
            await ask.delete_task(self.job, "long")
            check("long" not in [each.id for each in await ask.list_tasks(self.job)])

    async def multi_instance(self) -> None:
        with self.record("list_subtasks"):
            settings = models.MultiInstanceSettings(number_of_instances=2, coordination_command_line="/bin/true")
            task = models.BatchTaskCreateOptions(id="mpi", command_line="/bin/true", multi_instance_settings=settings)
            await self.ask.create_task(self.job, task)

            async def over() -> bool:
                return bool((await self.ask.get_task(self.job, "mpi")).state == "completed")

            await until(over)
            check([each.id for each in await self.ask.list_subtasks(self.job, "mpi")] == [1])

    async def files(self) -> None:
        ask, record = self.ask, self.record
        info = (await ask.get_task(self.job, "2")).node_info
        with record("list_task_files"):
            names = {each.name for each in await ask.list_task_files(self.job, "2", recursive=True)}
            check({"stdout.txt", "stderr.txt", "wd"} <= names, names)
        with record("download_task_file"):
            content = await ask.download_task_file(self.job, "2", "stdout.txt")
            check(content == b"hello\n", content)
            check(await ask.download_task_file(self.job, "2", "stdout.txt", ocp_range="bytes=1-3") == b"ell")
        with record("get_task_file_properties"):
            found = await ask.get_task_file_properties(self.job, "2", "stdout.txt")
            check(found.content_length == 6, found)
        with record("delete_task_file"):
            await ask.delete_task_file(self.job, "2", "stdout.txt")
            check("stdout.txt" not in {each.name for each in await ask.list_task_files(self.job, "2")})
        with record("list_node_files"):
            names = {each.name for each in await ask.list_node_files(self.pool, info.node_id)}
            check({"shared", "startup", "workitems"} <= names, names)
        path = f"{info.task_root_directory}/stderr.txt"
        with record("download_node_file"):
            check(await ask.download_node_file(self.pool, info.node_id, path) == b"")
        with record("get_node_file_properties"):
            found = await ask.get_node_file_properties(self.pool, info.node_id, path)
            check(found.is_directory is False and found.content_length == 0, found)
        with record("delete_node_file"):
            await ask.delete_node_file(self.pool, info.node_id, path)
            check("stderr.txt" not in {each.name for each in await ask.list_task_files(self.job, "2")})

    async def nodes(self) -> None:
        ask, record = self.ask, self.record
        first, second = self.nodes_found
        with record("list_nodes"):
            check(sorted(each.id for each in await ask.list_nodes(self.pool)) == [first, second])
        with record("get_node"):
            found = await ask.get_node(self.pool, first)
            check(found.vm_size == "standard_d2s_v3" and found.is_dedicated, found)
        with record("get_node_remote_login_settings"):
            check((await ask.get_node_remote_login_settings(self.pool, first)).remote_login_port)
        with record("disable_node_scheduling"):
            options = models.BatchNodeDisableSchedulingOptions(node_disable_scheduling_option="requeue")
            await ask.disable_node_scheduling(self.pool, first, options)
            check((await ask.get_node(self.pool, first)).scheduling_state == "disabled")
        with record("enable_node_scheduling"):
            await ask.enable_node_scheduling(self.pool, first)
            check((await ask.get_node(self.pool, first)).scheduling_state == "enabled")
        with record("upload_node_logs"):
            options = models.UploadBatchServiceLogsOptions(
                container_url=self.container_url, start_time=dt.datetime.now(dt.timezone.utc) - ONE_DAY
            )
            result = await ask.upload_node_logs(self.pool, first, options)
            check(result.number_of_files_uploaded == 1, result)
        with record("list_node_extensions"):
            extensions = [each.vm_extension.name for each in await ask.list_node_extensions(self.pool, first)]
            check(extensions == ["batchNodeExtension"], extensions)
        with record("get_node_extension"):
            found = await ask.get_node_extension(self.pool, first, "batchNodeExtension")
            check(found.provisioning_state == "Succeeded", found)
        with record("create_node_user"):
            user = models.BatchNodeUserCreateOptions(name="ada", is_admin=True, password="not kept 1!")
            await ask.create_node_user(self.pool, first, user)
        with record("replace_node_user"):
            await ask.replace_node_user(
                self.pool, first, "ada", models.BatchNodeUserReplaceOptions(password="other 2!")
            )
        with record("delete_node_user"):
            await ask.delete_node_user(self.pool, first, "ada")

    async def restart_nodes(self) -> None:
        ask, record = self.ask, self.record
        first, second = self.nodes_found

        async def idle() -> bool:
            return bool((await ask.get_node(self.pool, first)).state == "idle")

        # The classes of these options are not public, and without options this client refuses by itself.
        with record("reboot_node"):
            await ask.begin_reboot_node(self.pool, first, {"nodeRebootOption": "requeue"})
            await until(idle)
        with record("reimage_node"):
            await ask.begin_reimage_node(self.pool, first, {"nodeReimageOption": "requeue"})
            await until(idle)
        with record("deallocate_node"):
            await ask.begin_deallocate_node(self.pool, first, {"nodeDeallocateOption": "requeue"})
            check((await ask.get_node(self.pool, first)).state == "deallocated")
        with record("start_node"):
            await ask.begin_start_node(self.pool, first)
            await until(idle)
        with record("remove_nodes"):
            await ask.begin_remove_nodes(self.pool, models.BatchNodeRemoveOptions(node_ids=[second]))
            check([each.id for each in await ask.list_nodes(self.pool)] == [first])

    async def change_job(self) -> None:
        ask, record = self.ask, self.record
        with record("update_job"):
            await ask.update_job(self.job, models.BatchJobUpdateOptions(priority=7))
            check((await ask.get_job(self.job)).priority == 7)
        with record("replace_job"):
            found = await ask.get_job(self.job)
            found.priority = 3
            await ask.replace_job(self.job, found)
            check((await ask.get_job(self.job)).priority == 3)
        with record("disable_job"):
            await ask.begin_disable_job(self.job, models.BatchJobDisableOptions(disable_tasks="requeue"))
            check((await ask.get_job(self.job)).state == "disabled")
        with record("enable_job"):
            await ask.begin_enable_job(self.job)
            check((await ask.get_job(self.job)).state == "active")
        with record("terminate_job"):
            # The options' class is not public, and without options this client refuses by itself.
            await ask.begin_terminate_job(self.job, {"terminateReason": "enough"})
            check((await ask.get_job(self.job)).execution_info.termination_reason == "enough")

    async def schedules(self) -> None:
        ask, record, name = self.ask, self.record, self.schedule
        specification = models.BatchJobSpecification(pool_info=models.BatchPoolInfo(pool_id=self.pool), priority=5)
        often = models.BatchJobScheduleConfiguration(recurrence_interval=dt.timedelta(hours=2))
        with record("create_job_schedule"):
            options = models.BatchJobScheduleCreateOptions(id=name, schedule=often, job_specification=specification)
            await ask.create_job_schedule(options)
        with record("job_schedule_exists"):
            check(await ask.job_schedule_exists(name))
        with record("get_job_schedule"):
            check((await ask.get_job_schedule(name)).job_specification.priority == 5)
        with record("list_job_schedules"):
            check(name in [each.id for each in await ask.list_job_schedules()])
        with record("list_jobs_from_schedule"):
            check([each.id for each in await ask.list_jobs_from_schedule(name)] == [f"{name}:job-1"])
        with record("update_job_schedule"):
            rarely = models.BatchJobScheduleConfiguration(recurrence_interval=dt.timedelta(hours=5))
            await ask.update_job_schedule(name, models.BatchJobScheduleUpdateOptions(schedule=rarely))
            check((await ask.get_job_schedule(name)).schedule.recurrence_interval == dt.timedelta(hours=5))
        with record("replace_job_schedule"):
            found = await ask.get_job_schedule(name)
            found.schedule = often
            await ask.replace_job_schedule(name, found)
            check((await ask.get_job_schedule(name)).schedule.recurrence_interval == dt.timedelta(hours=2))
        with record("disable_job_schedule"):
            await ask.disable_job_schedule(name)
            check((await ask.get_job_schedule(name)).state == "disabled")
        with record("enable_job_schedule"):
            await ask.enable_job_schedule(name)
            check((await ask.get_job_schedule(name)).state == "active")
        with record("terminate_job_schedule"):
            await ask.begin_terminate_job_schedule(name)
            check((await ask.get_job_schedule(name)).state == "completed")
        with record("delete_job_schedule"):
            await ask.begin_delete_job_schedule(name)
            check(name not in [each.id for each in await ask.list_job_schedules()])

    async def end(self) -> None:
        ask, record = self.ask, self.record
        with record("delete_job"):
            await ask.begin_delete_job(self.job)
            check(self.job not in [each.id for each in await ask.list_jobs()])
        with record("delete_pool"):
            await ask.begin_delete_pool(self.pool)
            check(self.pool not in [each.id for each in await ask.list_pools()])


async def main() -> None:
    settings = read_settings()
    credential = AzureNamedKeyCredential(settings["account"], settings["key"])
    options: dict[str, Any] = {"retry_total": 0}
    if sys.argv[1] == "aio":
        async with azure.batch.aio.BatchClient(settings["url"], credential, **options) as client:
            await Program(settings, client).run()
    else:
        with azure.batch.BatchClient(settings["url"], credential, **options) as client:
            await Program(settings, client).run()


if __name__ == "__main__":
    asyncio.run(main())
