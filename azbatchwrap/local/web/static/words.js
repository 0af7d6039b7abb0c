// Numbers, times and states as people read them.
import { h } from "./dom.js";

const COUNT = new Intl.NumberFormat();
const CLOCK = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const count = (number) => COUNT.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Milliseconds as "1.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export function span(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Moments in milliseconds since 1970; the exact time is told on hover and to screen readers that ask. */
export function moment(ms, now = Date.now()) {
  if (!ms) return "–";
  const passed = now - ms;
  const text =
    passed < 5000 ? "just now" : passed < 60_000 ? `${Math.floor(passed / 1000)} s ago` : `${coarse(passed)} ago`;
  return h("time", { datetime: new Date(ms).toISOString(), title: CLOCK.format(ms) }, text);
}

function coarse(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? plural(hours, "hour") : plural(Math.floor(hours / 24), "day");
}

export const clock = (ms) => (ms ? CLOCK.format(ms) : "–");
export const time = (ms) => new Date(ms).toLocaleTimeString();

export function bytes(number) {
  if (number < 1024) return `${number} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let size = number;
  let unit = -1;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(1)} ${units[unit]}`;
}

/** The part of a node's long id that tells it from others. */
export const shortNode = (id) =>
  id
    .replace(/^.*\//, "")
    .replace(/^tvmps_/, "")
    .slice(0, 6);

// How each state of the service looks: its tone, and its word where the service's own is none.
const STATES = {
  active: ["run", "active"],
  running: ["run", "running"],
  preparing: ["run", "preparing"],
  waiting: ["wait", "waiting"],
  blocked: ["wait", "blocked"],
  idle: ["calm", "idle"],
  steady: ["calm", "steady"],
  succeeded: ["good", "succeeded"],
  completed: ["good", "completed"],
  failed: ["bad", "failed"],
  starting: ["wait", "starting"],
  waitingforstarttask: ["wait", "start task runs"],
  rebooting: ["wait", "rebooting"],
  reimaging: ["wait", "reimaging"],
  leavingpool: ["wait", "leaving"],
  offline: ["warn", "takes no tasks"],
  starttaskfailed: ["bad", "start task failed"],
  unusable: ["bad", "unusable"],
  preempted: ["warn", "preempted"],
  resizing: ["run", "resizing"],
  stopping: ["warn", "stopping"],
  deleting: ["warn", "deleting"],
  terminating: ["warn", "terminating"],
  disabled: ["warn", "disabled"],
  disabling: ["warn", "disabling"],
  enabling: ["wait", "enabling"],
};
export const tone = (state) => STATES[state]?.[0] ?? "calm";
export const stateWord = (state) => STATES[state]?.[1] ?? state;
export const pill = (state) => h("span", { class: `pill ${tone(state)}` }, stateWord(state));
