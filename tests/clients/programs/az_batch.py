"""The az CLI: every data-plane command of ``az batch``, in one process of azure-cli's own interpreter."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import AGENT, JAMMY, Recorder, check, read_settings, until


class Az:
    """Runs command lines as ``az`` does, without starting Python for each."""

    def __init__(self) -> None:
        from azure.cli.core import get_default_cli

        self._cli = get_default_cli()

    def __call__(self, *words: str) -> Any:
        """The command's result. ValueError with its error message when it fails."""
        shown, sys.stderr = sys.stderr, io.StringIO()
        try:
            code = self._cli.invoke([*words, "--output", "json"], out_file=io.StringIO())
            said = sys.stderr.getvalue()
        except SystemExit as error:
            code, said = error.code, sys.stderr.getvalue()
        finally:
            sys.stderr = shown
        if code:
            problem = self._cli.result.error if self._cli.result else ""
            raise ValueError(f"az {' '.join(words)} ended with {code}: {problem} {said}".strip())
        return self._cli.result.result


class Program:
    """One pool, one job, one schedule; the operation of each command line is named beside it."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.az = Az()
        self.folder = folder
        self.container_url = settings["container_url"]
        self.pool, self.job, self.schedule = settings["prefix"], settings["prefix"], f"{settings['prefix']}-s"
        self.record = Recorder(_api_version())

    def run(self) -> None:
        self.account()
        self.pools()
        self.autoscale()
        self.jobs()
        self.tasks()
        self.task_files()
        self.nodes()
        self.node_files()
        self.change_jobs()
        self.schedules()
        self.end()

    def does(self, operation: str, *words: str) -> Any:
        """Run a command of ``az batch`` and record the operation; its result, or None when it failed."""
        return self.expects(operation, words, lambda _: True)

    def expects(self, operation: str, words: tuple[str, ...], is_right: Any) -> Any:
        """As `does`, and the result must satisfy ``is_right``."""
        found = None
        with self.record(operation, f"az batch {command_of(words)}"):
            found = self.az("batch", *words)
            check(is_right(found), found)
        return found

    def file(self, content: object) -> str:
        path = self.folder / "body.json"
        path.write_text(json.dumps(content))
        return str(path)

    def account(self) -> None:
        images = ("pool", "supported-images", "list")
        self.expects("list_supported_images", images, lambda found: any(i["nodeAgentSkuId"] == AGENT for i in found))
        self.expects("list_pool_usage_metrics", ("pool", "usage-metrics", "list"), lambda found: found == [])
        listed = self.expects("list_applications", ("application", "summary", "list"), lambda found: found) or [{}]
        show = ("application", "summary", "show", "--application-id", listed[0].get("id", "none"))
        self.expects("get_application", show, lambda found: found["versions"])

    def pools(self) -> None:
        image = ":".join(JAMMY.values())
        create = ("--id", self.pool, "--vm-size", "STANDARD_D2S_V3", "--image", image, "--node-agent-sku-id", AGENT)
        more = ("--target-dedicated-nodes", "2", "--metadata", "made=test")
        self.does("create_pool", "pool", "create", *create, *more)
        scaled = {
            "id": f"{self.pool}-scaled",
            "vmSize": "standard_d2s_v3",
            "targetDedicatedNodes": "0",
            "virtualMachineConfiguration": {"imageReference": JAMMY, "nodeAgentSKUId": AGENT},
        }
        self.does("create_pool", "pool", "create", "--json-file", self.file(scaled))
        show = ("pool", "show", "--pool-id", self.pool)
        self.expects("get_pool", show, lambda found: found["metadata"] == [{"name": "made", "value": "test"}])
        only = ("pool", "list", "--filter", f"id eq '{self.pool}'", "--select", "id,state")
        self.expects("list_pools", only, lambda found: [each["id"] for each in found] == [self.pool])
        self.nodes_found = until(self._ready_nodes)
        self.does("update_pool", "pool", "set", "--pool-id", self.pool, "--metadata", "a=b")
        self.expects("get_pool", show, lambda found: found["metadata"] == [{"name": "a", "value": "b"}])
        command = ("--start-task-command-line", "/bin/sh -c 'echo started'")
        self.does("replace_pool_properties", "pool", "reset", "--pool-id", self.pool, *command)
        self.expects("get_pool", show, lambda found: found["startTask"]["commandLine"] == command[1])
        counts = ("pool", "node-counts", "list")
        self.expects("list_pool_node_counts", counts, lambda found: self.pool in [each["poolId"] for each in found])

    def _ready_nodes(self) -> list[str]:
        nodes = self.az("batch", "node", "list", "--pool-id", self.pool)
        ready = sorted(node["id"] for node in nodes if node["state"] == "idle")
        return ready if len(ready) == 2 else []

    def autoscale(self) -> None:
        name = ("--pool-id", f"{self.pool}-scaled")
        formula = ("--auto-scale-formula", "$TargetDedicatedNodes = min(2, 1 + 2); $TargetLowPriorityNodes = 0;")
        steady = lambda: self.az("batch", "pool", "show", *name)["allocationState"] == "steady"  # noqa: E731
        until(steady)
        interval = ("--auto-scale-evaluation-interval", "PT6M")
        self.does("enable_pool_auto_scale", "pool", "autoscale", "enable", *name, *formula, *interval)
        until(steady)
        evaluate = ("pool", "autoscale", "evaluate", *name, *formula)
        self.expects("evaluate_pool_auto_scale", evaluate, lambda found: "$TargetDedicatedNodes=2" in found["results"])
        self.does("disable_pool_auto_scale", "pool", "autoscale", "disable", *name)
        until(steady)
        self.does("resize_pool", "pool", "resize", *name, "--target-dedicated-nodes", "1")
        until(steady)
        with self.record("stop_pool_resize", "az batch pool resize --abort"):
            try:
                self.az("batch", "pool", "resize", *name, "--abort")
            except ValueError as error:
                check("OperationNotValidOnPool" in str(error), error)  # it was steady already
        self.does("delete_pool", "pool", "delete", *name, "--yes")

    def jobs(self) -> None:
        body = {
            "id": self.job,
            "poolInfo": {"poolId": self.pool},
            "priority": "3",
            "jobPreparationTask": {"commandLine": "/bin/true"},
            "jobReleaseTask": {"commandLine": "/bin/true"},
            "commonEnvironmentSettings": [{"name": "WORD", "value": "hello"}],
        }
        self.does("create_job", "job", "create", "--json-file", self.file(body))
        self.does("create_job", "job", "create", "--id", f"{self.job}-2", "--pool-id", self.pool)
        self.expects("get_job", ("job", "show", "--job-id", self.job), lambda found: found["priority"] == 3)
        named = ("job", "list", "--filter", f"startswith(id,'{self.job}')")
        self.expects("list_jobs", named, lambda found: len(found) == 2)

    def tasks(self) -> None:
        job = ("--job-id", self.job)
        single = ("--task-id", "1", "--command-line", "/bin/sh -c 'echo $WORD; exit 3'")
        self.does("create_task", "task", "create", *job, *single)
        many = [{"id": str(n), "commandLine": "/bin/sh -c 'echo $WORD'"} for n in range(2, 252)]
        create = ("task", "create", *job, "--json-file", self.file(many))
        self.expects("create_task_collection", create, lambda found: len(found) == 250)
        completed = ("batch", "task", "list", *job, "--filter", "state eq 'completed'", "--select", "id")
        with self.record("list_tasks", "az batch task list"):
            until(lambda: len(self.az(*completed)) == 251)
        first = ("task", "show", *job, "--task-id", "1")
        self.expects("get_task", first, lambda found: found["executionInfo"]["exitCode"] == 3)
        counts = ("job", "task-counts", "show", *job)
        stats = ("job", "show", "--job-id", self.job, "--expand", "stats")
        self.expects("get_job", stats, lambda found: int(found["stats"]["numFailedTasks"]) == 1)
        self.expects("get_job_task_counts", counts, lambda found: found["taskCounts"]["failed"] == 1)
        prepared = ("job", "prep-release-status", "list", *job)
        status = "list_job_preparation_and_release_task_status"
        self.expects(status, prepared, lambda found: found[0]["jobPreparationTaskExecutionInfo"]["exitCode"] == 0)
        self.does("reactivate_task", "task", "reactivate", *job, "--task-id", "1")
        until(lambda: len(self.az(*completed)) == 251)
        long = ("--task-id", "long")
        self.does("create_task", "task", "create", *job, *long, "--command-line", "/bin/sleep 100")
        self.does("replace_task", "task", "reset", *job, *long, "--max-task-retry-count", "3")
        shown = ("task", "show", *job, *long)
        self.expects("get_task", shown, lambda found: found["constraints"]["maxTaskRetryCount"] == 3)
        self.does("terminate_task", "task", "stop", *job, *long)
        until(lambda: self.az("batch", *shown)["state"] == "completed")
        self.does("delete_task", "task", "delete", *job, *long, "--yes")
        instances = {"numberOfInstances": 2, "coordinationCommandLine": "/bin/true"}
        task = {"id": "mpi", "commandLine": "/bin/true", "multiInstanceSettings": instances}
        self.does("create_task", "task", "create", *job, "--json-file", self.file(task))
        until(lambda: self.az("batch", "task", "show", *job, "--task-id", "mpi")["state"] == "completed")
        subtasks = ("task", "subtask", "list", *job, "--task-id", "mpi")
        self.expects("list_subtasks", subtasks, lambda found: [each["id"] for each in _values(found)] in ([], [1]))

    def task_files(self) -> None:
        task = ("--job-id", self.job, "--task-id", "2")
        listed = ("task", "file", "list", *task)
        self.expects("list_task_files", listed, lambda found: "stdout.txt" in [each["name"] for each in found])
        shown = ("task", "file", "show", *task, "--file-path", "stdout.txt")
        self.does("get_task_file_properties", *shown)
        target = self.folder / "stdout.txt"
        download = ("task", "file", "download", *task, "--file-path", "stdout.txt", "--destination", str(target))
        self.expects("download_task_file", download, lambda _: target.read_bytes() == b"hello\n")
        self.does("delete_task_file", "task", "file", "delete", *task, "--file-path", "stdout.txt", "--yes")

    def nodes(self) -> None:
        first = self.nodes_found[0]
        node = ("--pool-id", self.pool, "--node-id", first)
        show = ("node", "show", *node)
        self.expects("list_nodes", ("node", "list", "--pool-id", self.pool), lambda found: len(found) == 2)
        self.expects("get_node", show, lambda found: found["vmSize"] == "standard_d2s_v3")
        login = ("node", "remote-login-settings", "show", *node)
        self.expects("get_node_remote_login_settings", login, lambda found: found["remoteLoginPort"])
        self.does("disable_node_scheduling", "node", "scheduling", "disable", *node)
        self.expects("get_node", show, lambda found: found["schedulingState"] == "disabled")
        self.does("enable_node_scheduling", "node", "scheduling", "enable", *node)
        self.does("create_node_user", "node", "user", "create", *node, "--name", "ada", "--password", "not kept 1!")
        self.does("replace_node_user", "node", "user", "reset", *node, "--user-name", "ada", "--password", "other 2!")
        self.does("delete_node_user", "node", "user", "delete", *node, "--user-name", "ada", "--yes")
        yesterday = (dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)).isoformat()
        upload = ("node", "service-logs", "upload", *node, "--container-url", self.container_url)
        uploaded = (*upload, "--start-time", yesterday)
        self.expects("upload_node_logs", uploaded, lambda found: found["numberOfFilesUploaded"] == 1)
        self.does("reboot_node", "node", "reboot", *node, "--node-reboot-option", "requeue")
        until(lambda: self.az("batch", *show)["state"] == "idle")

    def node_files(self) -> None:
        info = self.az("batch", "task", "show", "--job-id", self.job, "--task-id", "3")["nodeInfo"]
        node = ("--pool-id", self.pool, "--node-id", info["nodeId"])
        path = ("--file-path", f"{info['taskRootDirectory']}/stdout.txt")
        listed = ("node", "file", "list", *node)
        self.expects("list_node_files", listed, lambda found: "workitems" in [each["name"] for each in found])
        self.does("get_node_file_properties", "node", "file", "show", *node, *path)
        target = self.folder / "node-stdout.txt"
        download = ("node", "file", "download", *node, *path, "--destination", str(target))
        self.expects("download_node_file", download, lambda _: target.read_bytes() == b"hello\n")
        self.does("delete_node_file", "node", "file", "delete", *node, *path, "--yes")
        leave = ("node", "delete", "--pool-id", self.pool, "--node-list", self.nodes_found[1])
        self.does("remove_nodes", *leave)
        until(lambda: len(self.az("batch", "node", "list", "--pool-id", self.pool)) == 1)

    def change_jobs(self) -> None:
        job = ("--job-id", f"{self.job}-2")
        show = ("job", "show", *job)
        self.does("update_job", "job", "set", *job, "--priority", "7")
        self.expects("get_job", show, lambda found: found["priority"] == 7)
        self.does("replace_job", "job", "reset", *job, "--priority", "5", "--pool-id", self.pool)
        self.expects("get_job", show, lambda found: found["priority"] == 5)
        self.does("disable_job", "job", "disable", *job, "--disable-tasks", "requeue")
        until(lambda: self.az("batch", *show)["state"] == "disabled")
        self.does("enable_job", "job", "enable", *job)
        self.expects("get_job", show, lambda found: found["state"] == "active")
        self.does("terminate_job", "job", "stop", *job, "--terminate-reason", "enough")
        until(lambda: self.az("batch", *show)["state"] == "completed")
        self.expects("get_job", show, lambda found: found["executionInfo"]["terminateReason"] == "enough")

    def schedules(self) -> None:
        name = ("--job-schedule-id", self.schedule)
        show = ("job-schedule", "show", *name)
        times = ("--recurrence-interval", "PT2H", "--start-window", "PT1H")
        create = ("job-schedule", "create", "--id", self.schedule, "--pool-id", self.pool, *times)
        self.does("create_job_schedule", *create)
        self.expects("get_job_schedule", show, lambda found: found["schedule"]["recurrenceInterval"] == "PT2H")
        listed = ("job-schedule", "list")
        self.expects("list_job_schedules", listed, lambda found: self.schedule in [each["id"] for each in found])
        spawned = ("job", "list", "--job-schedule-id", self.schedule)
        self.expects("list_jobs_from_schedule", spawned, lambda f: [e["id"] for e in f] == [f"{self.schedule}:job-1"])
        self.does("update_job_schedule", "job-schedule", "set", *name, "--recurrence-interval", "PT5H")
        self.expects("get_job_schedule", show, lambda found: found["schedule"]["recurrenceInterval"] == "PT5H")
        self.does("replace_job_schedule", "job-schedule", "reset", *name, "--pool-id", self.pool, *times)
        self.expects("get_job_schedule", show, lambda found: found["schedule"]["recurrenceInterval"] == "PT2H")
        self.does("disable_job_schedule", "job-schedule", "disable", *name)
        self.expects("get_job_schedule", show, lambda found: found["state"] == "disabled")
        self.does("enable_job_schedule", "job-schedule", "enable", *name)
        self.does("terminate_job_schedule", "job-schedule", "stop", *name)
        until(lambda: self.az("batch", *show)["state"] == "completed")
        self.does("delete_job_schedule", "job-schedule", "delete", *name, "--yes")

    def end(self) -> None:
        for job in (self.job, f"{self.job}-2"):
            self.does("delete_job", "job", "delete", "--job-id", job, "--yes")
        self.does("delete_pool", "pool", "delete", "--pool-id", self.pool, "--yes")
        until(lambda: self.pool not in [each["id"] for each in self.az("batch", "pool", "list")])


def _values(found: Any) -> Any:
    return found["value"] if isinstance(found, dict) else found


def command_of(words: tuple[str, ...]) -> str:
    """The command without its options."""
    options = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join(words[:options])


def _api_version() -> str:
    """What the azure-batch bundled with azure-cli asks for."""
    from azure.batch import BatchClient
    from azure.core.credentials import AzureNamedKeyCredential

    return str(BatchClient("http://127.0.0.1", AzureNamedKeyCredential("a", "a2V5"))._config.api_version)


def main() -> None:
    settings = read_settings()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {
            "AZURE_CONFIG_DIR": str(Path(name, "config")),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_BATCH_ACCOUNT": settings["account"],
            "AZURE_BATCH_ACCESS_KEY": settings["key"],
            "AZURE_BATCH_ENDPOINT": settings["url"],
        }
        Program(settings, Path(name)).run()


if __name__ == "__main__":
    main()
