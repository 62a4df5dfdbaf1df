/**
 * The queue of uploads: a few files at once, unchanged ones skipped, interrupted ones resumed at
 * the piece that failed.
 *
 * @typedef {import("../server/knowledge-api.js").Begun} Begun
 *
 * @typedef {object} Upload
 * @property {string} collection id
 * @property {string} path in the collection
 * @property {File} file
 * @property {"waiting" | "checking" | "uploading" | "done" | "unchanged" | "failed"} state
 * @property {number} sent bytes
 * @property {string} problem why it failed, "" if not
 * @property {boolean} permanent whether another attempt can't help
 * @property {Begun | null} begun
 * @property {number} next piece to send
 */
import { gettext } from "../lib/i18n.js";
import { CommandError } from "../server/connection.js";
import { Hashes } from "./hashes.js";

/** Concurrent uploads. Each request is held in the server's memory. */
const AT_ONCE = 3;
const ATTEMPTS = 5;
const FIRST_WAIT_MS = 500;

export class Uploads extends EventTarget {
  /** @type {Upload[]} */
  items = [];
  /** The first item that may still wait. */
  #next = 0;
  #running = 0;
  #stop = new AbortController();
  #hashes = new Hashes();

  /** @param {import("../server/knowledge-api.js").KnowledgeApi} api */
  constructor(api) {
    super();
    this.api = api;
  }

  /** Whether files are waiting or being sent. */
  get busy() {
    return this.#running > 0 || this.items.some(({ state }) => state === "waiting");
  }

  /**
   * @param {string} collection id
   * @param {{file: File, path: string}[]} files with paths in the collection
   */
  add(collection, files) {
    if (!this.busy) {
      this.items = [];
      this.#next = 0;
    }
    for (const { file, path } of files) {
      this.items.push({
        ...{ collection, path, file, state: "waiting", sent: 0, problem: "" },
        ...{ permanent: false, begun: null, next: 0 },
      });
    }
    this.#fill();
  }

  /** Upload the failed files again, where that may help. */
  retry() {
    for (const item of this.items) {
      if (item.state === "failed" && !item.permanent) {
        Object.assign(item, { state: "waiting", problem: "" });
      }
    }
    this.#next = 0;
    this.#fill();
  }

  /** Stop; what is complete stays. */
  cancel() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.items = this.items.filter(({ state }) => state !== "waiting");
    this.#changed();
  }

  clear() {
    this.items = [];
    this.#next = 0;
    this.#changed();
  }

  #fill() {
    while (this.#running < AT_ONCE) {
      const item = this.#take();
      if (!item) {
        break;
      }
      this.#running += 1;
      item.state = "checking";
      this.#upload(item, this.#stop.signal).finally(() => {
        this.#running -= 1;
        this.#changed();
        this.#fill();
      });
    }
    this.#changed();
  }

  #take() {
    while (this.#next < this.items.length) {
      const item = this.items[this.#next];
      this.#next += 1;
      if (item.state === "waiting") {
        return item;
      }
    }
    return null;
  }

  /**
   * @param {Upload} item
   * @param {AbortSignal} signal
   */
  async #upload(item, signal) {
    try {
      await this.#send(item, signal);
    } catch (error) {
      if (signal.aborted) {
        this.items = this.items.filter((other) => other !== item);
        return;
      }
      this.#fail(item, error);
    }
  }

  /**
   * @param {Upload} item
   * @param {AbortSignal} signal
   */
  async #send(item, signal) {
    const { file, path } = item;
    if (!item.begun) {
      const sha256 = await this.#hashes.of(file);
      signal.throwIfAborted();
      if (sha256 === null) {
        const text = gettext("This file can't be read. It may have been moved; choose it again.");
        throw new CommandError("unreadable", text, true);
      }
      const values = { path, size: file.size, sha256 };
      item.begun = await this.#patiently(
        () => this.api.begin(item.collection, values, signal),
        signal,
      );
    }
    const begun = item.begun;
    if (begun.unchanged) {
      Object.assign(item, { state: "unchanged", sent: file.size });
      return;
    }
    item.state = "uploading";
    const { piece_bytes: size } = begun;
    while (item.next * size < file.size) {
      const from = item.next * size;
      const piece = file.slice(from, from + size);
      await this.#patiently(() => this.api.piece(begun, item.next, piece, signal), signal);
      item.next += 1;
      item.sent = Math.min(file.size, item.next * size);
      this.#changed();
    }
    await this.#patiently(() => this.api.finish(begun), signal);
    item.state = "done";
    this.dispatchEvent(new CustomEvent("uploaded", { detail: item }));
  }

  /**
   * Try again while the server can't be reached.
   * @template T
   * @param {() => Promise<T>} work
   * @param {AbortSignal} signal
   * @returns {Promise<T>}
   */
  async #patiently(work, signal) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        const lost = error instanceof CommandError && error.code === "connection_lost";
        if (!lost || attempt === ATTEMPTS) {
          throw error;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** attempt));
      signal.throwIfAborted();
    }
  }

  /**
   * @param {Upload} item
   * @param {unknown} error
   */
  #fail(item, error) {
    const known = error instanceof CommandError;
    const problem = error instanceof Error ? error.message : String(error);
    const permanent = known && error.permanent;
    if (known && error.code !== "connection_lost") {
      // The server may have forgotten the upload: another attempt begins it again.
      Object.assign(item, { begun: null, next: 0, sent: 0 });
    }
    Object.assign(item, { state: "failed", problem, permanent });
    // Without room, permission or session, the files that wait would fail alike.
    if (
      known &&
      /quota|_full|too_many|read_only|not_allowed|not_signed_in|not_found/u.test(error.code)
    ) {
      for (const other of this.items.filter(({ state }) => state === "waiting")) {
        Object.assign(other, { state: "failed", problem });
      }
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
