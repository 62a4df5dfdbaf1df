/** Folders and documents of one folder of a collection. */
import { h, icon } from "../lib/dom.js";
import { openMenu } from "../lib/dialogs.js";
import { fill, gettext } from "../lib/i18n.js";
import { details, documentCount, stateBadge } from "./words.js";

/**
 * @typedef {import("../server/knowledge-api.js").Document} Document
 * @typedef {import("../server/knowledge-api.js").Folder} Folder
 *
 * @typedef {object} Actions
 * @property {(folder: string) => void} enter
 * @property {(document: Document) => void} open
 * @property {(document: Document) => void} download
 * @property {(document: Document) => void} move
 * @property {(document: Document) => void} replace
 * @property {(document: Document) => void} retry
 * @property {(document: Document) => void} remove
 * @property {(folder: Folder) => void} moveFolder
 * @property {(folder: Folder) => void} removeFolder
 */

export class DocumentList {
  element = h("ul", { className: "documents", "aria-label": gettext("Documents") });
  /** Rows by key, with what they show: unchanged ones stay, with the focus. */
  #rows = /** @type {Map<string, {row: HTMLElement, shown: string}>} */ (new Map());

  /**
   * @param {Actions} actions
   * @param {(folder: string) => string} address of a folder
   */
  constructor(actions, address) {
    this.actions = actions;
    this.address = address;
  }

  /**
   * @param {Folder[]} folders
   * @param {Document[]} documents
   * @param {boolean} writable
   */
  show(folders, documents, writable) {
    const rows = [
      ...folders.map((one) => this.#row(`folder ${one.path}`, one, writable, this.#folder)),
      ...documents.map((one) => this.#row(one.id, one, writable, this.#document)),
    ];
    const kept = new Set(rows);
    for (const [key, { row }] of this.#rows) {
      if (!kept.has(row)) {
        this.#rows.delete(key);
      }
    }
    for (const child of [...this.element.children]) {
      if (!kept.has(/** @type {HTMLElement} */ (child))) {
        child.remove();
      }
    }
    rows.forEach((row, at) => {
      if (this.element.children[at] !== row) {
        this.element.insertBefore(row, this.element.children[at] ?? null);
      }
    });
  }

  /**
   * @template T
   * @param {string} key
   * @param {T} value
   * @param {boolean} writable
   * @param {(value: T, writable: boolean) => HTMLElement} make
   */
  #row(key, value, writable, make) {
    const shown = JSON.stringify([value, writable]);
    const known = this.#rows.get(key);
    if (known?.shown === shown) {
      return known.row;
    }
    const row = make.call(this, value, writable);
    this.#rows.set(key, { row, shown });
    return row;
  }

  /**
   * @param {Folder} folder
   * @param {boolean} writable
   */
  #folder(folder, writable) {
    const name = folder.path.split("/").at(-1) ?? "";
    const link = h(
      "a",
      { className: "document-name", href: this.address(folder.path), dir: "auto" },
      name,
    );
    link.onclick = (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
        event.preventDefault();
        this.actions.enter(folder.path);
      }
    };
    const move = {
      icon: "edit",
      label: gettext("Rename or move"),
      run: () => this.actions.moveFolder(folder),
    };
    const remove = {
      icon: "delete",
      label: gettext("Delete folder"),
      danger: true,
      run: () => this.actions.removeFolder(folder),
    };
    return h(
      "li",
      { className: "document" },
      icon("folder"),
      h(
        "div",
        { className: "document-text" },
        link,
        h("span", { className: "quiet" }, documentCount(folder.documents)),
      ),
      writable ? menuButton(name, [move, remove]) : null,
    );
  }

  /**
   * @param {Document} document
   * @param {boolean} writable
   */
  #document(document, writable) {
    const { actions } = this;
    const { name, state, error, notes } = document;
    const opens = state === "ready";
    const title = opens
      ? h(
          "button",
          {
            type: "button",
            className: "document-name",
            dir: "auto",
            onclick: () => actions.open(document),
          },
          name,
        )
      : h("span", { className: "document-name", dir: "auto" }, name);
    const problem = error && state === "failed" ? this.#problem(document, writable) : null;
    return h(
      "li",
      { className: `document ${state}`, "data-state": state },
      icon(state === "failed" ? "warning" : "file"),
      h(
        "div",
        { className: "document-text" },
        h("div", { className: "document-head" }, title, stateBadge(state)),
        h("span", { className: "quiet" }, details(document)),
        problem,
        ...notes.map((note) => h("p", { className: "document-note" }, note)),
      ),
      menuButton(name, this.#items(document, writable)),
    );
  }

  /**
   * @param {Document} document
   * @param {boolean} writable
   */
  #problem(document, writable) {
    const again = h(
      "button",
      {
        type: "button",
        className: "button small",
        "aria-label": fill(gettext("Read again: {name}"), { name: document.name }),
        onclick: () => this.actions.retry(document),
      },
      gettext("Read again"),
    );
    return h(
      "p",
      { className: "document-problem" },
      h("span", {}, document.error?.message ?? ""),
      writable ? again : null,
    );
  }

  /**
   * @param {Document} document
   * @param {boolean} writable
   */
  #items(document, writable) {
    const { actions } = this;
    const item = (
      /** @type {string} */ drawing,
      /** @type {string} */ label,
      /** @type {(one: Document) => void} */ run,
    ) => ({
      icon: drawing,
      label,
      run: () => run(document),
    });
    return [
      ...(document.state === "ready" ? [item("file", gettext("Open"), actions.open)] : []),
      item("down", gettext("Download"), actions.download),
      ...(writable
        ? [
            item("edit", gettext("Rename or move"), actions.move),
            item("upload", gettext("Replace file"), actions.replace),
            { ...item("delete", gettext("Delete"), actions.remove), danger: true },
          ]
        : []),
    ];
  }
}

/**
 * @param {string} name
 * @param {Parameters<typeof openMenu>[1]} items
 */
export function menuButton(name, items) {
  const label = fill(gettext("Options of {name}"), { name });
  const button = h(
    "button",
    {
      type: "button",
      className: "icon-button",
      title: label,
      "aria-label": label,
      "aria-haspopup": "menu",
      "aria-expanded": "false",
    },
    icon("more"),
  );
  button.onclick = () => openMenu(button, items, () => button.focus());
  return button;
}
