/**
 * What one page knows of one answer in the making: pure, no socket, no document.
 *
 * Text arrives as ranges between cursors. A range is applied only where it begins at this
 * side's cursor; one that is already covered is dropped; any other means that something is
 * missing, and the caller subscribes again from `cursor`.
 *
 * @typedef {object} Delta
 * @property {number} start cursor that the text follows
 * @property {number} end cursor after the text
 * @property {string} text
 *
 * @typedef {"done" | "failed" | "cancelled" | "interrupted"} EndState
 * @typedef {"applied" | "duplicate" | "gap"} Outcome
 */

/** Text units received between two acknowledgements, about; and the longest time between them. */
const ACK_UNITS = 16 * 1024;
const ACK_MS = 1000;

export class Stream {
  /** @param {string} id of the generation */
  constructor(id) {
    this.id = id;
    this.cursor = 0;
    this.text = "";
    /** True from a subscription that answers a gap until the text goes on. */
    this.resyncing = false;
    this.ended = false;
    /** Its owner has pressed Stop; the server's end of it is on its way. */
    this.stopping = false;
    /** @type {{ahead: number, model: string, progress: number | null,
     *   seconds: number | null} | null} */
    this.waiting = null;
    this.attempt = 0;
    /** How its text marks reasoning and calls. @type {import("./output.js").Syntax} */
    this.syntax = {};
    /** How long its reasoning took, once it is over. @type {number | null} */
    this.reasoningMs = null;
    this.unacknowledged = 0;
    this.acknowledgedAt = 0;
  }

  /**
   * @param {Delta} delta
   * @returns {Outcome}
   */
  apply(delta) {
    if (this.ended || delta.end <= this.cursor) {
      return "duplicate";
    }
    if (delta.start !== this.cursor) {
      return "gap";
    }
    this.text += delta.text;
    this.cursor = delta.end;
    this.resyncing = false;
    this.waiting = null;
    this.unacknowledged += delta.text.length;
    return "applied";
  }

  /**
   * The end as the server tells it. A cursor ahead of ours means that text is missing: the
   * first time that asks for it again; if the answer still does not fit (the stream has
   * expired meanwhile), the saved text is taken as it is.
   *
   * @param {number} cursor
   * @param {string} saved the whole answer as it is in the database
   * @returns {"ended" | "gap"}
   */
  end(cursor, saved) {
    if (cursor !== this.cursor && !this.resyncing && saved !== this.text) {
      return "gap";
    }
    this.settle(saved);
    return "ended";
  }

  /**
   * The answer is final, from wherever we know it.
   * @param {string} saved
   */
  settle(saved) {
    this.text = saved;
    this.ended = true;
    this.stopping = false;
    this.resyncing = false;
    this.waiting = null;
  }

  /**
   * Whether the server should hear how far we are; the caller then sends `cursor`.
   * @param {number} now in milliseconds
   */
  shouldAcknowledge(now) {
    if (this.unacknowledged === 0) {
      return false;
    }
    if (this.unacknowledged < ACK_UNITS && now - this.acknowledgedAt < ACK_MS) {
      return false;
    }
    this.unacknowledged = 0;
    this.acknowledgedAt = now;
    return true;
  }
}
