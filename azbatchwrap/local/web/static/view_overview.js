// The account at a glance.
import { read } from "./api.js";
import { h } from "./dom.js";
import { rate } from "./draw.js";
import { count, plural } from "./words.js";
import { nothing, section, tile } from "./table.js";
import { poolTable } from "./view_pools.js";
import { jobTable } from "./view_jobs.js";

const JOBS = 8;
const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);

function requestTile(traffic) {
  const perSecond = sum(traffic.requests.slice(-10)) / 10;
  const refusals = sum(traffic.failed.slice(-60));
  return h(
    "div",
    { class: "tile broad", "data-key": "Requests" },
    h("h3", {}, h("a", { href: "#/requests" }, "Requests")),
    h(
      "p",
      { class: "figure" },
      perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1),
      h("small", {}, " / s"),
    ),
    rate(traffic, { seconds: 60, height: 28, label: false }),
    h(
      "p",
      { class: "note" },
      refusals
        ? h("span", { class: "bad" }, `${plural(refusals, "refusal")} in the last minute`)
        : "none refused in the last minute",
    ),
  );
}

function tiles(data) {
  const nodes = sum(data.pools.map((pool) => sum(Object.values(pool.nodes))));
  const slots = sum(data.pools.map((pool) => pool.slots[1]));
  const { tasks, processes } = data;
  return h(
    "div",
    { class: "tiles" },
    tile(
      "Running",
      count(tasks.running + tasks.preparing),
      `at most ${plural(processes.most, "process", "processes")} at once`,
    ),
    tile(
      "Waiting",
      count(tasks.waiting),
      tasks.blocked ? `${count(tasks.blocked)} more for other tasks` : "for a free slot",
    ),
    tile("Succeeded", count(tasks.succeeded), "tasks of the jobs that are kept"),
    tile("Failed", count(tasks.failed), tasks.failed ? "look at their jobs" : "none", tasks.failed ? "bad" : ""),
    tile("Nodes", count(nodes), plural(slots, "slot")),
    requestTile(data.traffic),
  );
}

export const overview = {
  section: "overview",
  title: () => "Overview",
  every: 1000,
  async load() {
    const [account, list] = await Promise.all([read(["overview"]), read(["jobs"])]);
    return { ...account, list };
  },
  draw(data) {
    const isEmpty = !data.pools.length && !data.list.jobs.length;
    return h(
      "div",
      {},
      h("h1", {}, "Overview"),
      data.isDiskFull
        ? h(
            "div",
            { class: "failure", role: "alert" },
            h("h3", {}, "The disk is full"),
            h("p", {}, "New work is refused until there is room in the data folder."),
          )
        : null,
      tiles(data),
      isEmpty
        ? nothing(
            "Nothing runs here yet",
            "A folder with an example, and its run:",
            "azbatchwrap init example && cd example\nazbatchwrap run task.json",
          )
        : [
            section(
              "Pools",
              data.pools.length ? poolTable(data.pools) : h("p", { class: "muted" }, "There are no pools."),
            ),
            section(
              "Latest jobs",
              data.list.jobs.length
                ? jobTable(data.list.jobs.slice(0, JOBS))
                : h("p", { class: "muted" }, "There are no jobs."),
              data.list.total > JOBS
                ? h("p", {}, h("a", { href: "#/jobs" }, `All ${count(data.list.total)} jobs`))
                : null,
            ),
          ],
    );
  },
};
