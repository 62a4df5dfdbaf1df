/** A code block whose text is still arriving: it is appended, and coloured now and then. */
import { codeBlock } from "./markdown.js";

/** Colouring starts again from the first line, so it may take this part of the time at most. */
const SHARE = 0.1;
const LEAST_MS = 120;
/** Longer code is coloured when it is complete. */
const MOST_UNITS = 12_000;

export class OpenCode {
  #text = document.createTextNode("");
  /** Where the text node begins in the source: what is before it is coloured. */
  #from = 0;
  #notBefore = 0;

  /** @param {string} language */
  constructor(language) {
    this.language = language;
    const { block, code } = codeBlock(language);
    this.block = block;
    this.code = code;
    code.append(this.#text);
  }

  /** @param {string} source the code so far */
  show(source) {
    const end = this.#from + this.#text.length;
    if (source.length < end) {
      // Its last characters may become the closing fence; what is coloured stays for a moment.
      this.#text.data = source.slice(this.#from);
      return;
    }
    this.#text.appendData(source.slice(end));
    if (this.language && source.length <= MOST_UNITS && performance.now() >= this.#notBefore) {
      this.#notBefore = Infinity;
      this.#colour();
    }
  }

  async #colour() {
    const { highlight } = await import("./highlight.js");
    const began = performance.now();
    const length = this.code.textContent?.length ?? 0;
    if (highlight(this.code, this.language)) {
      this.#text = document.createTextNode("");
      this.#from = length;
      this.code.append(this.#text);
    }
    const now = performance.now();
    this.#notBefore = now + Math.max(LEAST_MS, (now - began) / SHARE);
  }
}
