/**
 * The messages of one conversation as a tree, and the branch that is shown: pure. The whole tree
 * is known; messages are loaded as needed.
 *
 * @typedef {import("../lib/wire").Generation} Generation
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../lib/wire").Opening["tree"]} Tree
 * @typedef {Pick<Message, "id" | "role" | "content" | "generation" | "attachments">} Step
 */

import { microseconds } from "../lib/moments.js";

/** @param {Generation | null | undefined} generation */
export function isOpen(generation) {
  return generation?.state === "queued" || generation?.state === "running";
}

/**
 * Return whether an update is outdated. An answer that has ended becomes open again only if it is
 * continued, with a later generation.
 * @param {Generation} news
 * @param {Generation} known
 */
function isOlder(news, known) {
  if (news.id !== known.id) {
    return microseconds(news.queued_at) < microseconds(known.queued_at);
  }
  return isOpen(news) && !isOpen(known);
}

/**
 * Keep the object of the sources if they are equal: their elements stay on the page, with the focus.
 * @param {Generation} news
 * @param {Generation} known
 */
function keepSources(news, known) {
  if (news.id === known.id && JSON.stringify(news.sources) === JSON.stringify(known.sources)) {
    news.sources = known.sources;
  }
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
    /** Incremented with each local choice, so that an older response can't undo it. */
    this.headVersion = 0;
    /** Choices that are being saved: the server may still answer with the head before them. */
    this.headSaves = 0;
    /** Those that are searched for its questions. @type {import("../lib/wire").CollectionFace[]} */
    this.collections = [];
  }

  /**
   * Merge the server's tree. Nodes that it lacks were created here since the request.
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
   * Add or replace messages, except by outdated ones.
   * @param {Message[]} messages
   */
  merge(messages) {
    for (const message of messages) {
      const known = this.messages.get(message.id);
      if (known?.generation && message.generation) {
        if (isOlder(message.generation, known.generation)) {
          continue;
        }
        keepSources(message.generation, known.generation);
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
   * Return the ids of a whole branch, oldest first.
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
   * Return the loaded messages at the end of a branch, up to the first gap.
   * @param {string | null} [head] of another branch than the shown one
   * @returns {Message[]}
   */
  path(head = this.head) {
    const branch = this.#branch(head);
    const from = branch.findLastIndex((id) => !this.messages.has(id)) + 1;
    return branch.slice(from).flatMap((id) => this.messages.get(id) ?? []);
  }

  /**
   * Return the last message of a branch that is not loaded, null if all are.
   * @param {string | null} [head] of another branch than the shown one
   */
  missing(head = this.head) {
    return this.#branch(head).findLast((id) => !this.messages.has(id)) ?? null;
  }

  /**
   * Return the whole branch; messages that are not loaded have only their position and role.
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
   * Return the message and its alternatives, oldest first.
   * @param {string} id
   */
  siblings(id) {
    return this.children.get(this.#nodes.get(id)?.parent ?? null) ?? [];
  }

  /**
   * Return the leaf that is reached by following the newest children.
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

  /** Return the open answer of the shown branch, if there is one. */
  openMessage() {
    return this.path().findLast((message) => isOpen(message.generation)) ?? null;
  }
}
