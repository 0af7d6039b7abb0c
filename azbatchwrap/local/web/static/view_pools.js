// The list of pools, and one pool with the map of its nodes.
import { read } from "./api.js";
import { h } from "./dom.js";
import { stack } from "./draw.js";
import { filters } from "./filters.js";
import { Viewer } from "./log.js";
import { count, moment, pill, plural, shortNode, span, stateWord, tone } from "./words.js";
import { failure, facts, nothing, poolLink, section, table, taskLink } from "./table.js";
import { jobTable } from "./view_jobs.js";

const MOST_CELLS = 16;

export const nodeWords = (nodes) =>
  Object.entries(nodes)
    .sort()
    .map(([state, number]) => h("span", { class: `pill ${tone(state)}` }, `${count(number)} ${stateWord(state)}`));

const slotBar = ([used, all]) =>
  h(
    "div",
    { class: "progress" },
    stack(
      [
        ["running", used],
        ["track", all - used],
      ],
      `${used} of ${plural(all, "slot")} in use`,
    ),
    h("span", { class: "note" }, `${count(used)} of ${plural(all, "slot")} in use`),
  );

const target = ([current, wanted]) => (current === wanted ? count(current) : `${count(current)} → ${count(wanted)}`);

export const poolTable = (pools) =>
  table(
    "Pools",
    [["Pool"], ["State"], ["Nodes"], ["Slots", "wide"], ["Dedicated", "number"], ["Spot", "number"], ["Size"]],
    pools.map((pool) => ({
      key: pool.id,
      cells: [
        poolLink(pool.id),
        [
          pill(pool.state === "active" ? pool.allocation : pool.state),
          pool.errors ? h("span", { class: "pill bad" }, "resize failed") : null,
          pool.autoscale ? h("span", { class: "pill calm" }, "autoscale") : null,
        ],
        nodeWords(pool.nodes),
        slotBar(pool.slots),
        target(pool.dedicated),
        target(pool.spot),
        pool.size,
      ],
    })),
  );

export const pools = {
  section: "pools",
  title: () => "Pools",
  every: 2000,
  load: () => read(["overview"]),
  draw: (data) =>
    h(
      "div",
      {},
      h("h1", {}, "Pools"),
      data.pools.length
        ? poolTable(data.pools)
        : nothing("No pools yet", "The first run makes one:", "azbatchwrap run task.json"),
    ),
};

const shape = (node, slots) =>
  slots > MOST_CELLS || slots < 1
    ? stack(
        [
          ["running", node.used],
          ["track", slots - node.used],
        ],
        "",
      )
    : h("span", { class: "cells" }, cellsOf(node, slots));

function cellsOf(node, slots) {
  const kinds = node.runs.flatMap((run) => Array(run.slots).fill(run.state === "running" ? "running" : "preparing"));
  return Array.from({ length: slots }, (_, index) => h("i", { class: kinds[index] ?? "free" }));
}

