// @azure/batch for Node.js: every operation that this client has. One JSON line for each (see recording.py).
// The first argument is the folder that holds node_modules.
import { createRequire } from "node:module";
import { readFileSync, writeSync } from "node:fs";

const require = createRequire(`${process.argv[2]}/`);
const { BatchServiceClient, BatchSharedKeyCredentials } = require("@azure/batch");

const PATIENCE_MS = 60_000;
const AGENT = "batch.node.ubuntu 22.04";
const IMAGE = { publisher: "canonical", offer: "0001-com-ubuntu-server-jammy", sku: "22_04-lts" };

const settings = JSON.parse(readFileSync(0, "utf8"));
const credentials = new BatchSharedKeyCredentials(settings.account, settings.key);
const client = new BatchServiceClient(credentials, settings.url, { noRetryPolicy: true });
const poolId = settings.prefix;
const jobId = settings.prefix;
const scheduleId = `${settings.prefix}-s`;

async function record(operation, work) {
  const line = { operation, api_version: client.apiVersion, ok: true, detail: "" };
  try {
    await work();
  } catch (error) {
    line.ok = false;
    line.detail = `${error.name}: ${error.code ?? ""} ${error.message} ${JSON.stringify(error.body ?? "")}`.slice(0, 600);
  }
  writeSync(1, JSON.stringify(line) + "\n");
}

function check(condition, about) {
  if (!condition) throw new Error(`unexpected: ${JSON.stringify(about)}`);
}

