/**
 * The user's conversations as far as this page has loaded them, newest first, in views: main
 * (neither pinned, archived nor in a folder), the archive, and each folder.
 */

import { microseconds } from "../lib/moments.js";

/**
 * @typedef {import("../lib/wire").Conversation} Conversation
 * @typedef {import("../lib/wire").Folder} Folder
 * @typedef {import("../lib/wire").FirstPage} FirstPage
 * @typedef {import("../lib/wire").BulkAction["action"]} Action
 */

export const MAIN = "main";
export const ARCHIVE = "archive";
/** Most ids in one request. */
const IDS_MAX = 500;

/**
 * Compare names in natural order: 2 before 10.
 * @param {Folder} a
 * @param {Folder} b
 */
function byName(a, b) {
  return a.name.localeCompare(b.name, undefined, { numeric: true });
}

export class Conversations extends EventTarget {
  /** @type {Map<string, Conversation>} */
  #items = new Map();
  /** Known to be deleted: a response in flight must not restore them. @type {Set<string>} */
  #gone = new Set();
  /** Whether there are further pages, by view. A missing view has not been fetched. */
  #more = new Map();
  #loading = false;
  /** @type {Folder[]} by name */
  folders = [];
  /** Whether the archive had entries when the list was fetched. */
  #archived = false;
  view = MAIN;
  /** Number of conversations in each folder and the archive when the list was fetched. */
  counts = /** @type {Record<string, number>} */ ({});

  /**
   * @param {import("../server/api.js").Api} api
   * @param {FirstPage} page of the main view
   */
  constructor(api, page) {
    super();
    this.api = api;
    this.#absorb(page, MAIN);
  }

  /** The conversations of the view. @returns {Conversation[]} */
  get sorted() {
    return this.#of(this.view);
  }

  /** @returns {Conversation[]} */
  get pinned() {
    return this.#newestFirst((item) => item.pinned);
  }

  /** @param {string | null} id */
  get(id) {
    return id === null ? undefined : this.#items.get(id);
  }

  /** Whether the archive has entries. */
  get archive() {
    return this.#archived || [...this.#items.values()].some((item) => item.archived);
  }

  /** The open folder, if the view is one. */
  get folder() {
    return this.folders.find(({ id }) => id === this.view);
  }

  /** @param {Conversation[]} items */
  merge(items) {
    for (const item of items) {
      if (!this.#gone.has(item.id)) {
        this.#items.set(item.id, item);
      }
    }
    this.#changed();
  }

  /** @param {string} id */
  forget(id) {
    this.#gone.add(id);
    if (this.#items.delete(id)) {
      this.#changed();
    }
  }

  /** @param {string} view */
  async show(view) {
    this.view = view;
    this.#changed();
    if (!this.#more.has(view)) {
      await this.refresh();
    }
  }

  /** @returns {Promise<boolean>} whether a page was loaded and there is another one */
  async loadMore() {
    const { view } = this;
    const last = this.sorted.at(-1);
    if (this.#loading || !this.#more.get(view) || !last) {
      return false;
    }
    this.#loading = true;
    try {
      const page = await this.api.conversations(view, last);
      this.#more.set(view, page.more);
      this.merge(page.conversations);
      return page.more;
    } finally {
      this.#loading = false;
    }
  }

