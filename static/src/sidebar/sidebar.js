/** The list of conversations: pinned, by date, folders; with actions on one or several. */
import { ask, openMenu } from "../lib/dialogs.js";
import { byId, h } from "../lib/dom.js";
import { allows } from "../lib/features.js";
import { Dragging } from "./drag-and-drop.js";
import { byDay } from "./date-groups.js";
import { gettext, month } from "../lib/i18n.js";
import { ARCHIVE, MAIN } from "../chat/conversations.js";
import { RovingTabindex } from "../lib/roving-tabindex.js";
import { archivePlace, choice, exports, folderSection, heading, row } from "./rows.js";
import { Selection } from "./selection.js";
import { recall, remember } from "../lib/storage.js";

/** @typedef {import("../lib/wire").Conversation} Conversation */

/** Limit of the server. */
const TITLE_MAX = 200;
/** Hover time in ms before a row's conversation is prefetched. */
const AIMING_MS = 80;

export class Sidebar {
  #list = byId("conversations");
  /** @type {string | null} */
  #active = null;
  /** @type {string | null} the conversation whose title is being changed */
  #renaming = null;
  /** Whether a pointer is pressed or drags in the list: a redraw would lose the click or the drop. */
  #pressed = false;
  /** Data of the last render: most changes do not affect the list. */
  #shown = "";
  #allFolders = false;
  /** @type {any} */
  #aiming = null;
  #foldersOpen = recall("folders") !== "closed";
  #tabindex = new RovingTabindex(this.#list, "li", "a, .row-button, [type=checkbox], .options");
  #sentinel = h("div", { className: "sentinel" });
  #nearEnd = false;
  #loadingMore = false;

  /**
   * @param {object} options
   * @param {import("../chat/conversations.js").Conversations} options.conversations
   * @param {import("./actions.js").ConversationActions} options.actions
   * @param {(id: string) => void} options.onOpen
   * @param {(id: string) => void} options.onAim it is likely to be opened
   * @param {(id: string) => void} options.onShare
   */
  constructor({ conversations, actions, onOpen, onAim, onShare }) {
    this.conversations = conversations;
    this.actions = actions;
    this.onOpen = onOpen;
    this.onAim = onAim;
    this.onShare = onShare;
    this.selection = new Selection({ conversations, actions, onChange: () => this.render() });
    conversations.addEventListener("change", () => this.render());
    new Dragging(this.#list, {
      taken: (id) => this.#taken(id),
      onDrop: (items, view) => this.#put(items, view),
    });
    this.#holdWhilePressed();
    this.#list.addEventListener("click", (/** @type {MouseEvent} */ event) => this.#click(event));
    this.#list.addEventListener("pointerover", (/** @type {Event} */ event) => this.#aim(event));
    this.#list.addEventListener("pointerdown", (/** @type {Event} */ event) => this.#aim(event, 0));
    new IntersectionObserver(
      (entries) => {
        this.#nearEnd = Boolean(entries.at(-1)?.isIntersecting);
        this.#loadNearEnd();
      },
      { root: this.#list, rootMargin: "400px" },
    ).observe(this.#sentinel);
    // "Today" ends at midnight, also on a page that stays open.
    setInterval(() => this.render(), 10 * 60_000);
    this.render();
  }

  /**
   * Load pages until the end of the list is out of sight. The observer reports changes only: an end
   * that stays in sight, because the list became shorter or a page failed, is not reported again.
   */
  async #loadNearEnd() {
    if (this.#loadingMore) {
      return;
    }
    this.#loadingMore = true;
    let more = true;
    while (more && this.#nearEnd) {
      more = false;
      const load = this.conversations.loadMore().then((another) => {
        more = another;
      });
      await this.actions.attempt(load);
      // The observer reports after the next frame.
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    }
    this.#loadingMore = false;
  }

  /** @param {string | null} id */
  mark(id) {
    this.#active = id;
    this.render();
  }

  render() {
    if (this.#renaming || this.#pressed) {
      return;
    }
    const { view, folders, pinned, sorted, archive, counts } = this.conversations;
    const days = byDay(sorted, new Date());
    /** @param {Conversation[]} items */
    const texts = (items) => items.map(({ id, title, pinned: top }) => [id, title, top]);
    const shown = JSON.stringify([
      [this.#active, view, texts(view === MAIN ? pinned : [])],
      [folders, this.#foldersOpen, this.#allFolders, archive, counts],
      days.map(({ group, items }) => [group.key, texts(items)]),
      this.selection.active && [...this.selection.ids, this.selection.has("")],
    ]);
    if (shown !== this.#shown) {
      this.#shown = shown;
      this.#draw(days);
    }
  }

  /** Keep the rows while a pointer is pressed or drags: events target the row that was pressed. */
  #holdWhilePressed() {
    const hold = () => {
      this.#pressed = true;
    };
    const release = () => {
      if (this.#pressed) {
        this.#pressed = false;
        // After the click that follows: its handlers need the row.
        setTimeout(() => this.render());
      }
    };
    // A drag cancels the pointer, so that it is held again.
    this.#list.addEventListener("pointerdown", hold);
    this.#list.addEventListener("dragstart", hold);
    document.addEventListener("pointerup", release);
    document.addEventListener("pointercancel", release);
    document.addEventListener("dragend", release);
  }

  /** @param {ReturnType<typeof byDay<Conversation>>} days */
  #draw(days) {
    const { view, folders, pinned, archive, counts } = this.conversations;
    const shown = { open: this.#foldersOpen, all: this.#allFolders };
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
      main ? folderSection(folders, counts, shown) : heading(this.conversations.folder),
      ...(groups.length ? groups : [empty]),
      this.#sentinel,
      main && archive ? archivePlace(counts[ARCHIVE]) : "",
    );
    this.#list.scrollTop = top;
    this.#tabindex.refresh();
    if (place?.id) {
      const again = this.#rowOf(place.id)?.querySelector(place.selector);
      /** @type {HTMLElement | null | undefined} */ (again)?.focus({ preventScroll: true });
    }
    this.#loadNearEnd();
  }

