/** Selection of several conversations, and actions on them. */
import { byId, h, icon } from "../lib/dom.js";
import { ARCHIVE, MAIN } from "../chat/conversations.js";
import { fill, gettext, ngettext, number } from "../lib/i18n.js";

/** @typedef {import("../lib/wire").Conversation} Conversation */

export class Selection {
  #bar = byId("selection");
  active = false;
  /** @type {Set<string>} */
  ids = new Set();
  /** Size of the view if some of it is not loaded. @type {number | null} */
  #total = null;
  /** Whether the whole view is selected, not only what is loaded. */
  #whole = false;

  /**
   * @param {object} options
   * @param {import("../chat/conversations.js").Conversations} options.conversations
   * @param {import("./actions.js").ConversationActions} options.actions
   * @param {() => void} options.onChange
   */
  constructor({ conversations, actions, onChange }) {
    this.conversations = conversations;
    this.actions = actions;
    this.onChange = onChange;
    this.#bar.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        this.end();
      }
    });
  }

  /** @param {string} id the first one */
  begin(id) {
    this.active = true;
    this.#forgetWhole();
    this.ids = new Set([id]);
    this.#changed();
    this.#bar.querySelector("button")?.focus();
  }

  end() {
    if (this.active) {
      this.active = false;
      this.#forgetWhole();
      this.ids.clear();
      this.#changed();
    }
  }

  /** @param {string} id */
  toggle(id) {
    this.#forgetWhole();
    if (!this.ids.delete(id)) {
      this.ids.add(id);
    }
    this.#changed();
  }

  /** @returns {Conversation[]} */
  get #items() {
    return [...this.ids].flatMap((id) => this.conversations.get(id) ?? []);
  }

  #all() {
    const { pinned, sorted, view } = this.conversations;
    const shown = view === MAIN ? [...pinned, ...sorted] : sorted;
    this.ids = new Set(shown.map(({ id }) => id));
    this.#forgetWhole();
    this.#changed();
    if (this.conversations.hasMore) {
      this.actions.attempt(this.#count());
    }
  }

  /** Offer to select more than what is loaded. */
  async #count() {
    const total = await this.conversations.countAll();
    if (this.active && total > this.ids.size) {
      this.#total = total;
      this.#changed();
      /** @type {HTMLElement | null} */ (this.#bar.querySelector("[data-does=whole]"))?.focus();
    }
  }

  /** @param {string} id */
  has(id) {
    return this.#whole || this.ids.has(id);
  }

  #forgetWhole() {
    this.#total = null;
    this.#whole = false;
  }

  /** Size of the view if all of it is selected, see `Chosen`. */
  get #wholeCount() {
    return this.#whole ? this.#total : null;
  }

  #changed() {
    this.#draw();
    this.onChange();
  }

  #draw() {
    this.#bar.hidden = !this.active;
    if (!this.active) {
      this.#bar.replaceChildren();
      return;
    }
    const count = this.#wholeCount ?? this.ids.size;
    const text = fill(ngettext("{count} selected", "{count} selected", count), {
      count: number(count),
    });
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.does;
    const archived = this.conversations.view === ARCHIVE;
    const total = this.#total !== null && !this.#whole ? this.#total : null;
    const whole = h(
      "button",
      {
        type: "button",
        className: "button",
        "data-does": "whole",
        hidden: total === null,
        onclick: () => {
          this.#whole = true;
          this.#changed();
          /** @type {HTMLElement | null} */ (this.#bar.querySelector("[data-does=all]"))?.focus();
        },
      },
      fill(gettext("Select all {count}"), { count: number(total ?? 0) }),
    );
    this.#bar.replaceChildren(
      h("span", { role: "status" }, text),
      this.#button("all", "select", gettext("Select all"), () => this.#all()),
      this.#button("archive", "archive", archived ? gettext("Unarchive") : gettext("Archive"), () =>
        this.#then(this.actions.archive(this.#items, !archived, this.#wholeCount)),
      ),
      this.#button("move", "folder", gettext("Move to folder…"), (button) =>
        this.actions.chooseFolder(button, this.#items, () => this.end(), this.#wholeCount),
      ),
      this.#button("delete", "delete", gettext("Delete"), () =>
        this.#then(this.actions.remove(this.#items, this.#wholeCount)),
      ),
      this.#button("close", "close", gettext("Cancel selection"), () => this.end()),
      whole,
    );
    if (focused) {
      /** @type {HTMLElement | null} */ (
        this.#bar.querySelector(`[data-does="${CSS.escape(focused)}"]`)
      )?.focus();
    }
  }

  /** @param {Promise<unknown>} work */
  async #then(work) {
    if ((await work) !== false) {
      this.end();
    }
  }

  /**
   * @param {string} does
   * @param {string} drawing
   * @param {string} label
   * @param {(button: HTMLButtonElement) => void} run
   */
  #button(does, drawing, label, run) {
    const button = h(
      "button",
      {
        type: "button",
        className: "icon-button",
        title: label,
        "aria-label": label,
        "data-does": does,
        disabled: this.ids.size === 0 && !["all", "close"].includes(does),
      },
      icon(drawing),
    );
    button.onclick = () => run(button);
    return button;
  }
}
