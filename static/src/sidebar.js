/** The list of conversations: pinned, by day, folders; with what one does to each or to many. */
import { openMenu } from "./dialogs.js";
import { byId, h } from "./dom.js";
import { Dragging } from "./dragging.js";
import { byDay } from "./groups.js";
import { gettext, month } from "./i18n.js";
import { ARCHIVE, MAIN } from "./conversations.js";
import { choice, exports, heading, places, row } from "./rows.js";
import { Selection } from "./selection.js";

/** @typedef {import("./thread.js").Conversation} Conversation */

export class Sidebar {
  #list = byId("conversations");
  /** @type {string | null} */
  #active = null;
  /** @type {string | null} the conversation whose title is being changed */
  #renaming = null;
  /** What the list was drawn from: most news does not concern it. */
  #shown = "";
  #allFolders = false;
  #sentinel = h("div", { className: "sentinel" });

  /**
   * @param {object} options
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {import("./filing.js").Filing} options.filing
   * @param {(id: string) => void} options.onOpen
   * @param {(id: string) => void} options.onShare
   */
  constructor({ conversations, filing, onOpen, onShare }) {
    this.conversations = conversations;
    this.filing = filing;
    this.onOpen = onOpen;
    this.onShare = onShare;
    this.selection = new Selection({ conversations, filing, onChange: () => this.render() });
    conversations.addEventListener("change", () => this.render());
    new Dragging(this.#list, {
      taken: (id) => this.#taken(id),
      onDrop: (items, view) => this.#put(items, view),
    });
    this.#list.addEventListener("click", (/** @type {MouseEvent} */ event) => this.#click(event));
    new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) {
          filing.attempt(conversations.loadMore());
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
    const { view, folders, pinned, sorted, archive } = this.conversations;
    const days = byDay(sorted, new Date());
    /** @param {Conversation[]} items */
    const texts = (items) => items.map(({ id, title, pinned: top }) => [id, title, top]);
    const shown = JSON.stringify([
      [this.#active, view, folders, this.#allFolders, archive, texts(view === MAIN ? pinned : [])],
      days.map(({ group, items }) => [group.key, texts(items)]),
      this.selection.active && [...this.selection.ids],
    ]);
    if (shown !== this.#shown) {
      this.#shown = shown;
      this.#draw(days);
    }
  }

  /** @param {ReturnType<typeof byDay<Conversation>>} days */
  #draw(days) {
    const { view, folders, pinned, archive } = this.conversations;
    const focused = this.#list.contains(document.activeElement)
      ? /** @type {HTMLElement} */ (document.activeElement)
      : null;
    const place = focused && {
      id: focused.closest("li")?.dataset.id,
      selector: focused.matches("a, input") ? "a, input" : "button",
    };
    const groups = days.map(({ group, items }) => {
      const labels = {
        today: gettext("Today"),
        yesterday: gettext("Yesterday"),
        week: gettext("Previous 7 days"),
        month: group.kind === "month" ? month(group.date) : "",
      };
      return this.#section(group.key, labels[group.kind], items);
    });
    const main = view === MAIN;
    if (main && pinned.length) {
      groups.unshift(this.#section("pinned", gettext("Pinned"), pinned));
    }
    const nothing = main
      ? gettext("Your conversations appear here.")
      : gettext("There are no conversations here.");
    const empty = h("p", { className: "empty-list" }, nothing);
    const top = this.#list.scrollTop;
    this.#list.replaceChildren(
      main ? places(folders, archive, this.#allFolders) : heading(this.conversations.folder),
      ...(groups.length ? groups : [empty]),
      this.#sentinel,
    );
    this.#list.scrollTop = top;
    if (place?.id) {
      const again = this.#rowOf(place.id)?.querySelector(place.selector);
      /** @type {HTMLElement | null | undefined} */ (again)?.focus({ preventScroll: true });
    }
  }

  /**
   * @param {string} key
   * @param {string} label
   * @param {Conversation[]} items
   */
  #section(key, label, items) {
    const { active, ids } = this.selection;
    const rows = items.map((item) =>
      active ? choice(item, ids.has(item.id)) : row(item, item.id === this.#active),
    );
    return h(
      "section",
      { "aria-labelledby": `group-${key}` },
      h("h2", { id: `group-${key}` }, label),
      h("ul", {}, ...rows),
    );
  }

  /** @param {string} id @returns {HTMLElement | null} */
  #rowOf(id) {
    return this.#list.querySelector(`li[data-id="${CSS.escape(id)}"]`);
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = /** @type {Element} */ (event.target);
    const view = target.closest("[data-view]")?.getAttribute("data-view");
    const folder = target.closest("li")?.dataset.folder;
    const id = target.closest("li")?.dataset.id;
    const item = this.conversations.get(id ?? null);
    const button = target.closest("button");
    if (button?.hasAttribute("data-folders")) {
      this.#allFolders = !this.#allFolders;
      this.render();
      /** @type {HTMLElement | null} */ (this.#list.querySelector("[data-folders]"))?.focus();
    } else if (view) {
      this.#show(view);
    } else if (folder && button) {
      this.#folderMenu(button, folder);
    } else if (!item || target.closest("form")) {
      return;
    } else if (this.selection.active) {
      if (target instanceof HTMLInputElement) {
        this.selection.toggle(item.id);
      }
    } else if (button) {
      this.#menu(button, item);
    } else if (target.closest("a") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      this.onOpen(item.id);
    }
  }

  /**
   * What is dragged with a row: all that are chosen, if it is one of them.
   * @param {string} id
   */
  #taken(id) {
    const { active, ids } = this.selection;
    const taken = active && ids.has(id) ? [...ids] : [id];
    return taken.flatMap((one) => this.conversations.get(one) ?? []);
  }

  /**
   * @param {Conversation[]} items
   * @param {string} view
   */
  async #put(items, view) {
    this.selection.end();
    if (view === ARCHIVE) {
      await this.filing.archive(items);
    } else if (items.some(({ archived }) => archived)) {
      await this.filing.archive(items, false);
    } else {
      await this.filing.move(items, view === MAIN ? null : view);
    }
  }

  /** @param {string} view */
  async #show(view) {
    const before = this.conversations.view;
    this.selection.end();
    await this.filing.attempt(this.conversations.show(view));
    this.#list.scrollTop = 0;
    const back = view === MAIN ? before : MAIN;
    this.#list.querySelector(`[data-view="${CSS.escape(back)}"]`)?.focus();
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {string} id
   */
  #folderMenu(button, id) {
    const folder = this.conversations.folders.find((known) => known.id === id);
    if (folder) {
      openMenu(
        button,
        [
          {
            icon: "edit",
            label: gettext("Rename"),
            run: () => this.filing.renameFolder(folder),
          },
          {
            icon: "delete",
            label: gettext("Delete"),
            danger: true,
            run: () => this.filing.removeFolder(folder),
          },
        ],
        () => this.#list.querySelector(`[data-view="${CSS.escape(id)}"]`)?.focus(),
      );
    }
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {Conversation} item
   */
  #menu(button, item) {
    const { filing } = this;
    const back = () => this.#rowOf(item.id)?.querySelector("button")?.focus();
    const items = [
      item.pinned
        ? { icon: "pin", label: gettext("Unpin"), run: () => filing.pin([item], false) }
        : { icon: "pin", label: gettext("Pin"), run: () => filing.pin([item]) },
      { icon: "edit", label: gettext("Rename"), run: () => this.#rename(item) },
      {
        icon: "folder",
        label: gettext("Move to folder…"),
        run: () => filing.chooseFolder(button, [item], back),
      },
      item.archived
        ? {
            icon: "archive",
            label: gettext("Back to the list"),
            run: () => filing.archive([item], false),
          }
        : { icon: "archive", label: gettext("Archive"), run: () => filing.archive([item]) },
      { icon: "share", label: gettext("Share…"), run: () => this.onShare(item.id) },
      {
        icon: "exchange",
        label: gettext("Export…"),
        run: () => openMenu(button, exports(item), back),
      },
      { icon: "select", label: gettext("Select…"), run: () => this.selection.begin(item.id) },
      {
        icon: "delete",
        label: gettext("Delete"),
        danger: true,
        run: async () => (await filing.remove([item])) || back(),
      },
    ];
    openMenu(button, items, back);
  }

  /** @param {Conversation} item */
  #rename(item) {
    const shown = this.#rowOf(item.id);
    if (!shown) {
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
        await this.filing.attempt(this.conversations.rename(item.id, title));
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
      if (event.key === "Escape" && !event.isComposing) {
        event.stopPropagation();
        finish(false);
      }
    };
    shown.replaceChildren(form);
    input.focus();
    input.select();
  }
}
