/** The conversations that were opened, and how what is missing of them gets here. */
import { Thread, isOpen } from "./thread.js";

export class Threads {
  /** @type {Map<string, Thread>} */
  #threads = new Map();

  /**
   * @param {import("./api.js").Api} api
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

  /** The one of a conversation, made when there is none. @param {string} id */
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
   * @param {import("./thread.js").Opening} data
   * @param {number} [headVersion] of the thread when it was asked for
   */
  adopt({ conversation, tree, messages }, headVersion) {
    const thread = this.of(conversation.id);
    thread.grow(tree);
    this.#take(thread, messages);
    if (headVersion === undefined || headVersion === thread.headVersion) {
      thread.head = conversation.head;
    }
  }

  /**
   * Fetches the next messages that are missing above what is here.
   * @param {Thread} thread
   */
  async loadEarlier(thread) {
    const missing = thread.missing();
    if (missing !== null) {
      this.#take(thread, (await this.api.messages(thread.id, missing)).messages);
    }
  }

  /**
   * Shows a branch that a message is on, with all its messages from that one on.
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
   * Messages of any branch, whichever is shown.
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
   * @param {import("./thread.js").Message[]} messages
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
