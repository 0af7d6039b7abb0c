// How often the API is asked, and what it refused.
import { read } from "./api.js";
import { h } from "./dom.js";
import { rate } from "./draw.js";
import { count, time } from "./words.js";
import { section, table } from "./table.js";

const refusals = (list) =>
  table(
    "Refused requests",
    [["Time"], ["Status", "number"], ["Code"], ["Request", "wide"]],
    list.map((each, index) => ({
      key: `${each.time} ${index - list.length}`,
      cells: [
        time(each.time),
        h("span", { class: each.status >= 500 ? "bad" : "" }, each.status),
        h("strong", {}, each.code),
        h("code", { class: "wrap" }, `${each.method} ${each.path}`),
      ],
    })),
  );

export const requests = {
  section: "requests",
  title: () => "Requests",
  every: 1000,
  load: () => read(["traffic"]),
  draw: (data) =>
    h(
      "div",
      {},
      h("h1", {}, "Requests ", h("span", { class: "muted" }, `${count(data.total)} since the start`)),
      h("div", { class: "card" }, rate(data, { height: 120 })),
      section(
        "Refused lately",
        h(
          "p",
          { class: "note" },
          "Answers of 400 and above. Asking whether something exists is answered 404 by design.",
        ),
        data.refusals.length ? refusals(data.refusals) : h("p", { class: "muted" }, "None."),
      ),
    ),
};
