/** Coalesce repeated requests for the same work within a short time. */

const PAUSE_MS = 120;

export class Coalescer {
  /** @type {Set<string>} */
  #waiting = new Set();

  /**
   * @param {string} key of the work; pending work is not scheduled twice
   * @param {() => Promise<void>} work errors are ignored: the next hint repeats it
   */
  run(key, work) {
    if (!this.#waiting.has(key)) {
      this.#waiting.add(key);
      setTimeout(() => {
        this.#waiting.delete(key);
        work().catch(() => {});
      }, PAUSE_MS);
    }
  }
}
