/** All answers in the making that this page follows: events in, subscriptions out. */
import { Stream } from "./stream.js";

/** After this long a request for missing text may be repeated. */
const RESYNC_MS = 3000;
/** A stop that takes longer has failed: what was sent behind it is refused with the reason. */
const STOP_MS = 5000;

export class Streams {
  /** @type {Map<string, Stream>} */
  #streams = new Map();
  /** @type {Map<string, number>} */
  #resyncedAt = new Map();
  /** @type {{stream: Stream, resolve: () => void}[]} */
  #waiting = [];

  /**
   * @param {object} options
   * @param {(command: {type: string, [key: string]: any}) => void} options.post
   * @param {(stream: Stream) => void} options.onChange
   * @param {(stream: Stream, message: import("./thread.js").Message) => void} options.onEnd
   * @param {() => number} [options.now] milliseconds
   */
  constructor({ post, onChange, onEnd, now = () => performance.now() }) {
    this.post = post;
    this.onChange = onChange;
    this.onEnd = onEnd;
    this.now = now;
  }

  /**
   * @param {string} id
   * @param {boolean} [stopping] false: it goes on after all
   */
  stop(id, stopping = true) {
    const stream = this.#streams.get(id);
    if (stream && !stream.ended) {
      stream.stopping = stopping;
    }
  }

  /**
   * Resolves when an answer that is being stopped has ended: what follows it may be sent then.
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
   * Follows a generation from where we are; one that the server already sends us (`subscribed`)
   * needs no command.
   * @param {string} id
   * @param {boolean} [subscribed]
   */
  follow(id, subscribed = false) {
    let stream = this.#streams.get(id);
    if (!stream) {
      stream = new Stream(id);
      this.#streams.set(id, stream);
      if (!subscribed) {
        this.#subscribe(stream);
      }
    }
    return stream;
  }

  /** After a reconnect: the new socket follows nothing yet. */
  followAgain() {
    for (const stream of this.#streams.values()) {
      if (!stream.ended) {
        stream.resyncing = false;
        this.#subscribe(stream);
      }
    }
  }

  /**
   * The answer is known to be final from elsewhere (the conversation was fetched).
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

  /** @param {import("./connection.js").ServerEvent} event about a generation */
  handle(event) {
    const stream = this.follow(event.generation, true);
    if (event.type === "waiting") {
      const { ahead, model, progress = null, seconds = null } = event;
      stream.waiting = { ahead, model, progress, seconds };
    } else if (event.type === "started") {
      stream.waiting = null;
      stream.attempt = event.attempt;
      stream.syntax = event.syntax;
    } else if (event.type === "delta") {
      const outcome = stream.apply(/** @type {any} */ (event));
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

  /** Asks once for what is missing, however many ranges show that it is. @param {Stream} stream */
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