  /** Fetch the newest page of the view again, with changes made elsewhere. */
  async refresh() {
    const { view } = this;
    const gone = [...this.#gone];
    const page = /** @type {FirstPage} */ (await this.api.conversations(view));
    this.#revive(gone, page);
    this.#absorb(page, view);
  }

  /**
   * Fetch the view again, as far as it was loaded, after changes of many conversations elsewhere.
   * Other views are fetched again when they are shown.
   * @param {string | null} open a conversation to keep even if it is in none of the fetched pages
   */
  async reload(open) {
    const { view } = this;
    const loaded = this.sorted.length;
    const gone = [...this.#gone];
    const page = /** @type {FirstPage} */ (await this.api.conversations(view));
    const found = [...page.conversations];
    let { more } = page;
    while (more && found.length < loaded) {
      const next = await this.api.conversations(view, found.at(-1));
      found.push(...next.conversations);
      more = next.more;
    }
    if (this.view !== view) {
      // Another view was opened meanwhile.
      await this.reload(open);
      return;
    }
    const kept = this.get(open);
    this.#items = new Map(kept ? [[kept.id, kept]] : []);
    this.#more.clear();
    const whole = { ...page, conversations: found, more };
    this.#revive(gone, whole);
    this.#absorb(whole, view);
    if (this.view !== view) {
      // The folder was deleted; the main view is shown instead.
      await this.refresh();
    }
  }

  /**
   * @param {string} id
   * @param {string} title
   */
  async rename(id, title) {
    const { conversation } = await this.api.change(id, { title });
    this.merge([conversation]);
  }

  /**
   * Apply an action to several conversations.
   * @param {string[]} ids
   * @param {Action} action
   * @param {string | null} [folder] to move to
   */
  async organise(ids, action, folder = null) {
    for (let at = 0; at < ids.length; at += IDS_MAX) {
      const some = ids.slice(at, at + IDS_MAX);
      const { conversations } = await this.api.organise(some, action, folder);
      if (action === "delete") {
        conversations.forEach(({ id }) => this.forget(id));
      } else {
        conversations.forEach(({ id }) => this.#gone.delete(id));
        this.merge(conversations);
      }
    }
  }

  /**
   * Apply an action to all conversations of the view, loaded or not.
   * @param {Action} action
   * @param {string | null} [folder] to move to
   * @returns {Promise<{id: string, folder: string | null}[]>} those that changed, with the folder
   *   they were in
   */
  async organiseView(action, folder = null) {
    const { conversations } = await this.api.organiseView(this.view, action, folder);
    for (const { id } of conversations) {
      this.#items.delete(id);
      if (action === "delete") {
        this.#gone.add(id);
      }
    }
    // Loaded views may have changed too: fetch them again when they are shown.
    this.#more.clear();
    await this.refresh();
    return conversations;
  }

  /** Return the number of conversations in the view, loaded or not. */
  async countAll() {
    return (await this.api.countIn(this.view)).count;
  }

  /** Whether the view has further pages. */
  get hasMore() {
    return this.#more.get(this.view) === true;
  }

  /** @param {string} name @returns {Promise<Folder>} */
  async makeFolder(name) {
    const { folder } = await this.api.makeFolder(name);
    this.#setFolders([...this.folders, folder]);
    return folder;
  }

  /**
   * @param {string} id
   * @param {string} name
   */
  async renameFolder(id, name) {
    const { folder } = await this.api.renameFolder(id, name);
    this.#setFolders([...this.folders.filter((other) => other.id !== id), folder]);
  }

  /** @param {string} id */
  async removeFolder(id) {
    await this.api.removeFolder(id);
    for (const item of this.#items.values()) {
      if (item.folder === id) {
        this.#items.set(item.id, { ...item, folder: null });
      }
    }
    this.#more.delete(id);
    this.view = this.view === id ? MAIN : this.view;
    this.#setFolders(this.folders.filter((other) => other.id !== id));
    await this.refresh();
  }

  /**
   * Restore conversations that a later response lists: their deletion was undone elsewhere.
   * @param {string[]} gone known to be deleted when the page was requested
   * @param {FirstPage} page
   */
  #revive(gone, page) {
    const listed = new Set([...page.conversations, ...page.pinned].map((item) => item.id));
    gone.filter((id) => listed.has(id)).forEach((id) => this.#gone.delete(id));
  }

  /**
   * @param {FirstPage} page
   * @param {string} view
   */
  #absorb(page, view) {
    const known = new Set([...page.conversations, ...page.pinned].map((item) => item.id));
    const oldest = page.conversations.at(-1);
    for (const item of [...this.#of(view), ...this.pinned]) {
      // Newer than the page's last entry but not on it: deleted or moved meanwhile.
      const covered =
        item.pinned ||
        !page.more ||
        (oldest && microseconds(item.updated_at) > microseconds(oldest.updated_at));
      if (covered && !known.has(item.id)) {
        this.#items.delete(item.id);
      }
    }
    if (!page.more || !this.#more.has(view)) {
      this.#more.set(view, page.more);
    }
    this.folders = page.folders.sort(byName);
    this.#archived = page.archived;
    this.counts = page.counts;
    if (this.view !== MAIN && this.view !== ARCHIVE && !this.folder) {
      this.view = MAIN;
    }
    this.merge([...page.pinned, ...page.conversations]);
  }

  /** @param {string} view */
  #of(view) {
    if (view === ARCHIVE) {
      return this.#newestFirst((item) => item.archived);
    }
    const folder = view === MAIN ? null : view;
    return this.#newestFirst(
      (item) => !item.archived && item.folder === folder && !(view === MAIN && item.pinned),
    );
  }

  /** @param {(item: Conversation) => boolean} wanted */
  #newestFirst(wanted) {
    return [...this.#items.values()]
      .filter(wanted)
      .sort(
        (a, b) => microseconds(b.updated_at) - microseconds(a.updated_at) || (a.id < b.id ? 1 : -1),
      );
  }

  /** @param {Folder[]} folders */
  #setFolders(folders) {
    this.folders = folders.sort(byName);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