  /**
   * @param {string} key
   * @param {string} label
   * @param {Conversation[]} items
   */
  #section(key, label, items) {
    const { selection } = this;
    const rows = items.map((item) =>
      selection.active ? choice(item, selection.has(item.id)) : row(item, item.id === this.#active),
    );
    return h(
      "section",
      { "aria-labelledby": `group-${key}` },
      h("h2", { id: `group-${key}` }, label),
      h("ul", {}, ...rows),
    );
  }

  /**
   * Prefetch the conversation of a hovered row after a moment, so that a click shows it at once.
   * @param {Event} event
   * @param {number} [wait] in ms
   */
  #aim({ target }, wait = AIMING_MS) {
    clearTimeout(this.#aiming);
    const link = target instanceof Element ? target.closest("a") : null;
    const id = link?.closest("li")?.dataset.id;
    if (id && !this.selection.active) {
      this.#aiming = setTimeout(() => this.onAim(id), wait);
    }
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
    if (button?.hasAttribute("data-fold")) {
      this.#foldersOpen = !this.#foldersOpen;
      remember("folders", this.#foldersOpen ? null : "closed");
      this.render();
      /** @type {HTMLElement | null} */ (this.#list.querySelector("[data-fold]"))?.focus();
    } else if (button?.hasAttribute("data-folders")) {
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
   * Return the conversations dragged with a row: the whole selection, if it is part of it.
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
      await this.actions.archive(items);
    } else if (items.some(({ archived }) => archived)) {
      await this.actions.archive(items, false);
    } else {
      await this.actions.move(items, view === MAIN ? null : view);
    }
  }

  /** @param {string} view */
  async #show(view) {
    const before = this.conversations.view;
    this.selection.end();
    await this.actions.attempt(this.conversations.show(view));
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
            run: () => this.actions.renameFolder(folder),
          },
          {
            icon: "delete",
            label: gettext("Delete"),
            danger: true,
            run: () => this.actions.removeFolder(folder),
          },
        ],
        () => this.#list.querySelector(`[data-view="${CSS.escape(id)}"]`)?.focus(),
      );
    }
  }

  /**
   * Open the menu of a row.
   * @param {HTMLButtonElement} button
   * @param {Conversation} item
   */
  #menu(button, item) {
    const back = () => this.#rowOf(item.id)?.querySelector("button")?.focus();
    const select = {
      icon: "select",
      label: gettext("Select…"),
      run: () => this.selection.begin(item.id),
    };
    const items = this.#menuItems(button, item, back, () => this.#rename(item));
    openMenu(button, items.toSpliced(-1, 0, select), back);
  }

  /**
   * Open the menu of a conversation at another button than its row's.
   * @param {HTMLButtonElement} button
   * @param {Conversation} item
   */
  openMenu(button, item) {
    const back = () => button.focus();
    const rename = async () => {
      /** @param {string} title */
      const take = (title) => this.conversations.rename(item.id, title);
      const heading = gettext("Rename the conversation");
      await ask(heading, gettext("Title"), item.title, take, TITLE_MAX);
      back();
    };
    openMenu(button, this.#menuItems(button, item, back, rename), back);
  }

  /**
   * Return the menu entries of a conversation. Delete is the last.
   * @param {HTMLButtonElement} button where further menus open
   * @param {Conversation} item
   * @param {() => void} back restores the focus
   * @param {() => void} rename
   */
  #menuItems(button, item, back, rename) {
    const { actions } = this;
    return [
      item.pinned
        ? { icon: "pin", label: gettext("Unpin"), run: () => actions.pin([item], false) }
        : { icon: "pin", label: gettext("Pin"), run: () => actions.pin([item]) },
      { icon: "edit", label: gettext("Rename"), run: rename },
      {
        icon: "folder",
        label: gettext("Move to folder…"),
        run: () => actions.chooseFolder(button, [item], back),
      },
      item.archived
        ? {
            icon: "archive",
            label: gettext("Unarchive"),
            run: () => actions.archive([item], false),
          }
        : { icon: "archive", label: gettext("Archive"), run: () => actions.archive([item]) },
      ...(allows("sharing")
        ? [{ icon: "share", label: gettext("Share…"), run: () => this.onShare(item.id) }]
        : []),
      ...(allows("export")
        ? [
            {
              icon: "exchange",
              label: gettext("Export…"),
              run: () => openMenu(button, exports(item), back),
            },
          ]
        : []),
      {
        icon: "delete",
        label: gettext("Delete"),
        danger: true,
        run: async () => (await actions.remove([item])) || back(),
      },
    ];
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
      maxLength: TITLE_MAX,
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
        await this.actions.attempt(this.conversations.rename(item.id, title));
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
