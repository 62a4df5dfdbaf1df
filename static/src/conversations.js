/**
 * The person's conversations as far as this page knows them, newest first, in views: what is
 * neither pinned nor put away, the archive, and each folder.
 */

/**
 * @typedef {import("./thread.js").Conversation} Conversation
 * @typedef {{id: string, name: string}} Folder
 * @typedef {{conversations: Conversation[], more: boolean}} Page
 * @typedef {Page & {pinned: Conversation[], folders: Folder[], archived: boolean}} FirstPage
 * @typedef {"pin" | "unpin" | "archive" | "unarchive" | "move" | "delete" | "restore"} Action
 */

export const MAIN = "main";
export const ARCHIVE = "archive";
/** The server takes no more ids at once. */
const IDS_MAX = 500;

/**
 * As one counts: 2 before 10.
 * @param {Folder} a
 * @param {Folder} b
 */
function byName(a, b) {
  return a.name.localeCompare(b.name, undefined, { numeric: true });
}

export class Conversations extends EventTarget {
  /** @type {Map<string, Conversation>} */
  #items = new Map();
  /** Deleted here: an answer that is under way must not bring it back. @type {Set<string>} */
  #gone = new Set();
  /** Whether there are further pages, by view; a view that is not in it was never asked for. */
  #more = new Map();
  #loading = false;
  /** @type {Folder[]} by name */
  folders = [];
  /** Whether anything was in the archive when the list was fetched. */
  #archived = false;
  view = MAIN;

  /**
   * @param {import("./api.js").Api} api
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

  /** Whether there is anything in the archive. */
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

  async loadMore() {
    const { view } = this;
    const last = this.sorted.at(-1);
    if (this.#loading || !this.#more.get(view) || !last) {
      return;
    }
    this.#loading = true;
    try {
      const page = await this.api.conversations(view, last);
      this.#more.set(view, page.more);
      this.merge(page.conversations);
    } finally {
      this.#loading = false;
    }
  }

  /** Fetches the newest page of the view again: what changed elsewhere is on it. */
  async refresh() {
    const { view } = this;
    this.#absorb(/** @type {FirstPage} */ (await this.api.conversations(view)), view);
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
   * Does one thing to many conversations.
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
   * @param {FirstPage} page
   * @param {string} view
   */
  #absorb(page, view) {
    const known = new Set([...page.conversations, ...page.pinned].map((item) => item.id));
    const oldest = page.conversations.at(-1);
    for (const item of [...this.#of(view), ...this.pinned]) {
      // Newer than the page's end and not on the page: deleted or put elsewhere meanwhile.
      const covered =
        item.pinned ||
        !page.more ||
        (oldest && Date.parse(item.updated_at) > Date.parse(oldest.updated_at));
      if (covered && !known.has(item.id)) {
        this.#items.delete(item.id);
      }
    }
    if (!page.more || !this.#more.has(view)) {
      this.#more.set(view, page.more);
    }
    this.folders = page.folders.sort(byName);
    this.#archived = page.archived;
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
        (a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at) || (a.id < b.id ? 1 : -1),
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
