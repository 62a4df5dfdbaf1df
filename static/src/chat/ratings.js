/** The user's ratings of answers, loaded once per conversation. Emits `change`. */

/** @typedef {import("../lib/wire").Rating} Rating */

/** A failed load is not repeated before. */
const AGAIN_MS = 10_000;

export class Ratings extends EventTarget {
  /** @type {Map<string, Rating>} by message */
  #ratings = new Map();
  /** Conversations whose ratings are loaded or requested. @type {Set<string>} */
  #known = new Set();
  /** Messages that were rated on this page: what is loaded later is older. @type {Set<string>} */
  #touched = new Set();

  /** @param {Pick<import("../server/api.js").Api, "ratings" | "rate" | "removeRating">} api */
  constructor(api) {
    super();
    this.api = api;
  }

  /** @param {string} message @returns {Rating | null} */
  of(message) {
    return this.#ratings.get(message) ?? null;
  }

  /**
   * Load the ratings of a conversation unless that was done.
   * @param {string} conversation
   */
  async want(conversation) {
    if (this.#known.has(conversation)) {
      return;
    }
    this.#known.add(conversation);
    try {
      const { ratings } = await this.api.ratings(conversation);
      for (const [message, rating] of Object.entries(ratings)) {
        if (!this.#touched.has(message)) {
          this.#ratings.set(message, rating);
        }
      }
      this.#changed();
    } catch {
      // An answer can be read without its rating. Asked again after a while, not at each update.
      setTimeout(() => this.#known.delete(conversation), AGAIN_MS);
    }
  }

  /**
   * Save a rating, which is shown at once. If the server refuses it, the earlier one is back.
   * @param {string} message
   * @param {Rating} rating
   */
  async rate(message, rating) {
    await this.#put(message, rating, async () => (await this.api.rate(message, rating)).rating);
  }

  /** @param {string} message */
  async remove(message) {
    await this.#put(message, null, async () => {
      await this.api.removeRating(message);
      return null;
    });
  }

  /**
   * @param {string} message
   * @param {Rating | null} expected
   * @param {() => Promise<Rating | null>} save
   */
  async #put(message, expected, save) {
    const before = this.of(message);
    this.#touched.add(message);
    this.#set(message, expected);
    try {
      this.#set(message, await save());
    } catch (error) {
      this.#set(message, before);
      throw error;
    }
  }

  /**
   * @param {string} message
   * @param {Rating | null} rating
   */
  #set(message, rating) {
    if (rating) {
      this.#ratings.set(message, rating);
    } else {
      this.#ratings.delete(message);
    }
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