/** The address of this pool with what is asked of it; what is empty is left out. */
function placeOf(pool, query) {
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/pools/${encodeURIComponent(pool.id)}${words.size ? `?${words}` : ""}`;
}

function tileOf(pool, node, query) {
  const isChosen = node.id === query.node;
  const trouble = node.errors.length || node.failure ? ", with errors" : "";
  const words = `Node ${shortNode(node.id)}: ${stateWord(node.state)}${trouble}, ${node.used} of ${pool.slotsPerNode} slots in use${node.spot ? ", spot" : ""}`;
  return h(
    "a",
    {
      class: `node ${tone(node.state)}`,
      "data-key": node.id,
      "aria-label": words,
      title: words,
      "aria-current": isChosen ? "true" : null,
      href: placeOf(pool, { ...query, node: isChosen ? "" : node.id }),
    },
    h(
      "span",
      { class: "name" },
      shortNode(node.id),
      tone(node.state) === "bad" ? h("b", {}, "!") : null,
      node.spot ? h("small", {}, "spot") : null,
    ),
    shape(node, pool.slotsPerNode),
  );
}

const nodeFilters = (pool, query) =>
  filters(
    "Filter nodes",
    query,
    Object.entries(pool.nodes)
      .sort()
      .map(([state, number]) => [state, `${stateWord(state)} (${count(number)})`]),
  );

/** Ids are known by their beginning as it is drawn; whole ones do as well. */
const isLike = (node, { state, prefix = "" }) =>
  (!state || node.state === state) && [node.id, shortNode(node.id)].some((id) => id.startsWith(prefix));

const legend = () =>
  h(
    "p",
    { class: "legend note" },
    [
      ["running", "runs a task"],
      ["preparing", "is about to"],
      ["free", "free slot"],
    ].map(([kind, name]) => h("span", {}, h("i", { class: kind }), name)),
  );

const viewer = new Viewer();

/** What a node's start task wrote; the last words of one that failed say why. */
function startOutput(poolId, node) {
  const file = node.failure ? "startup/stderr.txt" : "startup/stdout.txt";
  return [
    h("p", { class: "note" }, `${file}:`),
    viewer.show(["pools", poolId, "nodes", node.id], file, node.state !== "waitingforstarttask"),
  ];
}

function nodeDetail(node, { id, slotsPerNode: slots, startTask }) {
  return h(
    "div",
    { class: "card", "data-key": `detail-${node.id}` },
    h("h3", {}, "Node ", h("code", {}, node.id), " ", pill(node.state)),
    facts([
      ["In this state", ["since ", moment(node.since)]],
      ["Kind", node.spot ? "spot" : "dedicated"],
      ["Slots", `${node.used} of ${slots} in use`],
      ["Tasks so far", `${count(node.done[1])}, ${count(node.done[0])} of them succeeded`],
      ["Runs now", node.runs.map((run, index) => [index ? ", " : "", taskLink(run.job, run.task)])],
    ]),
    node.failure ? failure("Its start task failed", node.failure) : null,
    node.errors.map((error) => failure("Error", error)),
    startTask ? startOutput(id, node) : null,
  );
}

const runTable = (runs) =>
  table(
    "Runs of the autoscale formula",
    [["When"], ["Result"]],
    runs.map((run) => ({
      key: run.timestamp,
      cells: [
        moment(Date.parse(run.timestamp)),
        run.error
          ? [
              h("span", { class: "pill bad" }, run.error.code),
              " ",
              run.error.message,
              " ",
              (run.error.values ?? []).map(({ value }) => value).join(" "),
            ]
          : h("code", { class: "wrap" }, (run.results ?? "").replaceAll(";", "; ")),
      ],
    })),
  );

const troubled = (map) => map.filter((node) => node.failure || node.errors.length);

export const pool = {
  section: "pools",
  up: "#/pools",
  title: ([id]) => `Pool ${id}`,
  every: 1000,
  leave: () => viewer.leave(),
  load: ([id]) => read(["pools", id]),
  draw(data, _parts, query) {
    const chosen = data.map.find((node) => node.id === query.node);
    const bad = troubled(data.map);
    const shown = data.map.filter((node) => isLike(node, query));
    const total = Object.values(data.nodes).reduce((sum, number) => sum + number, 0);
    const image = [data.image.publisher, data.image.offer, data.image.sku].filter(Boolean).join(" · ");
    return h(
      "div",
      {},
      h("p", { class: "crumbs" }, h("a", { href: "#/pools" }, "Pools"), " /"),
      h("h1", {}, data.id, " ", pill(data.state === "active" ? data.allocation : data.state)),
      data.resizeErrors.map((error) => failure("Resize", error)),
      data.warning ? failure("Auto-users", { code: "admin and non-admin are mixed", message: data.warning }) : null,
      section(
        "Nodes",
        data.map.length || query.state || query.prefix ? nodeFilters(data, query) : null,
        shown.length
          ? h(
              "div",
              { class: "map", "data-roving": true },
              shown.map((node) => tileOf(data, node, query)),
            )
          : h("p", { class: "muted" }, data.map.length ? "No node is like this." : "This pool has no nodes."),
        data.map.length ? legend() : null,
        total > data.map.length
          ? h("p", { class: "note" }, `The first ${count(data.map.length)} of ${count(total)} nodes are drawn.`)
          : null,
        chosen ? nodeDetail(chosen, data) : null,
        !chosen && bad.length ? nodeDetail(bad[0], data) : null,
      ),
      data.formula
        ? section(
            "Autoscale",
            h("pre", { class: "code" }, data.formula),
            data.runs.length ? runTable(data.runs) : h("p", { class: "muted" }, "It has not run yet."),
          )
        : null,
      section("Jobs", data.jobs.length ? jobTable(data.jobs) : h("p", { class: "muted" }, "No job uses this pool.")),
      section(
        "Settings",
        facts([
          ["Nodes", [nodeWords(data.nodes)]],
          ["Dedicated", target(data.dedicated)],
          ["Spot", target(data.spot)],
          ["Slots per node", count(data.slotsPerNode)],
          ["Tasks are placed to", data.fill.toLowerCase() === "pack" ? "fill nodes up" : "spread over nodes"],
          ["Size", data.size],
          ["Image", image],
          ["Start task", data.startTask ? h("code", { class: "wrap" }, data.startTask) : null],
          ["Made for", data.owner],
          ["Created", moment(data.created)],
          ["Allocation as it is", ["for ", span(Date.now() - data.since)]],
        ]),
      ),
    );
  },
};
