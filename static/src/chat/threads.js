/** Threads of opened conversations. Loads messages that are missing. */
import { Thread, isOpen } from "./thread.js";

export class Threads {
  /** @type {Map<string, Thread>} */
  #threads = new Map();

  /**
   * @param {import("../server/api.js").Api} api
   * @param {import("./streams.js").Streams} streams
   */
  constructor(api, streams) {
    this.api = api;
    this.streams = streams;
  }

  /** @param {string} id */
  get(id) {
    return this.#threads.get(id) ?? null;
  }

  /** Return the thread of a conversation; create it if needed. @param {string} id */
  of(id) {
    const thread = this.#threads.get(id) ?? new Thread(id);
    this.#threads.set(id, thread);
    return thread;
  }

  /** @param {string} id */
  forget(id) {
    this.#threads.delete(id);
  }

  /**
   * @param {import("../lib/wire").Opening} data
   * @param {number} [headVersion] of the thread when it was asked for
   */
  adopt({ conversation, tree, messages, collections }, headVersion) {
    const thread = this.of(conversation.id);
    thread.collections = collections ?? [];
    thread.grow(tree);
    this.#take(thread, messages);
    if (headVersion === undefined || headVersion === thread.headVersion) {
      thread.head = conversation.head;
    }
  }

  /**
   * Load the next earlier messages.
   * @param {Thread} thread
   */
  async loadEarlier(thread) {
    const missing = thread.missing();
    if (missing !== null) {
      this.#take(thread, (await this.api.messages(thread.id, missing)).messages);
    }
  }

  /**
   * Show a branch that contains a message, and load its messages from that one on.
   * @param {Thread} thread
   * @param {string} message
   * @param {string | null} [leaf] of the branch; without one, the newest under the message
   * @returns {Promise<string>} the branch's last message
   */
  async show(thread, message, leaf = null) {
    const head = leaf ?? thread.newestLeaf(message) ?? message;
    let missing = thread.missing(head);
    while (missing !== null && !thread.path(head).some(({ id }) => id === message)) {
      this.#take(thread, (await this.api.messages(thread.id, missing)).messages);
      missing = thread.missing(head);
    }
    if (head !== thread.head) {
      thread.choose(head);
    }
    return head;
  }

  /**
   * Load messages of any branch.
   * @param {Thread} thread
   * @param {string[]} ids
   */
  async bring(thread, ids) {
    const missing = ids.filter((id) => !thread.messages.has(id));
    const found = await Promise.all(missing.map((id) => this.api.messages(thread.id, id)));
    for (const { messages } of found) {
      this.#take(thread, messages.slice(-1));
    }
  }

  /**
   * @param {Thread} thread
   * @param {import("../lib/wire").Message[]} messages
   */
  #take(thread, messages) {
    thread.merge(messages);
    for (const { generation, content } of messages) {
      if (isOpen(generation) && generation) {
        this.streams.follow(generation.id);
      } else if (generation) {
        this.streams.settle(generation.id, content);
      }
    }
  }
}
