/**
 * Texts that are not yet with the server, per conversation and person.
 *
 * A draft has two parts: what is in the box, and what is on its way. The second is forgotten
 * only when the server has accepted it, so that a closed tab or a failed send loses nothing.
 */
import { recall, remember } from "./storage.js";

/**
 * @typedef {import("./files.js").Attachment} Attachment
 * @typedef {{text: string, sending: string, files: Attachment[]}} Draft files stay until they
 *   are sent
 */

export class Drafts {
  /** @param {string} person whose drafts these are: several may share a browser */
  constructor(person) {
    this.person = person;
  }

  /** @param {string | null} conversation */
  #key(conversation) {
    return `draft:${this.person}:${conversation ?? "new"}`;
  }

  /** @param {string} conversation */
  has(conversation) {
    return recall(this.#key(conversation)) !== null;
  }

  /** @param {string} conversation */
  forget(conversation) {
    remember(this.#key(conversation), null);
  }

  /**
   * @param {string | null} conversation
   * @returns {Draft}
   */
  load(conversation) {
    try {
      const draft = JSON.parse(recall(this.#key(conversation)) ?? "{}");
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
    const draft = { ...this.load(conversation), ...change };
    const empty = draft.text === "" && draft.sending === "" && draft.files.length === 0;
    remember(this.#key(conversation), empty ? null : JSON.stringify(draft));
  }
}
