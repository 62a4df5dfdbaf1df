/**
 * Temporary chats: the server stores nothing of them, the page keeps them in its tab.
 *
 * The one of a tab survives a reload in `sessionStorage`. An answer that was being generated is
 * followed again by the id of its generation; its text comes from the server's stream.
 */
import { forgetAll, isTemporary, recall, remember, TEMPORARY } from "../lib/storage.js";
import { randomId } from "../lib/dom.js";
import { Thread, isOpen } from "./thread.js";

/**
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../lib/wire").Generation} Generation
 * @typedef {{id: string, head: string | null, keepLatest: boolean, messages: Message[]}} Saved
 */

export { isTemporary };

/** A chat and whether the oldest messages may be left out of prompts. */
export class TemporaryChat {
  keepLatest = false;
  /** Whether the tab has no room for it: a reload would lose it. */
  unsaved = false;

  /**
   * @param {string} person whose chat it is: users may share a tab
   * @param {string} [id]
   */
  constructor(person, id = TEMPORARY + randomId()) {
    this.person = person;
    this.thread = new Thread(id);
  }

  get id() {
    return this.thread.id;
  }

  /** Return the tab's chat after a reload, if any. @param {string} person */
  static restore(person) {
    try {
      /** @type {Saved} */
      const saved = JSON.parse(recall(key(person)) ?? "");
      const chat = new TemporaryChat(person, saved.id);
      chat.keepLatest = saved.keepLatest;
      chat.thread.merge(saved.messages);
      chat.thread.head = saved.head;
      return chat;
    } catch {
      return null;
    }
  }

  /**
   * Save it in the tab, with the streamed part of open answers.
   * @param {(message: Message) => string} textOf
   */
  save(textOf = ({ content }) => content) {
    const messages = [...this.thread.messages.values()].map((message) => ({
      ...message,
      content: isOpen(message.generation) ? textOf(message) : message.content,
    }));
    const saved = { id: this.id, head: this.thread.head, keepLatest: this.keepLatest, messages };
    this.unsaved = !remember(key(this.person), JSON.stringify(saved));
  }

  /** Remove it and its drafts from the tab. */
  discard() {
    forgetAll(TEMPORARY);
  }

  /**
   * Return the branch up to a message, as the server takes it.
   * @param {string | null} leaf
   */
  branch(leaf) {
    return leaf === null
      ? []
      : this.thread.path(leaf).map(({ role, content, generation }) => ({
          role: /** @type {"user" | "assistant"} */ (role),
          content,
          syntax: generation?.syntax ?? {},
        }));
  }

  /**
   * Return a user's message that is not part of the thread yet.
   * @param {string} content
   * @param {string | null} parent
   * @returns {Message}
   */
  question(content, parent) {
    return {
      ...this.#blank(TEMPORARY + randomId(), parent),
      role: "user",
      content,
    };
  }

  /**
   * Return the message of an answer that has just been accepted.
   * @param {Generation} generation
   * @param {string | null} parent
   * @returns {Message}
   */
  answer(generation, parent) {
    return { ...this.#blank(TEMPORARY + generation.id, parent), role: "assistant", generation };
  }

  /**
   * @param {string} id
   * @param {string | null} parent
   * @returns {Omit<Message, "role">}
   */
  #blank(id, parent) {
    return {
      id,
      conversation: this.id,
      parent,
      content: "",
      created_at: new Date().toISOString(),
      attachments: [],
      generation: null,
    };
  }

  /** Return the answer of a generation. @param {string} generation */
  answerOf(generation) {
    return (
      [...this.thread.messages.values()].find((message) => message.generation?.id === generation) ??
      null
    );
  }

  /**
   * Take the end of an answer.
   * @param {string} content
   * @param {Generation} generation
   */
  end(content, generation) {
    const message = this.answerOf(generation.id);
    if (message) {
      this.thread.merge([{ ...message, content, generation }]);
    }
  }

  get openAnswers() {
    return [...this.thread.messages.values()].filter(({ generation }) => isOpen(generation));
  }
}

/** @param {string} person */
function key(person) {
  return `${TEMPORARY}chat:${person}`;
}
