// What is looked for in a list, alike everywhere, and the way through its pages.
import { h } from "./dom.js";

/** A field whose `name` is that of the address's query. */
export const field = (label, name, query, attributes) =>
  h(
    "label",
    {},
    label,
    h("input", {
      type: "search",
      name,
      value: query[name] ?? "",
      autocomplete: "off",
      spellcheck: "false",
      ...attributes,
    }),
  );

/** By the beginning of an id, and by state; states: [[state, word]]. */
export const filters = (title, query, states, ...more) =>
  h(
    "form",
    { class: "filters", role: "search", "aria-label": title },
    field("Id begins with ", "prefix", query),
    h(
      "label",
      {},
      "State ",
      h(
        "select",
        { name: "state" },
        h("option", { value: "" }, "all"),
        states.map(([state, word]) => h("option", { value: state, selected: query.state === state }, word)),
      ),
    ),
    more,
  );

export const pager = (query, next, name) =>
  query.after || next
    ? h(
        "p",
        { class: "pager" },
        query.after ? h("button", { type: "button", "data-do": "first" }, "To the first") : null,
        next ? h("button", { type: "button", "data-after": next }, `More ${name}`) : null,
      )
    : null;
