/** All streams that this page follows: events in, subscriptions out. */
import { Stream } from "./stream.js";

/**
 * @typedef {import("../lib/wire").Subscribe | import("../lib/wire").Unsubscribe
 *   | import("../lib/wire").Ack} Subscription
 * @typedef {import("../lib/wire").Waiting | import("../lib/wire").Started
 *   | import("../lib/wire").Delta | import("../lib/wire").Alive
 *   | import("../lib/wire").Ended} StreamEvent
 */

/** Milliseconds after which a request for missing text may be repeated. */
const RESYNC_MS = 3000;
/** A stop that takes longer has failed. The server then refuses the next message. */
const STOP_MS = 5000;
/** Interval of checks for overdue heartbeats, in ms. */
const WATCH_MS = 500;

export class Streams {
  /** @type {Map<string, Stream>} */
  #streams = new Map();
  /** @type {Map<string, number>} */
  #resyncedAt = new Map();
  /** @type {{stream: Stream, resolve: () => void}[]} */
  #waiting = [];
  /** @type {any} runs while an answer is open */
  #watch = null;

  /**
   * @param {object} options
   * @param {(command: Subscription) => void} options.post
   * @param {(stream: Stream) => void} options.onChange
   * @param {(stream: Stream, message: import("../lib/wire").Message) => void} options.onEnd
   * @param {() => number} [options.now] milliseconds
   * @param {(work: () => void, ms: number) => any} [options.every] as `setInterval`
   */
  constructor({ post, onChange, onEnd, now = () => performance.now(), every }) {
    this.post = post;
    this.onChange = onChange;
    this.onEnd = onEnd;
    this.now = now;
    this.every = every ?? setInterval.bind(globalThis);
  }

  /**
   * @param {string} id
   * @param {boolean} [stopping] false if the stop has failed
   */
  stop(id, stopping = true) {
    const stream = this.#streams.get(id);
    if (stream && !stream.ended) {
      stream.stopping = stopping;
    }
  }

  /**
   * Resolve when an answer that is being stopped has ended, so that the next message may be sent.
   * @param {string | undefined} id
   * @returns {Promise<void>}
   */
  stopped(id) {
    const stream = this.#streams.get(id ?? "");
    if (!stream?.stopping) {
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#waiting.push({ stream, resolve });
      setTimeout(resolve, STOP_MS);
    });
  }

  /** @param {string} id */
  get(id) {
    return this.#streams.get(id) ?? null;
  }

  /**
   * Follow a generation from the local cursor. If the server sends it already (`subscribed`), no
   * command is needed.
   * @param {string} id
   * @param {boolean} [subscribed]
   */
  follow(id, subscribed = false) {
    let stream = this.#streams.get(id);
    if (!stream) {
      stream = new Stream(id);
      stream.heard(this.now());
      this.#streams.set(id, stream);
      this.#watch ??= this.every(() => this.look(), WATCH_MS);
      if (!subscribed) {
        this.#subscribe(stream);
      }
    }
    return stream;
  }

  /** Subscribe again after a reconnect: the new socket has no subscriptions. */
  followAgain() {
    for (const stream of this.#streams.values()) {
      if (!stream.ended) {
        stream.resyncing = false;
        stream.heard(this.now());
        this.#subscribe(stream);
      }
    }
  }

  /**
   * End a stream whose final text is known otherwise (the conversation was fetched).
   * @param {string} id
   * @param {string} text
   */
  settle(id, text) {
    const stream = this.#streams.get(id);
    if (stream && !stream.ended) {
      stream.settle(text);
      this.#release();
      this.post({ type: "unsubscribe", generation: id });
      this.onChange(stream);
    }
  }

  /**
   * Find the open answers whose heartbeats have stopped or resumed. Subscribe again to those that
   * the server may have stopped sending because of a fault.
   */
  look() {
    const open = [...this.#streams.values()].filter(({ ended }) => !ended);
    open.filter((stream) => stream.watch(this.now())).forEach(this.onChange);
    open.filter((stream) => stream.forgotten(this.now())).forEach((one) => this.#subscribe(one));
    if (open.length === 0) {
      clearInterval(this.#watch);
      this.#watch = null;
    }
  }

  /** @param {StreamEvent} event */
  handle(event) {
    const stream = this.follow(event.generation, true);
    stream.heard(this.now());
    const spoke = stream.watch(stream.heardAt);
    if (event.type === "alive") {
      if (spoke) {
        this.onChange(stream);
      }
      return;
    }
    if (event.type === "waiting") {
      const { ahead, model, progress = null, seconds = null } = event;
      stream.waiting = { ahead, model, progress, seconds };
    } else if (event.type === "started") {
      stream.waiting = null;
      stream.attempt = event.attempt;
      stream.syntax = event.syntax;
    } else if (event.type === "delta") {
      const outcome = stream.apply(event);
      stream.reasoningMs = event.reasoning_ms ?? stream.reasoningMs;
      if (outcome === "gap") {
        this.#resync(stream);
      }
      if (outcome !== "applied") {
        return;
      }
      this.#acknowledge(stream);
      if (stream.stopping) {
        return;
      }
    } else if (event.type === "ended") {
      if (stream.ended) {
        return;
      }
      if (stream.end(event.cursor, event.message.content) === "gap") {
        this.#resync(stream);
        return;
      }
      this.onEnd(stream, event.message);
      this.#release();
    }
    this.onChange(stream);
  }

  #release() {
    const ready = this.#waiting.filter(({ stream }) => !stream.stopping);
    this.#waiting = this.#waiting.filter(({ stream }) => stream.stopping);
    ready.forEach(({ resolve }) => resolve());
  }

  /** @param {Stream} stream */
  #acknowledge(stream) {
    if (stream.shouldAcknowledge(this.now())) {
      this.post({ type: "ack", generation: stream.id, cursor: stream.cursor });
    }
  }

  /** Request missing text once, however many ranges reveal the gap. @param {Stream} stream */
  #resync(stream) {
    const last = this.#resyncedAt.get(stream.id) ?? -Infinity;
    if (!stream.resyncing || this.now() - last > RESYNC_MS) {
      stream.resyncing = true;
      this.#resyncedAt.set(stream.id, this.now());
      this.#subscribe(stream);
    }
  }

  /** @param {Stream} stream */
  #subscribe(stream) {
    this.post({ type: "subscribe", generation: stream.id, cursor: stream.cursor });
  }
}
