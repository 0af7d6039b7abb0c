// Finds the view that the address names, keeps it up to date, and listens to keys and clicks.
import { act } from "./api.js";
import { h, patch } from "./dom.js";
import { job } from "./view_job.js";
import { jobs } from "./view_jobs.js";
import { overview } from "./view_overview.js";
import { pool, pools } from "./view_pools.js";
import { requests } from "./view_requests.js";
import { task } from "./view_task.js";

const ROUTES = [
  [/^$/, overview],
  [/^pools$/, pools],
  [/^pools\/([^/]+)$/, pool],
  [/^jobs$/, jobs],
  [/^jobs\/([^/]+)$/, job],
  [/^jobs\/([^/]+)\/tasks\/([^/]+)$/, task],
  [/^requests$/, requests],
];
/** Milliseconds: between looks while the service does not answer, and after the last key in a filter. */
const RETRY = 2000;
const SETTLE = 250;

const main = document.getElementById("view");
const linkState = document.getElementById("link-state");
let current = null;
let turn = 0;
let timer = 0;

function whereWeAre() {
  const [path, words] = location.hash.replace(/^#\/?/, "").split("?");
  const query = Object.fromEntries(new URLSearchParams(words ?? ""));
  for (const [pattern, view] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return { view, parts: match.slice(1).map(decodeURIComponent), query, path };
  }
  return { view: overview, parts: [], query: {}, path: "" };
}

/** Another address: the view is drawn anew, or the same one asked another question. */
async function go() {
  const next = whereWeAre();
  const isNew = next.path !== current?.path;
  if (isNew) current?.view.leave?.();
  current = next;
  const title = next.view.title(next.parts);
  document.title = `${title} · azbatchwrap`;
  main.setAttribute("aria-label", title);
  for (const link of document.querySelectorAll("[data-section]")) {
    if (link.dataset.section === next.view.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await look(isNew);
}

async function look(isNew = false) {
  const mine = ++turn;
  clearTimeout(timer);
  const { view, parts, query } = current;
  let pause = view.every;
  try {
    const data = await view.load(parts, query);
    if (mine !== turn) return;
    show(view.draw(data, parts, query), isNew);
    linkState.textContent = "";
    linkState.className = "";
    if (data.account) document.getElementById("account").textContent = data.account;
  } catch (problem) {
    if (mine !== turn) return;
    if (problem.status === 401) return location.reload();
    pause = RETRY;
    tell(problem, isNew);
  }
  timer = setTimeout(look, document.hidden ? pause * 10 : pause);
}

function show(fresh, isNew) {
  const live = main.firstElementChild;
  if (live && !isNew) return patch(live, fresh);
  main.replaceChildren(fresh);
  if (document.activeElement === document.body || !document.activeElement?.closest("header"))
    main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function tell(problem, isNew) {
  if (problem.status >= 400 && problem.status < 500) {
    show(
      h(
        "div",
        { class: "nothing" },
        h("h1", {}, problem.code),
        h("p", {}, problem.message),
        h("p", {}, h("a", { href: "#/" }, "To the overview")),
      ),
      isNew,
    );
  }
  linkState.className = "bad";
  linkState.textContent =
    problem.status === 0
      ? "The service does not answer: what you see is old."
      : problem.status
        ? problem.message
        : String(problem);
}

// --- filters and pages

function ask(changes, { replace = false } = {}) {
  const query = { ...current.query, ...changes };
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const target = `#/${current.path}${words.size ? `?${words}` : ""}`;
  if (!replace) location.hash = target;
  else {
    history.replaceState(null, "", target);
    go();
  }
}

/** To another page of a list, seen from its top. */
function turnTo(after) {
  ask({ after });
  main.querySelector("form.filters")?.scrollIntoView({ block: "center" });
}

let settling = 0;
main.addEventListener("input", (event) => {
  const { name, value } = event.target;
  if (!event.target.closest("form.filters")) return;
  clearTimeout(settling);
  settling = setTimeout(
    () => ask({ [name]: value.trim(), after: "" }, { replace: true }),
    event.target.nodeName === "SELECT" ? 0 : SETTLE,
  );
});
main.addEventListener("submit", (event) => event.preventDefault());

// --- clicks

const ACTIONS = {
  help: () => document.getElementById("help").showModal(),
  first: () => turnTo(""),
  leave: () => act(["leave"]).then(() => location.replace("/ui/"), tell),
  "end-job": ({ job: id }) =>
    confirmAndDo(
      `Terminate job ${id}?`,
      "Its running tasks are killed, and waiting ones will not run. This cannot be undone.",
      "Terminate job",
      ["jobs", id, "terminate"],
    ),
  "end-task": ({ job: id, task: name }) =>
    confirmAndDo(`Cancel task ${name}?`, "If it runs it is killed; it counts as failed.", "Cancel task", [
      "jobs",
      id,
      "tasks",
      name,
      "terminate",
    ]),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do], [data-after], [data-href]");
  if (!button) return;
  if (button.dataset.do) ACTIONS[button.dataset.do](button.dataset);
  else if (button.dataset.after) turnTo(button.dataset.after);
  else location.hash = button.dataset.href;
});

function confirmAndDo(title, text, verb, place) {
  const dialog = document.getElementById("confirm");
  const error = document.getElementById("confirm-error");
  const yes = document.getElementById("confirm-yes");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  error.textContent = "";
  yes.textContent = verb;
  yes.onclick = async () => {
    yes.disabled = true;
    try {
      await act(place);
      dialog.close();
      look();
    } catch (problem) {
      error.textContent = problem.message;
    } finally {
      yes.disabled = false;
    }
  };
  dialog.showModal();
}

// --- keys

const SECTIONS = { o: "#/", p: "#/pools", j: "#/jobs", r: "#/requests" };
let afterG = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) return;
  if (event.key.startsWith("Arrow") && event.target.closest("[data-roving]")) return rove(event);
  const wasG = afterG;
  afterG = event.key === "g";
  if (wasG && SECTIONS[event.key]) location.hash = SECTIONS[event.key];
  else if (KEYS[event.key]) KEYS[event.key](event);
});

const KEYS = {
  "?": () => ACTIONS.help(),
  "/": (event) => focusOn(main.querySelector("form.filters input"), event),
  u: () => {
    const { up } = current.view;
    if (up) location.hash = typeof up === "function" ? up(current.parts) : up;
  },
  j: (event) => step(1, event),
  k: (event) => step(-1, event),
};

function focusOn(element, event) {
  if (!element) return;
  event.preventDefault();
  element.focus();
}

/** To the next or previous row of the tables, by its first link. */
function step(by, event) {
  const links = [...main.querySelectorAll("tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);
  const row = document.activeElement?.closest("tr");
  const at = row ? links.findIndex((link) => row.contains(link)) : by > 0 ? -1 : links.length;
  focusOn(links[Math.min(Math.max(at + by, 0), links.length - 1)], event);
}

/** On a map: left and right by one, up and down to what lies nearest in the next row. */
function rove(event) {
  const items = [...event.target.closest("[data-roving]").children];
  const here = items.indexOf(event.target);
  const perRow = Math.max(
    1,
    items.findIndex((item) => item.offsetTop !== items[0].offsetTop),
  );
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow }[event.key];
  focusOn(items[here + by], event);
}

// --- beginning

if (location.hash.startsWith("#enter=")) {
  // Already in, and come by a link: it is used up like any other, and renews the stay.
  const secret = location.hash.slice("#enter=".length);
  history.replaceState(null, "", "/ui/");
  act(["enter"], secret).catch(() => {});
}
addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => document.hidden || look());
go();
