"""azure-batch 6 to 14 (``BatchServiceClient``): every operation that these clients have."""

from __future__ import annotations

import datetime as dt
from typing import Any

from azure.batch import BatchServiceClient, models
from azure.batch.batch_auth import SharedKeyCredentials
from recording import AGENT, JAMMY, Recorder, check, read_settings, until

ONE_DAY = dt.timedelta(days=1)


def machine() -> Any:
    return models.VirtualMachineConfiguration(image_reference=models.ImageReference(**JAMMY), node_agent_sku_id=AGENT)


def pool(pool_id: str, nodes: int) -> Any:
    return models.PoolAddParameter(
        id=pool_id,
        vm_size="STANDARD_D2S_V3",
        virtual_machine_configuration=machine(),
        target_dedicated_nodes=nodes,
        enable_inter_node_communication=True,
        start_task=models.StartTask(command_line="/bin/sh -c 'echo started'", wait_for_success=True),
        metadata=[models.MetadataItem(name="made", value="by a test")],
    )


class Program:
    """One pool, one job, one schedule; everything is done to them in an order that leaves nothing behind."""

    def __init__(self) -> None:
        settings = read_settings()
        self.container_url = settings["container_url"]
        credentials = SharedKeyCredentials(settings["account"], settings["key"])
        self.client = BatchServiceClient(credentials, batch_url=settings["url"])
        self.client.config.retry_policy.retries = 0
        self.record = Recorder(self.client.api_version)
        self.pool, self.job, self.schedule = settings["prefix"], settings["prefix"], f"{settings['prefix']}-s"

    def run(self) -> None:
        self.account()
        self.make_pool()
        self.change_pool()
        self.autoscale()
        self.make_job()
        self.tasks()
        self.multi_instance()
        self.files()
        self.nodes()
        self.node_users()
        self.change_job()
        self.schedules()
        self.end()

    def account(self) -> None:
        client, record = self.client, self.record
        if hasattr(client.account, "list_supported_images"):
            with record("list_supported_images"):
                images = list(client.account.list_supported_images())
                check(any(image.node_agent_sku_id == AGENT for image in images), len(images))
        else:
            with record("list_node_agent_skus"):
                agents = {agent.id: agent for agent in client.account.list_node_agent_skus()}
                check(len(agents[AGENT].verified_image_references) >= 2, agents)
        with record("list_applications"):
            listed = [each.id for each in client.application.list()]
        with record("get_application"):
            check(client.application.get(listed[0]).versions, listed)
        with record("list_pool_usage_metrics"):
            check(list(client.pool.list_usage_metrics()) == [])

    def make_pool(self) -> None:
        client, record = self.client, self.record
        with record("create_pool"):
            client.pool.add(pool(self.pool, 2))
        with record("pool_exists"):
            check(client.pool.exists(self.pool))
            check(not client.pool.exists("no-such-pool"))
        with record("get_pool"):
            found = client.pool.get(self.pool)
            check(found.metadata[0].value == "by a test", found)
            check(found.start_task.command_line == "/bin/sh -c 'echo started'", found)
            options = models.PoolGetOptions(select="id,state")
            check(client.pool.get(self.pool, options).vm_size is None)
        with record("list_pools"):
            options = models.PoolListOptions(filter=f"id eq '{self.pool}'", max_results=1)
            check([each.id for each in client.pool.list(options)] == [self.pool])
        self.nodes_found = until(self._ready_nodes)
        with record("list_pool_node_counts"):
            counts = {each.pool_id: each for each in client.account.list_pool_node_counts()}
            check(counts[self.pool].dedicated.total == 2, counts[self.pool].dedicated)

    def _ready_nodes(self) -> list[str]:
        nodes = list(self.client.compute_node.list(self.pool))
        ready = [node.id for node in nodes if node.state == models.ComputeNodeState.idle]
        return sorted(ready) if len(ready) == 2 else []

    def change_pool(self) -> None:
        client, record = self.client, self.record
        with record("update_pool"):
            client.pool.patch(self.pool, models.PoolPatchParameter(metadata=[models.MetadataItem(name="a", value="b")]))
            check(client.pool.get(self.pool).metadata[0].name == "a")
        with record("replace_pool_properties"):
            names = models.PoolUpdatePropertiesParameter(
                certificate_references=[], application_package_references=[], metadata=[]
            )
            client.pool.update_properties(self.pool, names)
            check(client.pool.get(self.pool).start_task is None)

    def autoscale(self) -> None:
        client, record = self.client, self.record
        name = f"{self.pool}-scaled"
        client.pool.add(pool(name, 0))
        until(lambda: client.pool.get(name).allocation_state == models.AllocationState.steady)
        formula = "$TargetDedicatedNodes = min(2, 1 + 2); $TargetLowPriorityNodes = 0;"
        with record("enable_pool_auto_scale"):
            client.pool.enable_auto_scale(name, formula, auto_scale_evaluation_interval=dt.timedelta(minutes=6))
            check(client.pool.get(name).auto_scale_evaluation_interval == dt.timedelta(minutes=6))
        with record("evaluate_pool_auto_scale"):
            run = client.pool.evaluate_auto_scale(name, formula)
            check("$TargetDedicatedNodes=2" in run.results, run.results)
        until(lambda: client.pool.get(name).allocation_state == models.AllocationState.steady)
        with record("disable_pool_auto_scale"):
            client.pool.disable_auto_scale(name)
            check(client.pool.get(name).enable_auto_scale is False)
        until(lambda: client.pool.get(name).allocation_state == models.AllocationState.steady)
        with record("resize_pool"):
            client.pool.resize(name, models.PoolResizeParameter(target_dedicated_nodes=1, target_low_priority_nodes=0))
            until(lambda: len(list(client.compute_node.list(name))) == 1)
        until(lambda: client.pool.get(name).allocation_state == models.AllocationState.steady)
        with record("stop_pool_resize"):
            try:
                client.pool.stop_resize(name)
            except models.BatchErrorException as error:  # it was steady already
                check(error.error.code == "OperationNotValidOnPool" or "Resiz" in error.error.code, error.error.code)
        client.pool.delete(name)

    def make_job(self) -> None:
        client, record = self.client, self.record
        info = models.PoolInformation(pool_id=self.pool)
        with record("create_job"):
            client.job.add(
                models.JobAddParameter(
                    id=self.job,
                    pool_info=info,
                    uses_task_dependencies=True,
                    job_preparation_task=models.JobPreparationTask(command_line="/bin/sh -c 'echo prepared'"),
                    job_release_task=models.JobReleaseTask(command_line="/bin/sh -c 'echo released'"),
                    common_environment_settings=[models.EnvironmentSetting(name="WORD", value="hello")],
                )
            )
        with record("get_job"):
            check(client.job.get(self.job).pool_info.pool_id == self.pool)
        with record("list_jobs"):
            options = models.JobListOptions(filter=f"startswith(id,'{self.job}')")
            check(self.job in [each.id for each in client.job.list(options)])

    def tasks(self) -> None:
        client, record = self.client, self.record
        with record("create_task"):
            client.task.add(self.job, models.TaskAddParameter(id="1", command_line="/bin/sh -c 'echo $WORD; exit 3'"))
        with record("create_task_collection"):
            more = [models.TaskAddParameter(id=str(n), command_line="/bin/sh -c 'echo $WORD'") for n in range(2, 122)]
            more.append(
                models.TaskAddParameter(
                    id="after",
                    command_line="/bin/true",
                    depends_on=models.TaskDependencies(
                        task_ids=["2"], task_id_ranges=[models.TaskIdRange(start=3, end=5)]
                    ),
                )
            )
            results = client.task.add_collection(self.job, more).value
            check(len(results) == 121, len(results))
            check({each.status for each in results} == {models.TaskAddStatus.success}, results[0])
        completed = models.TaskListOptions(filter="state eq 'completed'", select="id,state")
        with record("list_tasks"):
            until(lambda: len(list(client.task.list(self.job, completed))) == 122)
        with record("get_task"):
            found = client.task.get(self.job, "1")
            check(found.execution_info.exit_code == 3, found.execution_info)
            check(found.execution_info.failure_info.code == "FailureExitCode", found.execution_info.failure_info)
            check(client.task.get(self.job, "after").execution_info.result == models.TaskExecutionResult.success)
        with record("get_job_task_counts"):
            counts = client.job.get_task_counts(self.job)
            counts = getattr(counts, "task_counts", counts)
            check((counts.succeeded, counts.failed) == (121, 1), counts)
        with record("get_job"):
            stats = client.job.get(self.job, models.JobGetOptions(expand="stats")).stats
            check((stats.num_succeeded_tasks, stats.num_failed_tasks) == (121, 1), stats)
            check(stats.wall_clock_time > dt.timedelta() and stats.wait_time == dt.timedelta(), stats)
        with record("get_pool"):
            stats = client.pool.get(self.pool, models.PoolGetOptions(expand="stats")).stats
            check(stats.usage_stats.dedicated_core_time > dt.timedelta(), stats.usage_stats)
        if hasattr(client.job, "get_all_lifetime_statistics"):
            with record("get_all_jobs_lifetime_statistics"):
                check(client.job.get_all_lifetime_statistics().num_succeeded_tasks >= 121)
            with record("get_all_pools_lifetime_statistics"):
                usage = client.pool.get_all_lifetime_statistics().usage_stats
                check(usage.dedicated_core_time > dt.timedelta(), usage)
        with record("list_job_preparation_and_release_task_status"):
            statuses = list(client.job.list_preparation_and_release_task_status(self.job))
            check(statuses[0].job_preparation_task_execution_info.exit_code == 0, statuses)
        with record("reactivate_task"):
            client.task.reactivate(self.job, "1")
            until(lambda: client.task.get(self.job, "1").state == models.TaskState.completed)
        with record("replace_task"):
            client.task.add(self.job, models.TaskAddParameter(id="long", command_line="/bin/sleep 100"))
            client.task.update(self.job, "long", constraints=models.TaskConstraints(max_task_retry_count=3))
            check(client.task.get(self.job, "long").constraints.max_task_retry_count == 3)
        with record("terminate_task"):
            client.task.terminate(self.job, "long")
            ended = until(lambda: (t := client.task.get(self.job, "long")).state == models.TaskState.completed and t)
            check(ended.execution_info.failure_info.code == "TaskEnded", ended.execution_info)
        with record("delete_task"):
            client.task.delete(self.job, "long")
            check("long" not in [each.id for each in client.task.list(self.job)])

    def multi_instance(self) -> None:
        client = self.client
        with self.record("list_subtasks"):
            settings = models.MultiInstanceSettings(number_of_instances=2, coordination_command_line="/bin/true")
            task = models.TaskAddParameter(id="mpi", command_line="/bin/true", multi_instance_settings=settings)
            client.task.add(self.job, task)
            until(lambda: client.task.get(self.job, "mpi").state == models.TaskState.completed)
            check([each.id for each in client.task.list_subtasks(self.job, "mpi").value] == [1])

    def files(self) -> None:
        client, record = self.client, self.record
        node = client.task.get(self.job, "2").node_info.node_id
        root = client.task.get(self.job, "2").node_info.task_root_directory
        with record("list_task_files"):
            names = {each.name for each in client.file.list_from_task(self.job, "2", recursive=True)}
            check({"stdout.txt", "stderr.txt", "wd"} <= names, names)
        with record("download_task_file"):
            content = b"".join(client.file.get_from_task(self.job, "2", "stdout.txt"))
            check(content == b"hello\n", content)
        with record("get_task_file_properties"):
            answer = client.file.get_properties_from_task(self.job, "2", "stdout.txt", raw=True)
            check(answer.headers["Content-Length"] == 6, dict(answer.headers))
        with record("delete_task_file"):
            client.file.delete_from_task(self.job, "2", "stdout.txt")
            check("stdout.txt" not in {each.name for each in client.file.list_from_task(self.job, "2")})
        with record("list_node_files"):
            names = {each.name for each in client.file.list_from_compute_node(self.pool, node)}
            check({"shared", "startup", "workitems"} <= names, names)
        path = f"{root}/stderr.txt"
        with record("download_node_file"):
            check(b"".join(client.file.get_from_compute_node(self.pool, node, path)) == b"")
        with record("get_node_file_properties"):
            answer = client.file.get_properties_from_compute_node(self.pool, node, path, raw=True)
            check(answer.headers["ocp-batch-file-isdirectory"] is False, dict(answer.headers))
        with record("delete_node_file"):
            client.file.delete_from_compute_node(self.pool, node, path)
            check("stderr.txt" not in {each.name for each in client.file.list_from_task(self.job, "2")})

    def nodes(self) -> None:
        client, record = self.client, self.record
        first, second = self.nodes_found
        with record("list_nodes"):
            check(sorted(each.id for each in client.compute_node.list(self.pool)) == [first, second])
        with record("get_node"):
            found = client.compute_node.get(self.pool, first)
            check(found.vm_size == "standard_d2s_v3" and found.is_dedicated, found)
        with record("get_node_remote_login_settings"):
            check(client.compute_node.get_remote_login_settings(self.pool, first).remote_login_port)
        with record("disable_node_scheduling"):
            client.compute_node.disable_scheduling(self.pool, first, "requeue")
            check(client.compute_node.get(self.pool, first).scheduling_state == "disabled")
        with record("enable_node_scheduling"):
            client.compute_node.enable_scheduling(self.pool, first)
            check(client.compute_node.get(self.pool, first).scheduling_state == "enabled")
        with record("upload_node_logs"):
            configuration = models.UploadBatchServiceLogsConfiguration(
                container_url=self.container_url, start_time=dt.datetime.now(dt.timezone.utc) - ONE_DAY
            )
            result = client.compute_node.upload_batch_service_logs(self.pool, first, configuration)
            check(result.number_of_files_uploaded == 1, result)
        if hasattr(client, "compute_node_extension"):
            with record("list_node_extensions"):
                extensions = [each.vm_extension.name for each in client.compute_node_extension.list(self.pool, first)]
                check(extensions == ["batchNodeExtension"], extensions)
            with record("get_node_extension"):
                found = client.compute_node_extension.get(self.pool, first, "batchNodeExtension")
                check(found.provisioning_state == "Succeeded", found)
        with record("reboot_node"):
            client.compute_node.reboot(self.pool, first, "requeue")
            until(lambda: client.compute_node.get(self.pool, first).state == models.ComputeNodeState.idle)
        with record("reimage_node"):
            client.compute_node.reimage(self.pool, first, "requeue")
            until(lambda: client.compute_node.get(self.pool, first).state == models.ComputeNodeState.idle)

    def node_users(self) -> None:
        client, record = self.client, self.record
        node, other = self.nodes_found
        with record("create_node_user"):
            user = models.ComputeNodeUser(name="ada", is_admin=True, password="not kept 1!")
            client.compute_node.add_user(self.pool, node, user)
        with record("replace_node_user"):
            client.compute_node.update_user(self.pool, node, "ada", models.NodeUpdateUserParameter(password="other 2!"))
        with record("delete_node_user"):
            client.compute_node.delete_user(self.pool, node, "ada")
        with record("remove_nodes"):
            client.pool.remove_nodes(self.pool, models.NodeRemoveParameter(node_list=[other]))
            until(lambda: [each.id for each in client.compute_node.list(self.pool)] == [node])

    def change_job(self) -> None:
        client, record = self.client, self.record
        info = models.PoolInformation(pool_id=self.pool)
        with record("update_job"):
            client.job.patch(self.job, models.JobPatchParameter(priority=7))
            check(client.job.get(self.job).priority == 7)
        with record("replace_job"):
            client.job.update(self.job, models.JobUpdateParameter(pool_info=info, priority=3))
            check(client.job.get(self.job).priority == 3)
        with record("disable_job"):
            client.job.disable(self.job, "requeue")
            until(lambda: client.job.get(self.job).state == models.JobState.disabled)
        with record("enable_job"):
            client.job.enable(self.job)
            until(lambda: client.job.get(self.job).state == models.JobState.active)
        with record("terminate_job"):
            client.job.terminate(self.job, terminate_reason="enough")
            until(lambda: client.job.get(self.job).state == models.JobState.completed)
            check(client.job.get(self.job).execution_info.terminate_reason == "enough")

    def schedules(self) -> None:
        client, record, name = self.client, self.record, self.schedule
        specification = models.JobSpecification(pool_info=models.PoolInformation(pool_id=self.pool), priority=5)
        often = models.Schedule(recurrence_interval=dt.timedelta(hours=2))
        with record("create_job_schedule"):
            client.job_schedule.add(
                models.JobScheduleAddParameter(id=name, schedule=often, job_specification=specification)
            )
        with record("job_schedule_exists"):
            check(client.job_schedule.exists(name))
        with record("get_job_schedule"):
            check(client.job_schedule.get(name).job_specification.priority == 5)
        with record("list_job_schedules"):
            check(name in [each.id for each in client.job_schedule.list()])
        with record("list_jobs_from_schedule"):
            check([each.id for each in client.job.list_from_job_schedule(name)] == [f"{name}:job-1"])
        with record("update_job_schedule"):
            rarely = models.Schedule(recurrence_interval=dt.timedelta(hours=5))
            client.job_schedule.patch(name, models.JobSchedulePatchParameter(schedule=rarely))
            check(client.job_schedule.get(name).schedule.recurrence_interval == dt.timedelta(hours=5))
        with record("replace_job_schedule"):
            client.job_schedule.update(
                name, models.JobScheduleUpdateParameter(schedule=often, job_specification=specification)
            )
            check(client.job_schedule.get(name).schedule.recurrence_interval == dt.timedelta(hours=2))
        with record("disable_job_schedule"):
            client.job_schedule.disable(name)
            check(client.job_schedule.get(name).state == models.JobScheduleState.disabled)
        with record("enable_job_schedule"):
            client.job_schedule.enable(name)
            check(client.job_schedule.get(name).state == models.JobScheduleState.active)
        with record("terminate_job_schedule"):
            client.job_schedule.terminate(name)
            until(lambda: client.job_schedule.get(name).state == models.JobScheduleState.completed)
        with record("delete_job_schedule"):
            client.job_schedule.delete(name)
            until(lambda: not client.job_schedule.exists(name))

    def end(self) -> None:
        client, record = self.client, self.record
        with record("delete_job"):
            client.job.delete(self.job)
            until(lambda: self.job not in [each.id for each in client.job.list()])
        with record("delete_pool"):
            client.pool.delete(self.pool)
            until(lambda: not client.pool.exists(self.pool))


if __name__ == "__main__":
    Program().run()
