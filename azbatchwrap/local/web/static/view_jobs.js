// The list of jobs.
import { read } from "./api.js";
import { h } from "./dom.js";
import { progress } from "./draw.js";
import { filters, pager } from "./filters.js";
import { count, moment, pill, span } from "./words.js";
import { jobLink, nothing, poolLink, table } from "./table.js";

const STATES = ["active", "completed", "disabled", "terminating", "deleting"];

export const jobTable = (jobs) =>
  table(
    "Jobs",
    [["Job"], ["State"], ["Tasks", "wide"], ["Pool"], ["Started"], ["Took", "number"]],
    jobs.map((job) => ({
      key: job.id,
      cells: [
        [jobLink(job.id), job.name ? h("span", { class: "note block" }, job.name) : null],
        pill(job.state),
        progress(job.counts),
        poolLink(job.pool),
        moment(job.started),
        job.ended ? span(job.ended - job.started) : h("span", { class: "muted" }, span(Date.now() - job.started)),
      ],
    })),
  );

export const jobs = {
  section: "jobs",
  title: () => "Jobs",
  every: 2000,
  load: (_parts, query) => read(["jobs"], query),
  draw(data, _parts, query) {
    const isFiltered = query.state || query.prefix || query.after;
    return h(
      "div",
      {},
      h("h1", {}, "Jobs ", h("span", { class: "muted" }, count(data.total))),
      filters(
        "Filter jobs",
        query,
        STATES.map((state) => [state, state]),
      ),
      data.jobs.length
        ? jobTable(data.jobs)
        : isFiltered
          ? h("p", { class: "muted" }, "No job is like this.")
          : nothing(
              "No jobs yet",
              "A folder with an example, and its run:",
              "azbatchwrap init example && cd example\nazbatchwrap run task.json",
            ),
      pager(query, data.next, "jobs"),
    );
  },
};
