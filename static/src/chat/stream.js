/**
 * State of one answer that is being streamed: pure, no socket, no document.
 *
 * Text arrives as ranges between cursors. A range is applied only if it starts at the local
 * cursor. A range that is covered already is dropped. Any other range means that text is missing,
 * and the caller subscribes again from `cursor`.
 *
 * @typedef {Pick<import("../lib/wire").Delta, "start" | "end" | "text">} Delta
 * @typedef {"applied" | "duplicate" | "gap"} Outcome
 */

/** Approximate cursor distance between two acknowledgements, and the longest time in ms. */
const ACK_UNITS = 16 * 1024;
const ACK_MS = 1000;
/** The server sends a heartbeat about every two seconds. */
const SILENT_MS = 3000;
/** Silence after which the server may no longer know that this page follows the answer. */
const FORGOTTEN_MS = 10_000;
const FORGOTTEN_MOST_MS = 160_000;

export class Stream {
  /** @param {string} id of the generation */
  constructor(id) {
    this.id = id;
    this.cursor = 0;
    this.text = "";
    /** Whether a gap was reported and the missing text has not arrived. */
    this.resyncing = false;
    this.ended = false;
    /** Whether the user has pressed Stop and the server has not confirmed the end. */
    this.stopping = false;
    /** @type {Pick<import("../lib/wire").Waiting, "ahead" | "model" | "progress" | "seconds"> | null} */
    this.waiting = null;
    this.attempt = 0;
    /** Markers of reasoning and tool calls in the text. @type {import("../lib/wire").OutputSyntax} */
    this.syntax = {};
    /** Duration of the reasoning in ms, once it has ended. @type {number | null} */
    this.reasoningMs = null;
    this.unacknowledged = 0;
    this.acknowledgedAt = 0;
    /** Time of the server's last event about it, in ms. */
    this.heardAt = 0;
    /** Whether heartbeats are overdue. */
    this.silent = false;
    /** Silence after which the page subscribes again, in ms. */
    this.patience = FORGOTTEN_MS;
  }

  /** Note an event of the server about it. @param {number} now in milliseconds */
  heard(now) {
    this.heardAt = now;
    this.patience = FORGOTTEN_MS;
  }

  /**
   * Return whether it is time to subscribe again; the time to the next one doubles.
   * @param {number} now in milliseconds
   */
  forgotten(now) {
    if (this.ended || now - this.heardAt < this.patience) {
      return false;
    }
    this.patience += Math.min(this.patience, FORGOTTEN_MOST_MS);
    return true;
  }

  /**
   * @param {number} now in milliseconds
   * @returns {boolean} whether `silent` changed
   */
  watch(now) {
    const silent = !this.ended && now - this.heardAt > SILENT_MS;
    const changed = silent !== this.silent;
    this.silent = silent;
    return changed;
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
   * Handle the end event. A cursor ahead of the local one means that text is missing: request it
   * once; if it is still missing then (the stream has expired), use the saved text.
   *
   * @param {number} cursor
   * @param {string} saved the whole answer from the database
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
   * Mark the answer as final.
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
   * Return whether an acknowledgement is due; the caller then sends `cursor`.
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
