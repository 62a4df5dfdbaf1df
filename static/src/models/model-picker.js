/**
 * The list of models and assistants, with details and a search. It replaces the popup of the native
 * select, which stays the control: its value, name and keys work as usual, also for assistive
 * technology.
 */
import { h } from "../lib/dom.js";
import { bytes, fill, gettext, number } from "../lib/i18n.js";

/**
 * @typedef {import("./model-choice.js").ModelChoice} ModelChoice
 * @typedef {import("../lib/wire").ModelDetails} Details
 * @typedef {import("./model-choice.js").Entry} Entry
 */

/** The search is shown from this number of entries. */
const SEARCHED_FROM = 6;
/** Largest height and margin, in pixels. */
const TALLEST = 480;
const GAP = 16;

export class ModelPicker {
  /** @type {Record<string, Details>} by the model's name */
  #details = {};
  #search = h("input", {
    type: "search",
    className: "picker-search",
    placeholder: gettext("Search models"),
    "aria-label": gettext("Search"),
    autocomplete: "off",
  });
  #list = h("div", { role: "listbox", "aria-label": gettext("Models and assistants") });
  #nothing = h("p", { className: "empty-list", role: "status" });

  /**
   * @param {ModelChoice} models
   * @param {() => Promise<{details: Record<string, Details>}>} fetchDetails
   */
  constructor(models, fetchDetails) {
    this.models = models;
    this.fetchDetails = fetchDetails;
    this.panel = h(
      "div",
      {
        className: "panel picker",
        popover: "auto",
        role: "dialog",
        "aria-label": gettext("Choose a model"),
      },
      this.#search,
      this.#list,
      this.#nothing,
    );
    models.select.closest(".dock")?.append(this.panel);
    this.#search.addEventListener("input", () => this.#draw());
    this.panel.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("click", ({ target }) => {
      const option = /** @type {Element} */ (target).closest("[role=option]");
      if (option instanceof HTMLElement) {
        this.#choose(option);
      }
    });
  }

  get open() {
    return this.panel.matches(":popover-open");
  }

  show() {
    this.#search.value = "";
    this.#search.hidden = this.models.entries.length < SEARCHED_FROM;
    this.#draw();
    this.panel.showPopover();
    this.#place();
    const chosen = this.#options.find((option) => option.ariaSelected === "true");
    (this.#search.hidden ? (chosen ?? this.#options[0]) : this.#search)?.focus();
    chosen?.scrollIntoView({ block: "nearest" });
    this.#complete();
  }

  /** Fetch details on demand, since the server reads files for them. */
  async #complete() {
    const found = await this.fetchDetails().catch(() => null);
    if (found && this.open) {
      const at = this.#options.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      this.#details = found.details;
      this.#draw();
      this.#place();
      this.#options[at]?.focus();
    }
  }

  /** @returns {HTMLElement[]} */
  get #options() {
    return [...this.#list.querySelectorAll("[role=option]")].map(
      (option) => /** @type {HTMLElement} */ (option),
    );
  }

  #draw() {
    const words = this.#search.value.toLowerCase().split(/\s+/u);
    const found = this.models.entries.filter((entry) => {
      const text = `${entry.label} ${entry.value} ${this.#describe(entry)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const plain = found.filter(({ preset }) => !preset);
    const presets = found.filter(({ preset }) => preset);
    this.#list.replaceChildren(
      ...(presets.length === 0
        ? plain.map((entry) => this.#option(entry))
        : [
            this.#group(gettext("Models"), plain),
            this.#group(gettext("Assistants"), presets),
          ].filter((group) => group.childElementCount > 1)),
    );
    this.#list.hidden = found.length === 0;
    this.#nothing.hidden = found.length > 0;
    this.#nothing.textContent = found.length > 0 ? "" : gettext("Nothing found.");
  }

  /**
   * @param {string} label
   * @param {Entry[]} entries
   */
  #group(label, entries) {
    const heading = h("div", { className: "panel-label", "aria-hidden": "true" }, label);
    const options = entries.map((entry) => this.#option(entry));
    return h("div", { role: "group", "aria-label": label }, heading, ...options);
  }

  /** @param {Entry} entry */
  #describe(entry) {
    return entry.description || this.#details[entry.model]?.description || "";
  }

  /** @param {Entry} entry */
  #option(entry) {
    const state = this.models.stateOf(entry.model);
    const chosen = this.models.select.value === entry.value;
    const dot = h("span", { className: `dot ${state.ready ? "ready" : ""}`, title: state.text });
    const option = h(
      "div",
      { role: "option", tabIndex: -1, "data-value": entry.value, "aria-selected": String(chosen) },
      h(
        "div",
        { className: "picker-name" },
        h("span", { dir: "auto" }, entry.label),
        dot,
        h("span", { className: "picker-state" }, state.text),
      ),
    );
    const description = this.#describe(entry);
    if (description) {
      option.append(h("div", { className: "picker-text", dir: "auto" }, description));
    }
    const badges = this.#badges(entry).map((text) => h("span", { className: "badge" }, text));
    option.append(h("div", { className: "picker-badges" }, ...badges));
    return option;
  }

  /** @param {Entry} entry */
  #badges({ model, size, preset, title }) {
    const details = this.#details[model];
    const badges = preset ? [title] : [];
    if (size) {
      badges.push(bytes(size));
    }
    if (details?.parameters) {
      badges.push(fill(gettext("{count} parameters"), { count: details.parameters }));
    }
    if (details?.context) {
      badges.push(fill(gettext("{count} tokens of context"), { count: number(details.context) }));
    }
    if (details?.tools) {
      badges.push(gettext("Tools"));
    }
    if (details?.reasoning) {
      badges.push(gettext("Reasoning"));
    }
    if (details?.shared_cache) {
      badges.push(gettext("Shared prompt cache"));
    }
    return badges;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const options = this.#options;
    const at = options.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: options.length - 1 };
    const inBox = event.target === this.#search;
    if (event.isComposing) {
      return;
    }
    if (event.key in steps && !(inBox && ["Home", "End"].includes(event.key))) {
      event.preventDefault();
      if (steps[event.key] < 0 && !this.#search.hidden) {
        this.#search.focus();
      } else {
        options.at(steps[event.key] % options.length)?.focus();
      }
    } else if (event.key === "Enter" || (event.key === " " && !inBox)) {
      event.preventDefault();
      const option = options[Math.max(0, at)];
      if (option) {
        this.#choose(option);
      }
    } else if (event.key === "Tab") {
      this.panel.hidePopover();
    } else if (!inBox && !this.#search.hidden && event.key.length === 1) {
      // Characters go to the search, wherever the focus is.
      this.#search.focus();
    }
  }

  /** @param {HTMLElement} option */
  #choose(option) {
    this.panel.hidePopover();
    this.models.choose(option.dataset.value ?? "");
  }

  /** Place the list below the control if there is room, else on the side with more room. */
  #place() {
    const box = this.models.select.getBoundingClientRect();
    const below = innerHeight - box.bottom;
    this.panel.style.maxBlockSize = "";
    const wanted = Math.min(this.panel.scrollHeight + 2, TALLEST);
    const above = below - GAP < wanted && box.top > below;
    this.panel.style.maxBlockSize = `${Math.min((above ? box.top : below) - GAP, TALLEST)}px`;
    const size = this.panel.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, innerWidth - size.width - 8));
    this.panel.style.left = `${left}px`;
    this.panel.style.top = `${above ? box.top - size.height - 6 : box.bottom + 6}px`;
  }
}
