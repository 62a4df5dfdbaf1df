/** Asks the server how many tokens what is written would take: seldom, and one question at a time. */

/** A pause in writing after which it is asked; more for a text that is costly to send. */
const PAUSE_MS = 350;
const CHARS_PER_MS = 100;

/**
 * @typedef {{model: string, assistant: string | null, conversation: string | null, parent: string | null,
 *   attachments: string[]}} Branch
 * @typedef {import("./context.js").Figures} Figures
 */

export class Meter {
  /** @type {Branch | null} */
  #branch = null;
  #key = "";
  #text = "";
  /** What the last answer was about. */
  #answered = { key: "", text: "" };
  #asking = false;
  /** @type {any} */
  #timer = null;
  /** @type {Figures | null} */
  figures = null;
  /** @type {Record<string, number>} tokens by id of attachment */
  files = {};

  /**
   * @param {object} options
   * @param {(command: {type: string, [key: string]: any}) => Promise<any>} options.request
   * @param {() => void} options.onChange
   * @param {{setTimeout: Function, clearTimeout: Function}} [options.clock]
   */
  constructor({ request, onChange, clock }) {
    this.request = request;
    this.onChange = onChange;
    this.clock = clock ?? {
      setTimeout: setTimeout.bind(globalThis),
      clearTimeout: clearTimeout.bind(globalThis),
    };
  }

  /** Whether the figures are those of what is written now. */
  get current() {
    return this.#answered.key === this.#key && this.#answered.text === this.#text;
  }

  /**
   * What comes before the message. Null: nothing can be said now.
   * @param {Branch | null} branch
   * @param {string} [state] that changes when the same branch must be counted anew
   */
  setBranch(branch, state = "") {
    const key = branch ? JSON.stringify([branch, state]) : "";
    if (key === this.#key) {
      return;
    }
    this.#key = key;
    this.#branch = branch;
    if (!branch) {
      this.figures = null;
      this.clock.clearTimeout(this.#timer);
      this.onChange();
      return;
    }
    this.#later(0);
  }

  /** @param {string} text */
  setText(text) {
    if (text !== this.#text) {
      this.#text = text;
      this.#later(PAUSE_MS + text.length / CHARS_PER_MS);
    }
  }

  /** @param {number} ms */
  #later(ms) {
    this.clock.clearTimeout(this.#timer);
    if (!this.#asking) {
      this.#timer = this.clock.setTimeout(() => this.#ask(), ms);
    }
  }

  async #ask() {
    const [branch, key, text] = [this.#branch, this.#key, this.#text];
    const whole = key !== this.#answered.key || this.figures?.estimated !== false;
    if (!branch || (!whole && text === this.#answered.text)) {
      return;
    }
    const { model, ...before } = branch;
    const command = { type: "measure", model, content: text };
    this.#asking = true;
    const found = await this.request(whole ? { ...command, branch: true, ...before } : command)
      // It is a help: what it was about is asked again with the next change.
      .catch(() => null);
    this.#asking = false;
    if (key === this.#key) {
      this.figures = found && this.#merged(found, whole);
      this.#answered = { key, text };
      this.onChange();
    }
    if (this.#key !== key || this.#text !== text) {
      this.#later(PAUSE_MS);
    }
  }

  /**
   * @param {any} found
   * @param {boolean} whole
   * @returns {Figures}
   */
  #merged(found, whole) {
    const { context, message, estimated } = found;
    if (whole) {
      this.files = found.attachments ?? {};
    }
    const { system, history } = whole ? found : (this.figures ?? found);
    const attachments = Object.values(this.files).reduce((sum, count) => sum + count, 0);
    return { context, message, estimated, system, history, attachments };
  }
}
