/** The table of jobs. Rows are updated in place, so that the focus and open logs stay. */
import { h } from "../lib/dom.js";
import { bytes, dateTime, fill, gettext, percent } from "../lib/i18n.js";
import { post } from "./snapshot-socket.js";
import { at } from "../lib/urls.js";

/**
 * @typedef {import("../lib/wire").JobRow} Job
 */

/** @type {Record<string, () => string>} */
const ACTIONS = {
  pause: () => gettext("Pause"),
  resume: () => gettext("Resume"),
  retry: () => gettext("Try again"),
  cancel: () => gettext("Cancel"),
  default: () => gettext("Make this the default"),
  remove: () => gettext("Remove"),
};
const TONES = /** @type {Record<string, string>} */ ({ done: "good", failed: "bad" });

export class Jobs {
  /** @type {Map<string, Row>} */
  #rows = new Map();

  /**
   * @param {HTMLElement} body of the table
   * @param {string} csrf
   */
  constructor(body, csrf) {
    this.body = body;
    this.csrf = csrf;
    this.empty = document.getElementById("no-jobs");
  }

  /** @param {{jobs?: Job[]}} now */
  show({ jobs = [] }) {
    const wanted = jobs.map((job) => {
      const row = this.#rows.get(job.id) ?? new Row(this.csrf);
      this.#rows.set(job.id, row);
      row.update(job);
      return row;
    });
    const there = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.#rows) {
      if (!there.has(id)) {
        this.#rows.delete(id);
        row.element.remove();
        row.log.remove();
      }
    }
    let after = null;
    for (const row of wanted) {
      const next = after ? after.nextElementSibling : this.body.firstElementChild;
      if (next !== row.element) {
        this.body.insertBefore(row.element, next);
        row.element.after(row.log);
      }
      after = row.log;
    }
    if (this.empty) {
      this.empty.hidden = jobs.length > 0;
    }
  }
}

class Row {
  #shown = "";
  /** @type {Job | null} */
  #job = null;
  /** @type {Record<string, HTMLButtonElement>} */
  #buttons = {};

  /** @param {string} csrf */
  constructor(csrf) {
    this.csrf = csrf;
    this.name = h("strong");
    this.source = h("div", { className: "quiet" });
    this.state = h("span", { className: "state" });
    this.stage = h("span", { className: "quiet" });
    this.bar = h("progress", { max: 1 });
    this.figures = h("span", { className: "quiet" });
    this.error = h("div", { className: "job-error" });
    this.asked = h("div", { className: "quiet" });
    this.buttons = h("div", { className: "job-actions" });
    this.lines = h("ol", { className: "job-log" });
    this.more = h("button", {
      type: "button",
      "aria-expanded": "false",
      onclick: () => void this.#toggle(),
    });
    this.element = h(
      "tr",
      { className: "job" },
      h("th", { scope: "row" }, this.name, this.source, this.asked),
      h("td", {}, this.state, " ", this.stage, this.error),
      h("td", {}, this.bar, this.figures),
      h("td", {}, this.buttons),
    );
    this.log = h("tr", { hidden: true }, h("td", { colSpan: 4 }, this.lines));
  }

  /** @param {Job} job */
  update(job) {
    const now = JSON.stringify(job);
    if (now === this.#shown) {
      return;
    }
    this.#shown = now;
    this.#job = job;
    this.name.textContent = job.target;
    this.source.textContent = job.source === job.target ? job.kind : `${job.kind}: ${job.source}`;
    this.asked.textContent = fill(gettext("{person}, {time}"), {
      person: job.by,
      time: dateTime(job.at),
    });
    this.state.textContent = job.state_text;
    this.state.className = `state ${TONES[job.state] ?? ""}`;
    this.stage.textContent = job.stage;
    this.error.textContent = job.error;
    const shown = job.total > 0 && job.state !== "cancelled";
    this.bar.hidden = !shown || job.state === "done";
    this.bar.value = job.total ? job.done / job.total : 0;
    this.bar.setAttribute("aria-label", fill(gettext("Progress of {name}"), { name: job.target }));
    this.figures.textContent = shown ? figures(job) : "";
    this.#updateButtons(job);
    if (!this.log.hidden) {
      void this.#load();
    }
  }

  /** @param {Job} job */
  #updateButtons(job) {
    if (!this.more.textContent) {
      this.more.textContent = gettext("Log");
      this.buttons.append(this.more);
    }
    this.more.setAttribute("aria-label", fill(gettext("Log of {name}"), { name: job.target }));
    for (const [action, label] of Object.entries(ACTIONS)) {
      const can = job.can.includes(action);
      let button = this.#buttons[action];
      if (can && !button) {
        button = h("button", { type: "button", onclick: () => void this.#act(action) }, label());
        this.#buttons[action] = button;
        this.buttons.insertBefore(button, this.more);
      }
      if (button) {
        button.setAttribute("aria-label", `${label()}: ${job.target}`);
        // Don't replace a button that has the focus.
        const focused = document.activeElement === button;
        button.hidden = !can && !focused;
        button.disabled = !can || job.wanted !== "";
      }
    }
  }

  /** @param {string} action */
  async #act(action) {
    const job = this.#job;
    if (!job) {
      return;
    }
    try {
      const { job: now } = await post(at(`/admin/jobs/${job.id}/${action}/`), this.csrf);
      if (now) {
        this.update(now);
      } else {
        this.element.remove();
        this.log.remove();
      }
    } catch (error) {
      this.error.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  async #toggle() {
    this.log.hidden = !this.log.hidden;
    this.more.setAttribute("aria-expanded", String(!this.log.hidden));
    if (!this.log.hidden) {
      await this.#load();
    }
  }

  async #load() {
    const response = await fetch(at(`/admin/jobs/${this.#job?.id}/log/`));
    if (!response.ok) {
      return;
    }
    const { lines } = await response.json();
    this.lines.replaceChildren(
      ...lines.map((/** @type {{at: string, text: string}} */ line) =>
        h("li", {}, h("time", { dateTime: line.at }, dateTime(line.at)), " ", line.text),
      ),
    );
  }
}

/** @param {Job} job */
function figures(job) {
  if (job.state === "done") {
    return bytes(job.total);
  }
  const parts = [
    percent(job.done / job.total),
    fill(gettext("{done} of {total}"), { done: bytes(job.done), total: bytes(job.total) }),
  ];
  if (job.speed) {
    parts.push(fill(gettext("{size} per second"), { size: bytes(job.speed) }));
  }
  if (job.left !== null) {
    parts.push(fill(gettext("{time} left"), { time: clock(job.left) }));
  }
  return parts.join(" · ");
}

/** @param {number} seconds */
export function clock(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
