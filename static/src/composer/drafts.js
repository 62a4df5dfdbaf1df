/**
 * Drafts by conversation and user, stored in the browser.
 *
 * A draft has two parts: the text in the box, and the text being sent. The second is removed only
 * when the server has accepted it, so that a closed tab or a failed request loses nothing.
 */
import { recall, remember } from "../lib/storage.js";

/**
 * @typedef {import("../lib/wire").Attachment} Attachment
 * @typedef {{text: string, sending: string, files: Attachment[]}} Draft files stay until they
 *   are sent
 */

/** A draft is stored this long after its last change, in ms. */
const PAUSE_MS = 400;

export class Drafts {
  /** Changes that are not stored yet, by key. @type {Map<string, Partial<Draft>>} */
  #changes = new Map();
  /** @type {any} */
  #timer = null;

  /** @param {string} person owner of the drafts: users may share a browser */
  constructor(person) {
    this.person = person;
    // Store pending changes when the page is left or put in the background.
    globalThis.addEventListener?.("pagehide", () => this.flush());
    globalThis.document?.addEventListener("visibilitychange", () => this.flush());
  }

  /** @param {string | null} conversation */
  #key(conversation) {
    return `draft:${this.person}:${conversation ?? "new"}`;
  }

  /** @param {string} conversation */
  has(conversation) {
    this.flush();
    return recall(this.#key(conversation)) !== null;
  }

  /** @param {string} conversation */
  forget(conversation) {
    this.#changes.delete(this.#key(conversation));
    remember(this.#key(conversation), null);
  }

  /**
   * @param {string | null} conversation
   * @returns {Draft}
   */
  load(conversation) {
    this.flush();
    return this.#stored(this.#key(conversation));
  }

  /** @param {string} key @returns {Draft} */
  #stored(key) {
    try {
      const draft = JSON.parse(recall(key) ?? "{}");
      const { text = "", sending = "", files = [] } = draft;
      return { text: String(text), sending: String(sending), files };
    } catch {
      return { text: "", sending: "", files: [] };
    }
  }

  /**
   * @param {string | null} conversation
   * @param {Partial<Draft>} change
   */
  save(conversation, change) {
    this.#change(conversation, change);
    this.flush();
  }

  /**
   * Save with a delay, for changes at each key.
   * @param {string | null} conversation
   * @param {Partial<Draft>} change
   */
  saveLater(conversation, change) {
    this.#change(conversation, change);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), PAUSE_MS);
  }

  /**
   * @param {string | null} conversation
   * @param {Partial<Draft>} change
   */
  #change(conversation, change) {
    const key = this.#key(conversation);
    this.#changes.set(key, { ...this.#changes.get(key), ...change });
  }

  /** Store pending changes. */
  flush() {
    clearTimeout(this.#timer);
    for (const [key, change] of this.#changes) {
      const draft = { ...this.#stored(key), ...change };
      const empty = draft.text === "" && draft.sending === "" && draft.files.length === 0;
      remember(key, empty ? null : JSON.stringify(draft));
    }
    this.#changes.clear();
  }
}
