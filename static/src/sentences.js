/** Whole sentences out of text that arrives in pieces, as a screen reader should get them. */

// An end mark with what may close a quotation, before a space; a CJK end mark needs no space.
const END = /(?:[.!?…]+["'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+)/gu;
// "Dr. Who", "e.g. this", "3. item": a full stop that ends no sentence.
const ABBREVIATION = /(?:^|\s)(?:\d+|[A-Za-z]|[A-Z][a-z]|e\.g|i\.e|etc|vs|Mrs|Prof|approx)\.$/u;

/** @param {string} markdown as one would read it aloud */
export function spoken(markdown) {
  return markdown
    .replace(/^\s*(?:```|~~~).*$/gmu, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/gu, "$1")
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
   * @param {string} text that follows what was pushed before
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

  /** What is left when no more text comes. @returns {string[]} */
  flush() {
    const rest = spoken(this.#rest);
    this.#rest = "";
    return rest ? [rest] : [];
  }
}
