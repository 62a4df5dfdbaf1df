/** Split streamed text into whole sentences for screen readers. */

// An end mark and closing quotation marks before a space; a CJK end mark needs no space. Matches
// only at the start of a run of marks, so that a long run is scanned once.
const END = /(?:(?<![.!?…])[.!?…]+["'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+)/gu;
// "Dr. Who", "e.g. this", "3. item": a full stop that ends no sentence.
const ABBREVIATION = /(?:^|\s)(?:\d+|[A-Za-z]|[A-Z][a-z]|e\.g|i\.e|etc|vs|Mrs|Prof|approx)\.$/u;

/** Return Markdown as it is read aloud. @param {string} markdown */
export function spoken(markdown) {
  return markdown
    .replace(/^[^\S\n]*(?:```|~~~).*$/gmu, "")
    .replace(/!?\[([^[\]]*)\]\([^()]*(?:\([^()]*\)[^()]*)?\)/gu, "$1")
    .replace(/^\s{0,3}(?:#{1,6}|>|[-*+])\s+/gmu, "")
    .replace(/^[\s|:-]+$/gmu, "")
    .replace(/\*\*|__|`|~~/gu, "")
    .replace(/(^|\s)[*_]|[*_](?=\s|$)/gu, "$1")
    .replace(/\s+/gu, " ")
    .trim();
}

export class Sentences {
  #rest = "";

  /**
   * @param {string} text that follows the text pushed before
   * @returns {string[]} the sentences that are complete now
   */
  push(text) {
    this.#rest += text;
    const sentences = [];
    let from = 0;
    for (const match of this.#rest.matchAll(END)) {
      const end = match.index + match[0].length;
      const sentence = this.#rest.slice(from, end);
      if (ABBREVIATION.test(sentence)) {
        continue;
      }
      from = end;
      sentences.push(spoken(sentence));
    }
    this.#rest = this.#rest.slice(from);
    return sentences.filter(Boolean);
  }

  /** Return the rest at the end of the text. @returns {string[]} */
  flush() {
    const rest = spoken(this.#rest);
    this.#rest = "";
    return rest ? [rest] : [];
  }
}
