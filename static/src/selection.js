/** Choosing many conversations, and what to do with them. */
import { byId, h, icon } from "./dom.js";
import { ARCHIVE, MAIN } from "./conversations.js";
import { fill, gettext, ngettext, number } from "./i18n.js";

/** @typedef {import("./thread.js").Conversation} Conversation */

export class Selection {
  #bar = byId("selection");
  active = false;
  /** @type {Set<string>} */
  ids = new Set();

  /**
   * @param {object} options
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {import("./filing.js").Filing} options.filing
   * @param {() => void} options.onChange
   */
  constructor({ conversations, filing, onChange }) {
    this.conversations = conversations;
    this.filing = filing;
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
    this.ids = new Set([id]);
    this.#changed();
    this.#bar.querySelector("button")?.focus();
  }

  end() {
    if (this.active) {
      this.active = false;
      this.ids.clear();
      this.#changed();
    }
  }

  /** @param {string} id */
  toggle(id) {
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
    this.#changed();
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
    const count = this.ids.size;
    const text = fill(ngettext("{count} selected", "{count} selected", count), {
      count: number(count),
    });
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.does;
    const archived = this.conversations.view === ARCHIVE;
    this.#bar.replaceChildren(
      h("span", { role: "status" }, text),
      this.#button("all", "select", gettext("Select all"), () => this.#all()),
      this.#button(
        "archive",
        "archive",
        archived ? gettext("Back to the list") : gettext("Archive"),
        () => this.#then(this.filing.archive(this.#items, !archived)),
      ),
      this.#button("move", "folder", gettext("Move to folder…"), (button) =>
        this.filing.chooseFolder(button, this.#items, () => this.end()),
      ),
      this.#button("delete", "delete", gettext("Delete"), () =>
        this.#then(this.filing.remove(this.#items)),
      ),
      this.#button("close", "close", gettext("Stop selecting"), () => this.end()),
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
