/** SHA-256 of files, computed in a worker. */

// The entry point `hash-worker.js` of `build.mjs`; this module is in the bundle beside it.
const WORKER = new URL("./hash-worker.js", import.meta.url);

export class Hashes {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Map<number, (sha256: string | null) => void>} */
  #open = new Map();
  #last = 0;

  /**
   * @param {File} file
   * @returns {Promise<string | null>} hexadecimal; null if the file can't be read
   */
  of(file) {
    if (!this.#worker) {
      this.#worker = new Worker(WORKER, { type: "module" });
      this.#worker.addEventListener("message", ({ data: { id, sha256 } }) => {
        this.#open.get(id)?.(sha256);
        this.#open.delete(id);
      });
    }
    this.#last += 1;
    const id = this.#last;
    this.#worker.postMessage({ id, file });
    return new Promise((resolve) => this.#open.set(id, resolve));
  }
}
