// Pictures: stacked bars, the rate of requests, the timeline of nodes. All are described in words beside or within.
import { h, s } from "./dom.js";
import { count, plural, shortNode, span, time } from "./words.js";

const TASK_STATES = ["succeeded", "failed", "running", "preparing", "waiting", "blocked"];

/** parts: [[class, number, name]]; the bar is as wide as its column. */
export function stack(parts, label) {
  const total = parts.reduce((sum, [, number]) => sum + number, 0);
  let x = 0;
  const pieces = parts
    .filter(([, number]) => number > 0)
    .map(([kind, number]) => {
      const width = (number / total) * 1000;
      const piece = s("rect", { class: kind, x: x.toFixed(1), y: 0, width: Math.max(width, 3).toFixed(1), height: 10 });
      x += width;
      return piece;
    });
  return s(
    "svg",
    { class: "stack", viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "track", x: 0, y: 0, width: 1000, height: 10 }),
    pieces,
  );
}

export function progress(counts) {
  const total = TASK_STATES.reduce((sum, state) => sum + counts[state], 0);
  const over = counts.succeeded + counts.failed;
  const label = total ? `${count(over)} of ${plural(total, "task")} done` : "no tasks";
  return h(
    "div",
    { class: "progress" },
    stack(
      TASK_STATES.map((state) => [state, counts[state]]),
      label,
    ),
    h(
      "span",
      { class: "note" },
      label,
      counts.failed ? h("span", { class: "bad" }, ` · ${count(counts.failed)} failed`) : null,
      counts.running ? ` · ${count(counts.running)} running` : null,
    ),
  );
}

/** Requests of every second, refusals on top in another colour. */
export function rate(traffic, { seconds = 119, height = 40, label = true } = {}) {
  const requests = traffic.requests.slice(-seconds);
  const failed = traffic.failed.slice(-seconds);
  const most = Math.max(5, ...requests);
  const bars = requests.flatMap((number, index) => {
    if (!number) return [];
    const tall = (number / most) * height;
    const red = (failed[index] / most) * height;
    return [
      s("rect", {
        class: "running",
        x: index * 4,
        y: (height - tall).toFixed(1),
        width: 3,
        height: (tall - red).toFixed(1),
      }),
      failed[index]
        ? s("rect", { class: "failed", x: index * 4, y: (height - red).toFixed(1), width: 3, height: red.toFixed(1) })
        : null,
    ];
  });
  const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);
  const words =
    `${plural(sum(requests), "request")} and ${plural(sum(failed), "refusal")} in ${seconds} seconds; ` +
    `at most ${most} in one second`;
  const picture = s(
    "svg",
    {
      class: "rate",
      viewBox: `0 0 ${seconds * 4} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": words,
    },
    s("rect", { class: "track", x: 0, y: height - 1, width: seconds * 4, height: 1 }),
    bars,
  );
  return label ? h("figure", {}, picture, h("figcaption", { class: "note" }, words)) : picture;
}

const MOST_NODES = 40;

/** bars: [task, node, start, end or null, state]; overlapping ones of a node lie in lanes. */
export function timeline(jobId, bars, now) {
  if (!bars.length) return h("p", { class: "muted" }, "No task has run yet.");
  const first = Math.min(...bars.map((bar) => bar[2]));
  const last = Math.max(...bars.map((bar) => bar[3] ?? now), first + 1000);
  const nodes = new Map();
  for (const bar of [...bars].sort((one, other) => one[2] - other[2])) {
    if (!nodes.has(bar[1])) nodes.set(bar[1], []);
    place(nodes.get(bar[1]), bar, now);
  }
  const shown = [...nodes].sort(([one], [other]) => one.localeCompare(other)).slice(0, MOST_NODES);
  const words = `${plural(bars.length, "task")} on ${plural(nodes.size, "node")} within ${span(last - first)}`;
  return h(
    "figure",
    { class: "timeline" },
    h(
      "div",
      { class: "rows", tabindex: "0", role: "region", "aria-label": "Timeline" },
      h(
        "div",
        { role: "img", "aria-label": `${words}. The list of tasks has the same in words.` },
        shown.map(([node, lanes]) => row(jobId, node, lanes, { first, last, now })),
      ),
    ),
    h(
      "div",
      { class: "axis", "aria-hidden": "true" },
      h("span", {}, time(first)),
      h("span", {}, time((first + last) / 2)),
      h("span", {}, time(last)),
    ),
    h(
      "figcaption",
      { class: "note" },
      words,
      nodes.size > MOST_NODES ? `; the first ${MOST_NODES} nodes are drawn` : "",
      ".",
    ),
  );
}

function place(lanes, bar, now) {
  const lane = lanes.find((taken) => (taken[taken.length - 1][3] ?? now) <= bar[2]);
  if (lane) lane.push(bar);
  else lanes.push([bar]);
}

function row(jobId, node, lanes, { first, last, now }) {
  const scale = 1000 / (last - first);
  const tall = lanes.length > 8 ? 5 : 10;
  return h(
    "div",
    { class: "node-row", "data-key": node },
    h("code", { title: node }, shortNode(node)),
    s(
      "svg",
      {
        viewBox: `0 0 1000 ${lanes.length * (tall + 2)}`,
        preserveAspectRatio: "none",
        height: lanes.length * (tall + 2),
      },
      lanes.flatMap((lane, index) =>
        lane.map(([task, , start, end, state]) =>
          s(
            "rect",
            {
              class: state,
              x: ((start - first) * scale).toFixed(2),
              y: index * (tall + 2) + 1,
              height: tall,
              rx: 1,
              width: Math.max(((end ?? now) - start) * scale - 0.6, 3).toFixed(2),
              "data-href": `#/jobs/${encodeURIComponent(jobId)}/tasks/${encodeURIComponent(task)}`,
            },
            s("title", {}, `${task}: ${state}, ${span((end ?? now) - start)}`),
          ),
        ),
      ),
    ),
  );
}
