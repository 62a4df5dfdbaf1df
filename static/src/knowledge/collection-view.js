/** One collection: its folders and documents, uploads, search and sharing. */
import { ask, confirm } from "../lib/dialogs.js";
import { h, isSignedOut } from "../lib/dom.js";
import { bytes, fill, gettext, ngettext, number } from "../lib/i18n.js";
import { CollectionSearch } from "./collection-search.js";
import { DocumentList, menuButton } from "./document-list.js";
import { MOST_FILES, picked, sift } from "./dropped.js";
import { access, badges, blank, button, documentCount, isOpen } from "./words.js";

/**
 * @typedef {import("../server/knowledge-api.js").Collection} Collection
 * @typedef {import("../server/knowledge-api.js").Document} Document
 * @typedef {import("../server/knowledge-api.js").Folder} Folder
 *
 * @typedef {object} Desk what the views of the page share
 * @property {import("../server/knowledge-api.js").KnowledgeApi} api
 * @property {import("./uploads.js").Uploads} uploads
 * @property {(collection: string | null, folder?: string) => void} go
 * @property {(collection: string, folder: string) => string} address
 * @property {(collection: string) => string} chatAddress of a new chat with the collection
 * @property {() => Promise<Collection[]>} refresh load the collections again
 * @property {(collection: Collection) => void} edit
 * @property {(collection: Collection) => void} share
 * @property {(collection: Collection) => void} remove
 * @property {(text: string) => void} say to screen readers
 */

/** While documents are read: the first wait, and the longest while nothing changes, in ms. */
const POLL_MS = 1500;
const POLL_MOST_MS = 15_000;
/** Pages of the list that are refreshed. */
const PAGES = 10;
const PATH_CHARS = 500;

export class CollectionView {
  /** @type {Folder[]} */
  #folders = [];
  /** @type {Document[]} */
  #documents = [];
  /** @type {string | null} */
  #next = null;
  #pages = 1;
  #loaded = false;
  /** @type {any} */
  #timer = null;
  #wait = POLL_MS;
  #ended = false;
  #problem = h("p", { className: "notice error", role: "alert", hidden: true });
  #note = h("p", { className: "notice", role: "status", hidden: true });
  #heading = h("h1", { tabIndex: -1, dir: "auto" });
  #meta = h("p", { className: "shelf-meta" });
  #actions = h("div", { className: "shelf-actions" });
  #empty = h("div", {});
  #more = button("down", gettext("Show more"), () => this.#showMore());
  /** @type {HTMLInputElement} */
  #files = h("input", { type: "file", multiple: true, hidden: true, id: "add-files" });
  /** @type {HTMLInputElement} */
  #directory = h("input", { type: "file", hidden: true, id: "add-folder" });
  /** @type {HTMLInputElement} */
  #replacement = h("input", { type: "file", hidden: true });
  /** The path that the next replacement goes to. */
  #replaced = "";

