// One task: why it failed, what it prints as it comes, its files and how it was asked for.
import { read } from "./api.js";
import { h } from "./dom.js";
import { Viewer } from "./log.js";
import { bytes, clock, count, moment, pill, shortNode, span } from "./words.js";
import { failure, facts, jobLink, poolLink, section } from "./table.js";

const STANDARD = ["stdout.txt", "stderr.txt"];
const OVER = new Set(["succeeded", "failed"]);
const viewer = new Viewer();

/** Milliseconds from the wire's endless times are no use to anybody: those are left out. */
const limit = (text) => (text && !text.startsWith("P10675199D") ? text : null);

function chosenFile(data, query) {
  if (query.file) return query.file;
  const size = (name) => data.files.find((file) => file.name === name)?.size ?? 0;
  return data.state === "failed" && size("stderr.txt") > 0 ? "stderr.txt" : "stdout.txt";
}

function fileTabs(data, query, base) {
  const chosen = chosenFile(data, query);
  const others = data.files.filter((file) => !STANDARD.includes(file.name));
  const link = (name, size) =>
    h(
      "a",
      {
        href: `${base}?file=${encodeURIComponent(name)}`,
        "aria-current": name === chosen ? "true" : null,
        "data-key": name,
      },
      name,
      size !== undefined ? h("span", { class: "muted" }, ` ${bytes(size)}`) : null,
    );
  return h(
    "nav",
    { class: "files", "aria-label": "Files of the task" },
    STANDARD.map((name) => link(name, data.files.find((file) => file.name === name)?.size)),
    others.map((file) => link(file.name, file.size)),
  );
}

function nodeLink(place) {
  const [poolId, nodeId] = place.split("/");
  return [
    h(
      "a",
      { href: `#/pools/${encodeURIComponent(poolId)}?node=${nodeId}`, title: nodeId },
      h("code", {}, shortNode(nodeId)),
    ),
    " of pool ",
    poolLink(poolId),
  ];
}

const list = (items) =>
  items.length
    ? h(
        "ul",
        {},
        items.map((item) => h("li", {}, h("code", { class: "wrap" }, item))),
      )
    : null;

function ending(data) {
  if (data.failure) return failure(data.exit === null ? "Failed" : `Failed with exit code ${data.exit}`, data.failure);
  return null;
}

export const task = {
  section: "jobs",
  up: ([job]) => `#/jobs/${encodeURIComponent(job)}`,
  title: ([job, id]) => `Task ${id} of job ${job}`,
  every: 1000,
  leave: () => viewer.leave(),
  load: ([job, id]) => read(["jobs", job, "tasks", id]),
  draw(data, [job], query) {
    const base = `#/jobs/${encodeURIComponent(job)}/tasks/${encodeURIComponent(data.id)}`;
    return h(
      "div",
      {},
      h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " / ", jobLink(job), " /"),
      h(
        "div",
        { class: "heading" },
        h("h1", {}, data.id, " ", pill(data.state)),
        OVER.has(data.state)
          ? null
          : h(
              "button",
              { type: "button", class: "danger", "data-do": "end-task", "data-job": job, "data-task": data.id },
              "Cancel task",
            ),
      ),
      data.name ? h("p", { class: "muted" }, data.name) : null,
      ending(data),
      h("pre", { class: "code" }, data.command),
      facts([
        ["Exit code", data.exit === null ? null : String(data.exit)],
        [
          "Started",
          data.started ? h("time", { datetime: new Date(data.started).toISOString() }, clock(data.started)) : null,
        ],
        ["Took", data.started ? span((data.ended ?? Date.now()) - data.started) : null],
        ["Added", moment(data.created)],
        ["Retries", data.retries ? count(data.retries) : null],
        ["Put back in the queue", data.requeues ? `${count(data.requeues)} times` : null],
        ["Node", data.node ? nodeLink(data.node) : null],
      ]),
      section(
        "Output",
        fileTabs(data, query, base),
        viewer.show(["jobs", job, "tasks", data.id], chosenFile(data, query), OVER.has(data.state)),
      ),
      section(
        "Settings",
        facts([
          ["Slots", count(data.slots)],
          ["Waits for", data.needs.join(", ")],
          ["Time limit", limit(data.constraints.maxWallClockTime)],
          ["Retries allowed", count(data.constraints.maxTaskRetryCount)],
          ["Container", data.container],
          ["Nodes at once", data.instances],
          [
            "Environment",
            data.environment.length ? data.environment.map((name) => h("code", { class: "chip" }, name)) : null,
          ],
          ["Resource files", list(data.resources)],
          ["Uploads afterwards", list(data.outputs)],
        ]),
      ),
    );
  },
};
