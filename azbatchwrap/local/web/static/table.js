// Tables, facts and empty states, alike everywhere.
import { h } from "./dom.js";

/** columns: [[title, class?]]; rows: [{key, cells, class?}]. Wide tables scroll within themselves. */
export const table = (caption, columns, rows) =>
  h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(({ key, cells, kind }) =>
          h(
            "tr",
            { "data-key": key, class: kind },
            cells.map((cell, index) => h("td", { class: columns[index][1] }, cell)),
          ),
        ),
      ),
    ),
  );

/** Names and values; pairs whose value is nothing are left out. */
export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs
      .filter(
        ([, value]) =>
          value !== null && value !== undefined && value !== "" && !(Array.isArray(value) && !value.length),
      )
      .map(([name, value]) => h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value))),
  );

export const tile = (name, value, note, kind = "") =>
  h(
    "div",
    { class: `tile ${kind}`, "data-key": name },
    h("h3", {}, name),
    h("p", { class: "figure" }, value),
    h("p", { class: "note" }, note),
  );

export const nothing = (title, text, command) =>
  h(
    "div",
    { class: "nothing" },
    h("h2", {}, title),
    h("p", {}, text),
    command ? h("pre", {}, h("code", {}, command)) : null,
  );

export const section = (title, ...content) => h("section", { "data-key": title }, h("h2", {}, title), content);

export const failure = (title, info) =>
  h(
    "div",
    { class: "failure", role: "group", "aria-label": title },
    h("h3", {}, `${title}: ${info.code}`),
    h("p", {}, info.message ?? ""),
    info.details?.length ? facts(info.details.map(({ name, value }) => [name, value])) : null,
  );

export const jobLink = (id) => h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, id);
export const poolLink = (id) => h("a", { href: `#/pools/${encodeURIComponent(id)}` }, id);
export const taskLink = (job, id) =>
  h("a", { href: `#/jobs/${encodeURIComponent(job)}/tasks/${encodeURIComponent(id)}` }, id);
