/**
 * The messages of one conversation as a tree, and the branch that is shown: pure.
 *
 * @typedef {object} Generation
 * @property {string} id
 * @property {string} state
 * @property {string} model
 * @property {string} finish_reason
 * @property {{code: string, message: string, permanent: boolean} | null} error
 * @property {{prompt_tokens: number | null, cached_tokens: number | null,
 *   completion_tokens: number | null}} usage
 * @property {number} left_out messages of the prompt that did not fit
 * @property {Record<string, number>} timings milliseconds
 * @property {string} queued_at
 * @property {import("./output.js").Syntax} syntax
 *
 * @typedef {object} Message
 * @property {string} id
 * @property {string} conversation
 * @property {string | null} parent
 * @property {"system" | "user" | "assistant"} role
 * @property {string} content
 * @property {import("./files.js").Attachment[]} attachments
 * @property {string} created_at
 * @property {Generation | null} generation
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {string | null} head
 * @property {boolean} keep_latest whether the model may go without the oldest messages
 * @property {string | null} folder
 * @property {boolean} pinned
 * @property {boolean} archived
 * @property {string} created_at
 * @property {string} updated_at
 */

/** @param {Generation | null | undefined} generation */
export function isOpen(generation) {
  return generation?.state === "queued" || generation?.state === "running";
}

/**
 * An answer that has ended never becomes an open one again, unless it is continued: then it has a
 * later generation.
 * @param {Generation} news
 * @param {Generation} known
 */
function isOlder(news, known) {
  if (news.id !== known.id) {
    return Date.parse(news.queued_at) < Date.parse(known.queued_at);
  }
  return isOpen(news) && !isOpen(known);
}

export class Thread {
  /** @param {string} id of the conversation */
  constructor(id) {
    this.id = id;
    /** @type {Map<string, Message>} */
    this.messages = new Map();
    /** @type {Map<string | null, string[]>} ids by parent, oldest first */
    this.children = new Map();
    /** @type {string | null} */
    this.head = null;
    /** Rises with each choice made here, so that an older answer of the server can't undo it. */
    this.headVersion = 0;
  }

  /**
   * Adds or replaces messages, but for news that are older than what we have.
   * @param {Message[]} messages
   */
  merge(messages) {
    for (const message of messages) {
      const known = this.messages.get(message.id);
      if (
        known?.generation &&
        message.generation &&
        isOlder(message.generation, known.generation)
      ) {
        continue;
      }
      this.messages.set(message.id, message);
      if (!known) {
        const siblings = this.children.get(message.parent) ?? [];
        siblings.push(message.id);
        siblings.sort((a, b) => this.#order(a, b));
        this.children.set(message.parent, siblings);
      }
    }
  }

  /**
   * @param {string | null} head
   */
  choose(head) {
    this.head = head;
    this.headVersion += 1;
  }

  /** The shown branch, first message first. @returns {Message[]} */
  path() {
    const path = [];
    let id = this.head && this.messages.has(this.head) ? this.head : this.newestLeaf(null);
    while (id) {
      const message = this.messages.get(id);
      if (!message) {
        break;
      }
      path.push(message);
      id = message.parent;
    }
    return path.reverse();
  }

  /**
   * The message and its alternatives, oldest first.
   * @param {string} id
   */
  siblings(id) {
    return this.children.get(this.messages.get(id)?.parent ?? null) ?? [];
  }

  /**
   * The leaf that following the newest child leads to.
   * @param {string | null} id
   */
  newestLeaf(id) {
    let leaf = id;
    for (;;) {
      const next = this.children.get(leaf)?.at(-1);
      if (!next) {
        return leaf;
      }
      leaf = next;
    }
  }

  /** The open answer of the shown branch, if there is one. */
  openMessage() {
    return this.path().findLast((message) => isOpen(message.generation)) ?? null;
  }

  /**
   * @param {string} a
   * @param {string} b
   */
  #order(a, b) {
    const [x, y] = [this.messages.get(a), this.messages.get(b)];
    return Date.parse(x?.created_at ?? "") - Date.parse(y?.created_at ?? "");
  }
}
