/** Work that hints ask for: several in a row are one request. */

const PAUSE_MS = 120;

export class Later {
  /** @type {Set<string>} */
  #waiting = new Set();

  /**
   * @param {string} key of the work; what waits already is not asked for again
   * @param {() => Promise<void>} work one that fails is repeated by the next hint
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
