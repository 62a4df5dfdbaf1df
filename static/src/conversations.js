/** The person's conversations as far as this page knows them, newest first. */

/** @typedef {import("./thread.js").Conversation} Conversation */

export class Conversations extends EventTarget {
  /** @type {Map<string, Conversation>} */
  #items = new Map();
  /** Deleted here: an answer that is under way must not bring it back. @type {Set<string>} */
  #gone = new Set();
  #loading = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {Conversation[]} items first page
   * @param {boolean} more whether there are further pages
   */
  constructor(api, items, more) {
    super();
    this.api = api;
    this.more = more;
    this.merge(items);
  }

  /** @returns {Conversation[]} */
  get sorted() {
    return [...this.#items.values()].sort(
      (a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at) || (a.id < b.id ? 1 : -1),
    );
  }

  /** @param {string | null} id */
  get(id) {
    return id === null ? undefined : this.#items.get(id);
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

  async loadMore() {
    const last = this.sorted.at(-1);
    if (this.#loading || !this.more || !last) {
      return;
    }
    this.#loading = true;
    try {
      const page = await this.api.conversations(last);
      this.more = page.more;
      this.merge(page.conversations);
    } finally {
      this.#loading = false;
    }
  }

  /** Fetches the newest page again: what changed elsewhere is on it. */
  async refresh() {
    const page = await this.api.conversations();
    const oldest = page.conversations.at(-1);
    const known = new Set(page.conversations.map((item) => item.id));
    for (const item of this.sorted) {
      // Newer than the page's end and not on the page: deleted elsewhere.
      const covered =
        !page.more || (oldest && Date.parse(item.updated_at) > Date.parse(oldest.updated_at));
      if (covered && !known.has(item.id)) {
        this.#items.delete(item.id);
      }
    }
    if (!page.more) {
      this.more = false;
    }
    this.merge(page.conversations);
  }

  /**
   * @param {string} id
   * @param {string} title
   */
  async rename(id, title) {
    const { conversation } = await this.api.change(id, { title });
    this.merge([conversation]);
  }

  /** @param {string} id */
  async remove(id) {
    await this.api.remove(id);
    this.forget(id);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
