/**
 * Texts that are not yet with the server, per conversation and person.
 *
 * A draft has two parts: what is in the box, and what is on its way. The second is forgotten
 * only when the server has accepted it, so that a closed tab or a failed send loses nothing.
 */
import { recall, remember } from "./storage.js";

/** @typedef {{text: string, sending: string}} Draft */

export class Drafts {
  /** @param {string} person whose drafts these are: several may share a browser */
  constructor(person) {
    this.person = person;
  }

  /** @param {string | null} conversation */
  #key(conversation) {
    return `draft:${this.person}:${conversation ?? "new"}`;
  }

  /**
   * @param {string | null} conversation
   * @returns {Draft}
   */
  load(conversation) {
    try {
      const { text = "", sending = "" } = JSON.parse(recall(this.#key(conversation)) ?? "{}");
      return { text: String(text), sending: String(sending) };
    } catch {
      return { text: "", sending: "" };
    }
  }

  /**
   * @param {string | null} conversation
   * @param {Partial<Draft>} change
   */
  save(conversation, change) {
    const draft = { ...this.load(conversation), ...change };
    const empty = draft.text === "" && draft.sending === "";
    remember(this.#key(conversation), empty ? null : JSON.stringify(draft));
  }
}