async function until(condition) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error("not true in time");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function content(answer) {
  const pieces = [];
  for await (const piece of answer.readableStreamBody) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const ids = (list) => list.map((each) => each.id);
const names = (list) => list.map((each) => each.name);
const pool = (id, targetDedicatedNodes) => ({
  id,
  vmSize: "Standard_D2s_v3",
  targetDedicatedNodes,
  enableInterNodeCommunication: true,
  virtualMachineConfiguration: { imageReference: IMAGE, nodeAgentSKUId: AGENT },
  startTask: { commandLine: "/bin/sh -c 'echo started'", waitForSuccess: true },
  metadata: [{ name: "made", value: "by a test" }],
});
const steady = (id) => until(async () => (await client.pool.get(id)).allocationState === "steady");

// The account

await record("list_supported_images", async () => {
  const images = await client.account.listSupportedImages();
  check(images.some((image) => image.nodeAgentSKUId === AGENT), images.length);
});
let applications = [];
await record("list_applications", async () => {
  applications = ids(await client.application.list());
});
await record("get_application", async () => {
  check((await client.application.get(applications[0])).versions, applications);
});
await record("list_pool_usage_metrics", async () => {
  check((await client.pool.listUsageMetrics()).length === 0);
});

// The pool

await record("create_pool", () => client.pool.add(pool(poolId, 2)));
await record("pool_exists", async () => check((await client.pool.exists(poolId)).body, "exists"));
await record("get_pool", async () => {
  const found = await client.pool.get(poolId);
  check(found.metadata[0].value === "by a test", found.metadata);
  check((await client.pool.get(poolId, { poolGetOptions: { select: "id,state" } })).vmSize === undefined);
});
await record("list_pools", async () => {
  const options = { poolListOptions: { filter: `id eq '${poolId}'`, maxResults: 1 } };
  check(ids(await client.pool.list(options)).join() === poolId);
});
const [first, second] = await until(async () => {
  const ready = (await client.computeNode.list(poolId)).filter((node) => node.state === "idle");
  return ready.length === 2 ? ids(ready).sort() : undefined;
});
await record("list_pool_node_counts", async () => {
  const counts = (await client.account.listPoolNodeCounts()).find((each) => each.poolId === poolId);
  check(counts.dedicated.total === 2, counts);
});
await record("update_pool", async () => {
  await client.pool.patch(poolId, { metadata: [{ name: "a", value: "b" }] });
  check((await client.pool.get(poolId)).metadata[0].name === "a");
});
await record("replace_pool_properties", async () => {
  const properties = { certificateReferences: [], applicationPackageReferences: [], metadata: [] };
  await client.pool.updateProperties(poolId, properties);
  check((await client.pool.get(poolId)).startTask === undefined);
});

const scaled = `${poolId}-scaled`;
const formula = "$TargetDedicatedNodes = min(2, 1 + 2); $TargetLowPriorityNodes = 0;";
await client.pool.add(pool(scaled, 0));
await steady(scaled);
await record("enable_pool_auto_scale", async () => {
  await client.pool.enableAutoScale(scaled, { autoScaleFormula: formula, autoScaleEvaluationInterval: "PT6M" });
  check((await client.pool.get(scaled)).autoScaleEvaluationInterval === "PT6M");
});
await record("evaluate_pool_auto_scale", async () => {
  const run = await client.pool.evaluateAutoScale(scaled, formula);
  check(run.results.includes("$TargetDedicatedNodes=2"), run.results);
});
await steady(scaled);
await record("disable_pool_auto_scale", async () => {
  await client.pool.disableAutoScale(scaled);
  check((await client.pool.get(scaled)).enableAutoScale === false);
});
await steady(scaled);
await record("resize_pool", async () => {
  await client.pool.resize(scaled, { targetDedicatedNodes: 1, targetLowPriorityNodes: 0 });
  await until(async () => (await client.computeNode.list(scaled)).length === 1);
});
await steady(scaled);
await record("stop_pool_resize", async () => {
  try {
    await client.pool.stopResize(scaled);
  } catch (error) {
    check(error.statusCode === 409, error.body); // it was steady already
  }
});
await client.pool.deleteMethod(scaled);

// The job and its tasks

await record("create_job", () =>
  client.job.add({
    id: jobId,
    poolInfo: { poolId },
    usesTaskDependencies: true,
    jobPreparationTask: { commandLine: "/bin/sh -c 'echo prepared'" },
    jobReleaseTask: { commandLine: "/bin/sh -c 'echo released'" },
    commonEnvironmentSettings: [{ name: "WORD", value: "hello" }],
  }),
);
await record("get_job", async () => check((await client.job.get(jobId)).poolInfo.poolId === poolId));
await record("list_jobs", async () => {
  const found = await client.job.list({ jobListOptions: { filter: `startswith(id,'${jobId}')` } });
  check(ids(found).includes(jobId), ids(found));
});
await record("create_task", () => client.task.add(jobId, { id: "1", commandLine: "/bin/sh -c 'echo $WORD; exit 3'" }));
await record("create_task_collection", async () => {
  const more = Array.from({ length: 99 }, (_, n) => ({ id: `${n + 2}`, commandLine: "/bin/sh -c 'echo $WORD'" }));
  const dependsOn = { taskIds: ["2"], taskIdRanges: [{ start: 3, end: 5 }] };
  const added = await client.task.addCollection(jobId, [...more, { id: "after", commandLine: "/bin/true", dependsOn }]);
  check(added.value.length === 100 && added.value.every((each) => each.status.toLowerCase() === "success"), added.value);
});
const allCompleted = async () => {
  const options = { taskListOptions: { filter: "state eq 'completed'", select: "id,state" } };
  return (await client.task.list(jobId, options)).length === 101;
};
await record("list_tasks", () => until(allCompleted));
await record("get_task", async () => {
  const info = (await client.task.get(jobId, "1")).executionInfo;
  check(info.exitCode === 3 && info.failureInfo.code === "FailureExitCode", info);
});
await record("get_all_jobs_lifetime_statistics", async () => {
  const { stats } = await client.job.get(jobId, { jobGetOptions: { expand: "stats" } });
  check(Number(stats.numSucceededTasks) > 0, stats);
  check(Number((await client.job.getAllLifetimeStatistics()).numSucceededTasks) > 0);
});
await record("get_all_pools_lifetime_statistics", async () => {
  const { usageStats } = await client.pool.getAllLifetimeStatistics();
  check(usageStats.dedicatedCoreTime !== undefined, usageStats);
});
await record("get_job_task_counts", async () => {
  const { taskCounts } = await client.job.getTaskCounts(jobId);
  check(taskCounts.succeeded === 100 && taskCounts.failed === 1, taskCounts);
});
await record("list_job_preparation_and_release_task_status", async () => {
  const [status] = await client.job.listPreparationAndReleaseTaskStatus(jobId);
  check(status.jobPreparationTaskExecutionInfo.exitCode === 0, status);
});
await record("reactivate_task", async () => {
  await client.task.reactivate(jobId, "1");
  await until(allCompleted);
});
await record("replace_task", async () => {
  await client.task.add(jobId, { id: "long", commandLine: "/bin/sleep 100" });
  await client.task.update(jobId, "long", { constraints: { maxTaskRetryCount: 3 } });
  check((await client.task.get(jobId, "long")).constraints.maxTaskRetryCount === 3);
});
await record("terminate_task", async () => {
  await client.task.terminate(jobId, "long");
  const info = await until(async () => {
    const task = await client.task.get(jobId, "long");
    return task.state === "completed" && task.executionInfo;
  });
  check(info.failureInfo.code === "TaskEnded", info);
});
await record("delete_task", async () => {
  await client.task.deleteMethod(jobId, "long");
  check(!ids(await client.task.list(jobId)).includes("long"));
});
await record("list_subtasks", async () => {
  const multiInstanceSettings = { numberOfInstances: 2, coordinationCommandLine: "/bin/true" };
  await client.task.add(jobId, { id: "mpi", commandLine: "/bin/true", multiInstanceSettings });
  await until(async () => (await client.task.get(jobId, "mpi")).state === "completed");
  check(ids((await client.task.listSubtasks(jobId, "mpi")).value).join() === "1");
});

// Files

const place = (await client.task.get(jobId, "2")).nodeInfo;
await record("list_task_files", async () => {
  const found = names(await client.file.listFromTask(jobId, "2", { recursive: true }));
  check(["stdout.txt", "stderr.txt", "wd"].every((name) => found.includes(name)), found);
});
await record("download_task_file", async () => {
  check((await content(await client.file.getFromTask(jobId, "2", "stdout.txt"))) === "hello\n");
});
await record("get_task_file_properties", async () => {
  check((await client.file.getPropertiesFromTask(jobId, "2", "stdout.txt")).contentLength === 6);
});
await record("delete_task_file", async () => {
  await client.file.deleteFromTask(jobId, "2", "stdout.txt");
  check(!names(await client.file.listFromTask(jobId, "2")).includes("stdout.txt"));
});
await record("list_node_files", async () => {
  const found = names(await client.file.listFromComputeNode(poolId, place.nodeId));
  check(["shared", "startup", "workitems"].every((name) => found.includes(name)), found);
});
const path = `${place.taskRootDirectory}/stderr.txt`;
await record("download_node_file", async () => {
  check((await content(await client.file.getFromComputeNode(poolId, place.nodeId, path))) === "");
});
await record("get_node_file_properties", async () => {
  const found = await client.file.getPropertiesFromComputeNode(poolId, place.nodeId, path);
  check(String(found.ocpBatchFileIsdirectory).toLowerCase() === "false", found);
});
await record("delete_node_file", async () => {
  await client.file.deleteFromComputeNode(poolId, place.nodeId, path);
  check(!names(await client.file.listFromTask(jobId, "2")).includes("stderr.txt"));
});

// Nodes

const idle = () => until(async () => (await client.computeNode.get(poolId, first)).state === "idle");
await record("list_nodes", async () => {
  check(ids(await client.computeNode.list(poolId)).sort().join() === [first, second].join());
});
await record("get_node", async () => check((await client.computeNode.get(poolId, first)).vmSize === "standard_d2s_v3"));
await record("get_node_remote_login_settings", async () => {
  check((await client.computeNode.getRemoteLoginSettings(poolId, first)).remoteLoginPort);
});
await record("disable_node_scheduling", async () => {
  await client.computeNode.disableScheduling(poolId, first, { nodeDisableSchedulingOption: "requeue" });
  check((await client.computeNode.get(poolId, first)).schedulingState === "disabled");
});
await record("enable_node_scheduling", async () => {
  await client.computeNode.enableScheduling(poolId, first);
  check((await client.computeNode.get(poolId, first)).schedulingState === "enabled");
});
await record("upload_node_logs", async () => {
  const logs = { containerUrl: settings.container_url, startTime: new Date(Date.now() - 86_400_000) };
  check((await client.computeNode.uploadBatchServiceLogs(poolId, first, logs)).numberOfFilesUploaded === 1);
});
if (client.computeNodeExtension) {
  await record("list_node_extensions", async () => {
    const found = (await client.computeNodeExtension.list(poolId, first)).map((each) => each.vmExtension.name);
    check(found.join() === "batchNodeExtension", found);
  });
  await record("get_node_extension", async () => {
    const found = await client.computeNodeExtension.get(poolId, first, "batchNodeExtension");
    check(found.provisioningState === "Succeeded", found);
  });
}
await record("create_node_user", () =>
  client.computeNode.addUser(poolId, first, { name: "ada", isAdmin: true, password: "not kept 1!" }),
);
await record("replace_node_user", () => client.computeNode.updateUser(poolId, first, "ada", { password: "other 2!" }));
await record("delete_node_user", () => client.computeNode.deleteUser(poolId, first, "ada"));
await record("reboot_node", async () => {
  await client.computeNode.reboot(poolId, first, { nodeRebootOption: "requeue" });
  await idle();
});
await record("reimage_node", async () => {
  await client.computeNode.reimage(poolId, first, { nodeReimageOption: "requeue" });
  await idle();
});
await record("remove_nodes", async () => {
  await client.pool.removeNodes(poolId, { nodeList: [second] });
  await until(async () => (await client.computeNode.list(poolId)).length === 1);
});

// Changes of the job

const jobState = (state) => until(async () => (await client.job.get(jobId)).state === state);
await record("update_job", async () => {
  await client.job.patch(jobId, { priority: 7 });
  check((await client.job.get(jobId)).priority === 7);
});
await record("replace_job", async () => {
  await client.job.update(jobId, { poolInfo: { poolId }, priority: 3 });
  check((await client.job.get(jobId)).priority === 3);
});
await record("disable_job", async () => {
  await client.job.disable(jobId, "requeue");
  await jobState("disabled");
});
await record("enable_job", async () => {
  await client.job.enable(jobId);
  await jobState("active");
});
await record("terminate_job", async () => {
  await client.job.terminate(jobId, { terminateReason: "enough" });
  await jobState("completed");
  check((await client.job.get(jobId)).executionInfo.terminateReason === "enough");
});

// The schedule

const jobSpecification = { poolInfo: { poolId }, priority: 5 };
const often = { recurrenceInterval: "PT2H" };
const schedule = () => client.jobSchedule.get(scheduleId);
await record("create_job_schedule", () => client.jobSchedule.add({ id: scheduleId, schedule: often, jobSpecification }));
await record("job_schedule_exists", async () => check((await client.jobSchedule.exists(scheduleId)).body));
await record("get_job_schedule", async () => check((await schedule()).jobSpecification.priority === 5));
await record("list_job_schedules", async () => check(ids(await client.jobSchedule.list()).includes(scheduleId)));
await record("list_jobs_from_schedule", async () => {
  check(ids(await client.job.listFromJobSchedule(scheduleId)).join() === `${scheduleId}:job-1`);
});
await record("update_job_schedule", async () => {
  await client.jobSchedule.patch(scheduleId, { schedule: { recurrenceInterval: "PT5H" } });
  check((await schedule()).schedule.recurrenceInterval === "PT5H");
});
await record("replace_job_schedule", async () => {
  await client.jobSchedule.update(scheduleId, { schedule: often, jobSpecification });
  check((await schedule()).schedule.recurrenceInterval === "PT2H");
});
await record("disable_job_schedule", async () => {
  await client.jobSchedule.disable(scheduleId);
  check((await schedule()).state === "disabled");
});
await record("enable_job_schedule", async () => {
  await client.jobSchedule.enable(scheduleId);
  check((await schedule()).state === "active");
});
await record("terminate_job_schedule", async () => {
  await client.jobSchedule.terminate(scheduleId);
  await until(async () => (await schedule()).state === "completed");
});
await record("delete_job_schedule", async () => {
  await client.jobSchedule.deleteMethod(scheduleId);
  await until(async () => !ids(await client.jobSchedule.list()).includes(scheduleId));
});

// The end

await record("delete_job", async () => {
  await client.job.deleteMethod(jobId);
  await until(async () => !ids(await client.job.list()).includes(jobId));
});
await record("delete_pool", async () => {
  await client.pool.deleteMethod(poolId);
  await until(async () => !ids(await client.pool.list()).includes(poolId));
});
