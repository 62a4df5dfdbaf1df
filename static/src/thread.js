/**
 * The messages of one conversation as a tree, and the branch that is shown: pure. The tree is
 * known as a whole; of the messages, those that were looked at.
 *
 * @typedef {object} Generation
 * @property {string} id
 * @property {string} state
 * @property {string} model
 * @property {{id: string, name: string, icon: string} | null} assistant
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
 * @typedef {Pick<Message, "id" | "role" | "content" | "generation" | "attachments">} Step
 * @typedef {[id: string, parent: number, kind: number][]} Tree see the server's `history.py`
 * @typedef {{conversation: Conversation, tree: Tree, messages: Message[]}} Opening
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

const ROLES = /** @type {const} */ (["user", "assistant", "system"]);
const EMPTY = 4;

export class Thread {
  /** @type {Map<string, {parent: string | null, role: Message["role"], empty: boolean}>} */
  #nodes = new Map();

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
   * Takes in the tree as the server has it. What it lacks was made here a moment ago.
   * @param {Tree} tree
   */
  grow(tree) {
    const own = [...this.#nodes];
    this.#nodes.clear();
    this.children.clear();
    for (const [id, parent, kind] of tree) {
      this.#add(id, tree[parent]?.[0] ?? null, ROLES[kind % EMPTY], kind >= EMPTY);
    }
    for (const [id, { parent, role, empty }] of own) {
      this.#add(id, parent, role, empty);
    }
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
      const empty = message.content === "" && message.attachments.length === 0;
      this.#add(message.id, message.parent, message.role, empty);
    }
  }

  /**
   * @param {string} id
   * @param {string | null} parent
   * @param {Message["role"]} role
   * @param {boolean} empty
   */
  #add(id, parent, role, empty) {
    const known = this.#nodes.get(id);
    this.#nodes.set(id, { parent, role, empty });
    if (!known) {
      this.children.set(parent, [...(this.children.get(parent) ?? []), id]);
    }
  }

  /** @param {string} id */
  knows(id) {
    return this.#nodes.has(id);
  }

  /**
   * @param {string | null} head
   */
  choose(head) {
    this.head = head;
    this.headVersion += 1;
  }

  /**
   * Ids of a whole branch, the first message's first.
   * @param {string | null} head
   */
  #branch(head) {
    const ids = [];
    let id = head && this.#nodes.has(head) ? head : this.newestLeaf(null);
    while (id) {
      ids.push(id);
      id = this.#nodes.get(id)?.parent ?? null;
    }
    return ids.reverse();
  }

  /**
   * The end of a branch, as far up as its messages are here.
   * @param {string | null} [head] of another branch than the shown one
   * @returns {Message[]}
   */
  path(head = this.head) {
    const branch = this.#branch(head);
    const from = branch.findLastIndex((id) => !this.messages.has(id)) + 1;
    return branch.slice(from).flatMap((id) => this.messages.get(id) ?? []);
  }

  /**
   * The last message of a branch that is not here; null when all are.
   * @param {string | null} [head] of another branch than the shown one
   */
  missing(head = this.head) {
    return this.#branch(head).findLast((id) => !this.messages.has(id)) ?? null;
  }

  /**
   * The whole branch, with messages that are not here told by their place alone.
   * @returns {Step[]}
   */
  outline() {
    return this.#branch(this.head).map((id) => {
      const { role, empty } = /** @type {{role: Message["role"], empty: boolean}} */ (
        this.#nodes.get(id)
      );
      const known = this.messages.get(id);
      return (
        known ?? { id, role, content: empty ? "" : "\u2026", generation: null, attachments: [] }
      );
    });
  }

  /**
   * The message and its alternatives, oldest first.
   * @param {string} id
   */
  siblings(id) {
    return this.children.get(this.#nodes.get(id)?.parent ?? null) ?? [];
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
}
