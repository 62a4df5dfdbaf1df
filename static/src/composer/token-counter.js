/** Request token counts for the message: after pauses, and one request at a time. */

/** Pause in typing before a request, in ms; longer for a long text. */
const PAUSE_MS = 350;
const CHARS_PER_MS = 100;

/**
 * @typedef {{model: string, assistant: string | null, conversation: string | null, parent: string | null,
 *   attachments: string[], selections?: import("../lib/wire").Chosen[], collections?: string[], messages?: import("../lib/wire").TemporaryMessage[]}} Branch
 * @typedef {import("../chat/context.js").Figures} Figures
 * @typedef {Omit<import("../lib/wire").CountTokens, "id">} Measure
 * @typedef {import("../lib/wire").TokenCounts} Measured
 */

export class TokenCounter {
  /** @type {Branch | null} */
  #branch = null;
  #key = "";
  #text = "";
  /** What the last response counted. */
  #answered = { key: "", text: "" };
  #asking = false;
  /** @type {any} */
  #timer = null;
  /** @type {Figures | null} */
  figures = null;
  /** @type {Record<string, number>} tokens by id of attachment */
  files = {};
  /** Attachments of which what matches the question is sent. @type {string[]} */
  matching = [];

  /**
   * @param {object} options
   * @param {(command: Measure) => Promise<Measured>} options.request
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

  /** Whether the figures match the current text. */
  get current() {
    return this.#answered.key === this.#key && this.#answered.text === this.#text;
  }

  /**
   * Set what comes before the message. Null: unknown.
   * @param {Branch | null} branch
   * @param {string} [state] a change makes the same branch be counted again
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
    /** @type {Measure} */
    const command = { type: "measure", model, content: text };
    this.#asking = true;
    const found = await this.request(whole ? { ...command, branch: true, ...before } : command)
      // Counting is optional: the next change repeats the request.
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
   * @param {Measured} found
   * @param {boolean} whole
   * @returns {Figures}
   */
  #merged(found, whole) {
    const { context, message, estimated } = found;
    if (whole) {
      this.files = found.attachments ?? {};
      this.matching = found.matching ?? [];
    }
    const { system, history, passages } = whole ? found : (this.figures ?? found);
    const attachments = Object.values(this.files).reduce((sum, count) => sum + count, 0);
    return {
      context,
      message,
      estimated,
      attachments,
      system: system ?? 0,
      history: history ?? 0,
      passages: passages ?? 0,
    };
  }
}
