/** The list of conversations: by day, with rename and delete, and more while one scrolls. */
import { confirm, openMenu } from "./dialogs.js";
import { attempt, byId, h, icon } from "./dom.js";
import { byDay } from "./groups.js";
import { fill, gettext, month } from "./i18n.js";

/** @typedef {import("./thread.js").Conversation} Conversation */

export class Sidebar {
  #list = byId("conversations");
  #problem = byId("list-problem");
  /** @type {string | null} */
  #active = null;
  /** @type {string | null} the conversation whose title is being changed */
  #renaming = null;
  /** What the list was drawn from: most news does not concern it. */
  #shown = "";
  #sentinel = h("div", { className: "sentinel" });

  /**
   * @param {object} options
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {(id: string) => void} options.onOpen
   * @param {(id: string) => void} options.onDeleted
   */
  constructor({ conversations, onOpen, onDeleted }) {
    this.conversations = conversations;
    this.onOpen = onOpen;
    this.onDeleted = onDeleted;
    conversations.addEventListener("change", () => this.render());
    this.#list.addEventListener("click", (/** @type {MouseEvent} */ event) => this.#click(event));
    new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) {
          this.#attempt(conversations.loadMore());
        }
      },
      { root: this.#list, rootMargin: "400px" },
    ).observe(this.#sentinel);
    // "Today" ends at midnight, also on a page that stays open.
    setInterval(() => this.render(), 10 * 60_000);
    this.render();
  }

  /** @param {string | null} id */
  mark(id) {
    this.#active = id;
    this.render();
  }

  render() {
    if (this.#renaming) {
      return;
    }
    const days = byDay(this.conversations.sorted, new Date());
    const shown = JSON.stringify([
      this.#active,
      days.map(({ group, items }) => [group.key, items.map(({ id, title }) => [id, title])]),
    ]);
    if (shown !== this.#shown) {
      this.#shown = shown;
      this.#draw(days);
    }
  }

  /** @param {ReturnType<typeof byDay<Conversation>>} days */
  #draw(days) {
    const focused = this.#list.contains(document.activeElement)
      ? /** @type {HTMLElement} */ (document.activeElement)
      : null;
    const place = focused && {
      id: focused.closest("li")?.dataset.id,
      selector: focused.matches("a") ? "a" : "button",
    };
    const groups = days.map(({ group, items }) => {
      const labels = {
        today: gettext("Today"),
        yesterday: gettext("Yesterday"),
        week: gettext("Previous 7 days"),
        month: group.kind === "month" ? month(group.date) : "",
      };
      return h(
        "section",
        { "aria-labelledby": `group-${group.key}` },
        h("h2", { id: `group-${group.key}` }, labels[group.kind]),
        h("ul", {}, ...items.map((item) => this.#row(item))),
      );
    });
    const top = this.#list.scrollTop;
    const empty = h("p", { className: "empty-list" }, gettext("Your conversations appear here."));
    this.#list.replaceChildren(...(groups.length ? groups : [empty]), this.#sentinel);
    this.#list.scrollTop = top;
    if (place?.id) {
      const again = this.#rowOf(place.id)?.querySelector(place.selector);
      /** @type {HTMLElement | null | undefined} */ (again)?.focus({ preventScroll: true });
    }
  }

  /** @param {Conversation} item */
  #row(item) {
    const title = item.title || gettext("Untitled");
    const link = h("a", { href: `/c/${item.id}/`, id: `c-${item.id}`, title, dir: "auto" }, title);
    if (item.id === this.#active) {
      link.setAttribute("aria-current", "page");
    }
    const options = h(
      "button",
      {
        type: "button",
        className: "icon-button",
        title: gettext("Options"),
        "aria-label": gettext("Options"),
        "aria-describedby": link.id,
        "aria-haspopup": "menu",
        "aria-expanded": "false",
      },
      icon("more"),
    );
    return h("li", { "data-id": item.id }, link, options);
  }

  /** @param {string} id @returns {HTMLElement | null} */
  #rowOf(id) {
    return this.#list.querySelector(`li[data-id="${CSS.escape(id)}"]`);
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = /** @type {Element} */ (event.target);
    const id = target.closest("li")?.dataset.id;
    const item = this.conversations.get(id ?? null);
    if (!item || target.closest("form")) {
      return;
    }
    const button = target.closest("button");
    if (button) {
      openMenu(
        button,
        [
          { icon: "edit", label: gettext("Rename"), run: () => this.#rename(item) },
          { icon: "delete", label: gettext("Delete"), danger: true, run: () => this.#remove(item) },
        ],
        () => this.#rowOf(item.id)?.querySelector("button")?.focus(),
      );
    } else if (target.closest("a") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      this.onOpen(item.id);
    }
  }

  /** @param {Conversation} item */
  #rename(item) {
    const row = this.#rowOf(item.id);
    if (!row) {
      return;
    }
    this.#renaming = item.id;
    const input = h("input", {
      value: item.title,
      maxLength: 200,
      "aria-label": gettext("Title"),
      dir: "auto",
    });
    const form = h("form", { className: "rename" }, input);
    let over = false;
    /** @param {boolean} keep */
    const finish = async (keep) => {
      if (over) {
        return;
      }
      over = true;
      const title = input.value.trim();
      this.#renaming = null;
      this.#shown = "";
      if (keep && title && title !== item.title) {
        await this.#attempt(this.conversations.rename(item.id, title));
      }
      this.render();
      this.#rowOf(item.id)?.querySelector("a")?.focus();
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      finish(true);
    };
    input.onblur = () => finish(true);
    input.onkeydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        finish(false);
      }
    };
    row.replaceChildren(form);
    input.focus();
    input.select();
  }

  /** @param {Conversation} item */
  async #remove(item) {
    const text = fill(gettext("“{title}” and its answers will be gone for good."), {
      title: item.title || gettext("Untitled"),
    });
    const sure = await confirm(gettext("Delete this conversation?"), text, gettext("Delete"));
    if (!sure) {
      this.#rowOf(item.id)?.querySelector("button")?.focus();
      return;
    }
    if (await this.#attempt(this.conversations.remove(item.id))) {
      this.onDeleted(item.id);
    }
  }

  /**
   * @param {Promise<unknown>} work that the server may refuse
   */
  #attempt(work) {
    return attempt(this.#problem, work);
  }
}
