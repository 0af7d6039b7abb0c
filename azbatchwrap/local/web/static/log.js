// The end of a file as it grows.
import { h } from "./dom.js";
import { readPiece } from "./api.js";
import { bytes } from "./words.js";

/** Characters kept on the page, and milliseconds between looks at a file that grows. */
const KEPT = 400_000;
const PAUSE = 1000;

export class LiveFile {
  /** place: the address of what the file belongs to, a task or a node. */
  constructor(place, file) {
    this.place = [...place, "output"];
    this.file = file;
    this.next = undefined;
    this.decoder = new TextDecoder();
    this.isOver = false;
    this.isClosed = false;
    this.text = h("pre", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": file });
    this.note = h("p", { class: "note", role: "status" });
    this.element = h("div", { "data-kept": true }, this.text, this.note);
    this.follow();
  }

  async follow() {
    while (!this.isClosed) {
      const wasOver = this.isOver;
      let more = false;
      try {
        more = await this.look();
      } catch (problem) {
        this.note.textContent =
          problem.code === "OperationInvalidForCurrentState"
            ? "The task has not started: it has printed nothing yet."
            : problem.message;
        if (problem.status === 401) return;
      }
      if (wasOver && !more) return;
      if (!more) await new Promise((resume) => setTimeout(resume, PAUSE));
    }
  }

  /** Shows what is new; whether there is more at once. */
  async look() {
    const { bytes: fresh, from, size } = await readPiece(this.place, { file: this.file, from: this.next });
    if (this.isClosed) return false;
    if (this.next === undefined || from < this.next) {
      this.decoder = new TextDecoder();
      this.text.textContent = from > 0 ? "… (the beginning is left out)\n" : "";
    }
    const isAtEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 40;
    if (fresh.length) {
      this.text.append(this.decoder.decode(fresh, { stream: true }));
      this.shorten();
    }
    this.next = from + fresh.length;
    this.note.textContent = size
      ? `${bytes(size)}${this.isOver ? "" : ", as it comes"}`
      : `Nothing${this.isOver ? "" : " yet"}.`;
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
    return this.next < size;
  }

  shorten() {
    const text = this.text.textContent;
    if (text.length > KEPT)
      this.text.textContent = `… (the beginning is left out)\n${text.slice(text.indexOf("\n", text.length - KEPT / 2) + 1)}`;
  }

  close() {
    this.isClosed = true;
  }
}

/** Keeps one file in view over redraws: the same file keeps its element, another one replaces it. */
export class Viewer {
  shown = null;

  show(place, file, isOver) {
    const name = [...place, file].join("/");
    if (this.shown?.name !== name) {
      this.leave();
      this.shown = { name, file: new LiveFile(place, file) };
      this.shown.file.element.dataset.key = name;
    }
    const { file: live } = this.shown;
    live.isOver = isOver;
    return live.element.isConnected ? h("div", { "data-key": name, "data-kept": true }) : live.element;
  }

  leave() {
    this.shown?.file.close();
    this.shown = null;
  }
}