  /**
   * @param {Desk} desk
   * @param {Collection} collection
   * @param {string} folder "" for the top
   */
  constructor(desk, collection, folder) {
    this.desk = desk;
    this.collection = collection;
    this.folder = folder;
    this.#directory.webkitdirectory = true;
    for (const input of [this.#files, this.#directory]) {
      input.addEventListener("change", () => {
        this.add(picked(input.files ?? []));
        input.value = "";
      });
    }
    this.#replacement.addEventListener("change", () => {
      const file = this.#replacement.files?.[0];
      if (file) {
        desk.uploads.add(collection.id, [{ file, path: this.#replaced }]);
      }
      this.#replacement.value = "";
    });
    this.list = new DocumentList(
      {
        enter: (path) => desk.go(collection.id, path),
        open: (document) => void openDocument(document),
        download: (document) => download(desk.api.file(document.id), document.name),
        move: (document) => void this.#move(document),
        replace: (document) => {
          this.#replaced = document.path;
          this.#replacement.click();
        },
        retry: (document) => void this.#do(desk.api.retry(document.id)),
        remove: (document) => void this.#remove(document),
        moveFolder: (one) => void this.#moveFolder(one),
        removeFolder: (one) => void this.#removeFolder(one),
      },
      (path) => desk.address(collection.id, path),
    );
    this.search = new CollectionSearch(desk.api, collection.id, {
      onOpen: (passage) => void openPassage(passage),
      onState: (searching) => {
        this.#content.hidden = searching;
      },
    });
    this.#content = h("div", {}, this.list.element, this.#more, this.#empty);
    this.element = h(
      "div",
      {},
      h("header", { className: "shelf-head" }, this.#heading, this.#meta, this.#actions),
      this.#problem,
      this.#note,
      h("div", { className: "shelf-search", role: "search" }, this.search.box),
      this.search.results,
      this.#content,
      this.#files,
      this.#directory,
      this.#replacement,
    );
    this.#more.hidden = true;
    this.#visible = () => !document.hidden && this.#poll(0);
    document.addEventListener("visibilitychange", this.#visible);
    this.#uploaded = () => this.#poll(300);
    desk.uploads.addEventListener("uploaded", this.#uploaded);
    this.show(collection);
    this.load();
  }

  #content;
  #visible;
  #uploaded;

  /** Stop to follow the collection. */
  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#visible);
    this.desk.uploads.removeEventListener("uploaded", this.#uploaded);
  }

  focus() {
    this.#heading.focus({ preventScroll: true });
  }

  /** @param {Collection} collection with new figures */
  show(collection) {
    const first = this.#actions.childElementCount === 0;
    const changed = JSON.stringify(collection) !== JSON.stringify(this.collection);
    this.collection = collection;
    if (!first && !changed) {
      return;
    }
    const { name, description, documents, bytes: size } = collection;
    this.#heading.textContent = this.folder ? (this.folder.split("/").at(-1) ?? "") : name;
    const facts = [access(collection), documentCount(documents), bytes(size)];
    this.#meta.replaceChildren(
      ...(description && !this.folder
        ? [h("span", { className: "shelf-description", dir: "auto" }, description)]
        : []),
      h("span", {}, facts.join(" · ")),
      ...badges(collection),
    );
    if (first || changed) {
      this.#drawActions();
    }
    this.#drawEmpty();
  }

  #drawActions() {
    const { collection, desk } = this;
    if (this.#actions.contains(document.activeElement)) {
      return; // the menu that is open returns the focus to its button
    }
    const talk = h(
      "a",
      { className: "button", href: desk.chatAddress(collection.id) },
      gettext("Ask a question"),
    );
    const items = [];
    if (collection.may_write) {
      items.push({
        icon: "new-folder",
        label: gettext("New folder"),
        run: () => void this.#newFolder(),
      });
    }
    if (collection.may_manage) {
      items.push(
        {
          icon: "edit",
          label: gettext("Edit name and description"),
          run: () => desk.edit(this.collection),
        },
        {
          icon: "delete",
          label: gettext("Delete collection"),
          danger: true,
          run: () => desk.remove(this.collection),
        },
      );
    }
    this.#actions.replaceChildren(
      ...(collection.may_write
        ? [
            button("upload", gettext("Upload files"), () => this.#files.click(), "primary"),
            button("folder", gettext("Upload folder"), () => this.#directory.click()),
          ]
        : []),
      ...(collection.may_manage
        ? [button("people", gettext("Share"), () => desk.share(this.collection))]
        : []),
      talk,
      ...(items.length > 0 ? [menuButton(collection.name, items)] : []),
    );
  }

  #drawEmpty() {
    const none = this.#loaded && this.#folders.length + this.#documents.length === 0;
    this.#empty.hidden = !none;
    this.list.element.hidden = !this.#loaded || none;
    if (!none) {
      this.#empty.replaceChildren();
    } else if (this.#empty.childElementCount === 0) {
      const writable = this.collection.may_write;
      this.#empty.append(
        blank(
          "upload",
          this.folder ? gettext("This folder is empty") : gettext("No documents yet"),
          writable
            ? gettext(
                "Drop files or folders here, or use the buttons above. PDF, Office documents, web pages, e-mail, text, tables and code can be read.",
              )
            : gettext("Users who can edit this collection have not added any documents."),
        ),
      );
    }
  }

  /**
   * Upload files into the shown folder.
   * @param {import("./dropped.js").Chosen[]} chosen
   */
  add(chosen) {
    if (!this.collection.may_write) {
      this.#fail(gettext("You can read this collection, but not change it."));
      return;
    }
    const { files, skipped } = sift(chosen);
    this.#problem.hidden = true;
    if (files.length > MOST_FILES) {
      const text = gettext(
        "Upload at most {count} files at once. For larger folders, an administrator can use “manage.py knowledge sync”.",
      );
      this.#fail(fill(text, { count: number(MOST_FILES) }));
      return;
    }
    this.#note.hidden = skipped === 0;
    this.#note.textContent = fill(
      ngettext("{count} system file was left out.", "{count} system files were left out.", skipped),
      { count: number(skipped) },
    );
    const below = this.folder ? `${this.folder}/` : "";
    this.desk.uploads.add(
      this.collection.id,
      files.map(({ file, path }) => ({ file, path: below + path })),
    );
  }

  /** Load the pages of the list that are shown, and the figures of the collection. */
  async load() {
    try {
      const [found] = await Promise.all([this.#fetch(), this.desk.refresh()]);
      if (this.#ended) {
        return;
      }
      const before = JSON.stringify([this.#folders, this.#documents]);
      this.#folders = found.folders;
      this.#documents = found.documents;
      this.#next = found.next;
      this.#loaded = true;
      this.#draw();
      const changed = before !== JSON.stringify([this.#folders, this.#documents]);
      this.#wait = changed ? POLL_MS : Math.min(POLL_MOST_MS, this.#wait * 1.5);
    } catch (error) {
      this.#wait = POLL_MOST_MS;
      if (!isSignedOut(error) && !this.#loaded) {
        this.#fail(error instanceof Error ? error.message : String(error));
      }
    }
    const open = this.collection.open > 0 || this.#documents.some(({ state }) => isOpen(state));
    if (open) {
      this.#poll(this.#wait);
    }
  }

  async #fetch() {
    const { api } = this.desk;
    const first = await api.documents(this.collection.id, this.folder);
    const documents = [...first.documents];
    let { next } = first;
    for (let page = 1; page < Math.min(this.#pages, PAGES) && next; page += 1) {
      const more = await api.documents(this.collection.id, this.folder, next);
      documents.push(...more.documents);
      next = more.next;
    }
    return { folders: first.folders, documents, next };
  }

  /** @param {number} wait in ms */
  #poll(wait) {
    clearTimeout(this.#timer);
    if (!this.#ended && !document.hidden) {
      this.#timer = setTimeout(() => this.load(), wait);
    }
  }

  #draw() {
    this.list.show(this.#folders, this.#documents, this.collection.may_write);
    this.#more.hidden = this.#next === null || this.#pages >= PAGES;
    this.#drawEmpty();
  }

  async #showMore() {
    const focused = this.#documents.length;
    this.#pages += 1;
    await this.load();
    /** @type {HTMLElement | null | undefined} */
    const row = this.list.element.children[this.#folders.length + focused]?.querySelector("button");
    row?.focus();
  }

  /** @param {string} text */
  #fail(text) {
    this.#problem.textContent = text;
    this.#problem.hidden = false;
  }

  /** @param {Promise<unknown>} work */
  async #do(work) {
    this.#problem.hidden = true;
    try {
      await work;
    } catch (error) {
      if (!isSignedOut(error)) {
        this.#fail(error instanceof Error ? error.message : String(error));
      }
    }
    this.#wait = POLL_MS;
    await this.load();
  }

  async #newFolder() {
    const { id } = this.collection;
    let made = "";
    await ask(gettext("New folder"), gettext("Name"), "", async (name) => {
      const below = this.folder ? `${this.folder}/` : "";
      made = below + name.replaceAll("/", "-");
    });
    if (made) {
      // A folder exists by its documents: the server knows it after the first upload.
      this.desk.go(id, made);
    }
  }

  /** @param {Document} document */
  async #move(document) {
    await ask(
      gettext("Rename or move"),
      gettext("Path in the collection, with / between folders"),
      document.path,
      (path) => this.desk.api.move(document.id, path),
      PATH_CHARS,
    );
    await this.load();
  }

  /** @param {Document} document */
  async #remove(document) {
    const text = gettext(
      "Its text and its versions are deleted. Answers no longer find it, and marks in earlier answers no longer open it. This can't be undone.",
    );
    const title = fill(gettext("Delete {name}?"), { name: document.name });
    if (await confirm(title, text, gettext("Delete"))) {
      await this.#do(this.desk.api.removeDocument(document.id));
      this.desk.say(fill(gettext("{name} was deleted."), { name: document.name }));
    }
  }

  /** @param {Folder} folder */
  async #moveFolder(folder) {
    await ask(
      gettext("Rename or move"),
      gettext("Path in the collection, with / between folders"),
      folder.path,
      (path) => this.desk.api.moveFolder(this.collection.id, folder.path, path),
      PATH_CHARS,
    );
    await this.load();
  }

  /** @param {Folder} folder */
  async #removeFolder(folder) {
    const text = ngettext(
      "{count} document in it is deleted with its text. Answers no longer find it. This can't be undone.",
      "All {count} documents in it are deleted with their text. Answers no longer find them. This can't be undone.",
      folder.documents,
    );
    const name = folder.path.split("/").at(-1) ?? "";
    const title = fill(gettext("Delete the folder {name}?"), { name });
    const filled = fill(text, { count: number(folder.documents) });
    if (await confirm(title, filled, gettext("Delete"))) {
      await this.#do(this.desk.api.removeFolder(this.collection.id, folder.path));
      this.desk.say(fill(gettext("{name} was deleted."), { name }));
    }
  }
}

/** @param {Document} document */
async function openDocument({ id, name, kind }) {
  const { openDocument: open } = await import("../documents/viewer.js");
  open({ id, name, kind });
}

/** @param {import("../server/knowledge-api.js").Passage} passage */
async function openPassage({ id }) {
  const { openPassage: open } = await import("../documents/viewer.js");
  open(id);
}

/**
 * @param {string} address
 * @param {string} name
 */
function download(address, name) {
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
