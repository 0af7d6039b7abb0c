// One job: its progress, why tasks failed, the timeline of its nodes, and the list of its tasks.
import { read } from "./api.js";
import { h } from "./dom.js";
import { progress, timeline } from "./draw.js";
import { field, filters, pager } from "./filters.js";
import { count, moment, pill, plural, shortNode, span } from "./words.js";
import { failure, facts, poolLink, section, table, taskLink, tile } from "./table.js";

const STATES = ["waiting", "blocked", "preparing", "running", "succeeded", "failed"];
const OVER = new Set(["completed", "terminating", "deleting"]);

export const reason = (task) =>
  task.failure
    ? [h("strong", {}, task.failure.code), " ", h("span", { class: "muted" }, task.failure.message ?? "")]
    : "";

function took(task) {
  if (!task.started) return "";
  return span((task.ended ?? Date.now()) - task.started);
}

/** Leads to the tasks of the same node. */
const nodeCell = (id, node) =>
  h(
    "a",
    { title: node, href: `#/jobs/${encodeURIComponent(id)}?node=${encodeURIComponent(node.split("/").pop())}` },
    h("code", {}, shortNode(node)),
  );

const taskTable = (job, tasks) =>
  table(
    "Tasks",
    [["Task"], ["State"], ["Exit", "number"], ["Why it failed", "wide"], ["Node"], ["Since"], ["Took", "number"]],
    tasks.map((task) => ({
      key: task.id,
      cells: [
        [taskLink(job.id, task.id), task.name ? h("span", { class: "note block" }, task.name) : null],
        pill(task.state),
        task.exit ?? "",
        reason(task),
        task.node ? nodeCell(job.id, task.node) : "",
        moment(task.since),
        took(task),
      ],
    })),
  );

const reasons = (job) =>
  table(
    "Why tasks failed",
    [["Reason"], ["What it says", "wide"], ["Exit", "number"], ["Tasks", "number"], ["The latest"]],
    job.reasons.map((each) => ({
      key: `${each.code} ${each.exit} ${each.message}`,
      cells: [
        h("strong", {}, each.code),
        each.message,
        each.exit ?? "",
        count(each.count),
        taskLink(job.id, each.task),
      ],
    })),
  );

const taskFilters = (job, query) =>
  filters(
    "Filter tasks",
    query,
    STATES.map((state) => [state, `${state} (${count(job.counts[state])})`]),
    field("Exit code ", "exit", query, { type: "text", inputmode: "numeric", size: "4" }),
    field("Node ", "node", query, { size: "10" }),
  );

const totalOf = (job) => STATES.reduce((sum, state) => sum + job.counts[state], 0);

function tiles(job) {
  const { counts } = job;
  return h(
    "div",
    { class: "tiles" },
    tile(
      "Waiting",
      count(counts.waiting),
      counts.blocked ? `${count(counts.blocked)} more for other tasks` : "for a free slot",
    ),
    tile(
      "Running",
      count(counts.running + counts.preparing),
      counts.preparing ? `${count(counts.preparing)} prepare` : "now",
    ),
    tile("Succeeded", count(counts.succeeded), `of ${plural(totalOf(job), "task")}`),
    tile("Failed", count(counts.failed), counts.failed ? "reasons below" : "none", counts.failed ? "bad" : ""),
  );
}

function troubles(job) {
  return [
    job.schedulingError ? failure("The job cannot be scheduled", job.schedulingError) : null,
    !job.hasPool
      ? h(
          "div",
          { class: "failure" },
          h("h3", {}, "Its pool is gone"),
          h("p", {}, `There is no pool ${job.pool}: nothing of this job runs until there is.`),
        )
      : null,
    job.failedPreparations
      .filter(({ failure: info }) => info)
      .slice(0, 3)
      .map(({ node, failure: info }) => failure(`Preparation failed on node ${shortNode(node)}`, info)),
  ];
}

export const job = {
  section: "jobs",
  up: "#/jobs",
  title: ([id]) => `Job ${id}`,
  every: 1500,
  async load([id], query) {
    const [found, page] = await Promise.all([read(["jobs", id]), read(["jobs", id, "tasks"], query)]);
    return { ...found, page };
  },
  draw(data, _parts, query) {
    const isFiltered = query.state || query.prefix || query.exit || query.node || query.after;
    return h(
      "div",
      {},
      h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " /"),
      h(
        "div",
        { class: "heading" },
        h("h1", {}, data.id, " ", pill(data.state)),
        OVER.has(data.state)
          ? null
          : h(
              "button",
              { type: "button", class: "danger", "data-do": "end-job", "data-job": data.id },
              "Terminate job",
            ),
      ),
      data.name ? h("p", { class: "muted" }, data.name) : null,
      h("div", { class: "wide-progress" }, progress(data.counts)),
      tiles(data),
      troubles(data),
      data.reasons.length ? section("Why tasks failed", reasons(data)) : null,
      section("Timeline", timeline(data.id, data.bars, data.ended ?? Date.now())),
      section(
        "Tasks",
        taskFilters(data, query),
        data.page.tasks.length
          ? taskTable(data, data.page.tasks)
          : h("p", { class: "muted" }, isFiltered ? "No task is like this." : "This job has no tasks yet."),
        pager(query, data.page.next, "tasks"),
      ),
      section(
        "Settings",
        facts([
          ["Pool", poolLink(data.pool)],
          ["Priority", count(data.priority)],
          ["Started", moment(data.started)],
          ["Ended", data.ended ? [moment(data.ended), ` after ${span(data.ended - data.started)}`] : null],
          ["Because of", data.reason],
          ["Made by the schedule", data.schedule],
          ["After the last task", data.whenDone === "terminatejob" ? "it ends" : "it stays open"],
          ["Retries of a task", data.retries < 0 ? "no limit" : count(data.retries)],
          ["Preparation on each node", data.preparation ? h("code", { class: "wrap" }, data.preparation) : null],
          ...data.metadata.map(({ name, value }) => [name, value]),
        ]),
      ),
    );
  },
};
