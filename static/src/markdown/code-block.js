/**
 * Render a code block, complete or streamed, in parts: everything before the last part is
 * highlighted and laid out once, so that a line costs the same in a long block as in a short one.
 */
import { h } from "../lib/dom.js";

/** Highlighting restarts at the last part, and may take this share of the time. */
const SHARE = 0.1;
const LEAST_MS = 120;
/** Characters of a part: below the first it is not split, above the last it stays plain. */
const LEAST = 1_200;
const USUAL = 3_000;
const MOST = 12_000;

/** @typedef {typeof import("./highlight.js")} Highlight */

/** @type {Highlight | null} */
let highlight = null;

async function loadHighlight() {
  highlight ??= await import("./highlight.js");
  return highlight;
}

export class CodeBlock {
  #source = "";
  /** Start of the last part in the source, and its text node; text in between is highlighted. */
  #start = 0;
  #from = 0;
  #text = document.createTextNode("");
  #part = h("span", { className: "part" }, this.#text);
  #notBefore = 0;
  #window = USUAL;

  /**
   * @param {Element} code element to be filled
   * @param {string} language
   */
  constructor(code, language) {
    this.code = code;
    this.language = language;
    code.replaceChildren(this.#part);
  }

  /** @param {string} source the code so far */
  show(source) {
    this.#source = source;
    const end = this.#from + this.#text.length;
    if (source.length < end) {
      // The last characters may become the closing fence; keep what is highlighted for now.
      this.#text.data = source.slice(this.#from);
      return;
    }
    this.#text.appendData(source.slice(end));
    if (this.language && performance.now() >= this.#notBefore) {
      this.#notBefore = Infinity;
      this.#colourNow();
    } else if (!this.language && source.length - this.#start > USUAL) {
      this.#leavePlain(source.lastIndexOf("\n") + 1);
    }
  }

  async #colourNow() {
    await loadHighlight();
    const began = performance.now();
    this.#colour();
    const now = performance.now();
    this.#notBefore = now + Math.max(LEAST_MS, (now - began) / SHARE);
  }

  /**
   * Finish: nothing follows.
   * @param {string} source
   * @param {() => Promise<void>} breath awaited between parts
   */
  async finish(source, breath) {
    this.#notBefore = Infinity;
    this.show(source);
    if (this.language && !highlight) {
      await loadHighlight();
    }
    while (this.#colour()) {
      await breath();
    }
  }

  /** Highlight the last part, or the next piece of a long one. Return whether more remains. */
  #colour() {
    const rest = this.#source.slice(this.#start);
    const whole = rest.length <= this.#window;
    const size = whole ? rest.length : rest.lastIndexOf("\n", this.#window) + 1 || rest.length;
    const html = highlight?.coloured(rest.slice(0, size), this.language) ?? null;
    if (html === null) {
      this.language = "";
      return false;
    }
    const cut = size > LEAST ? (highlight?.lastCut(html) ?? null) : null;
    if (cut) {
      this.#window = USUAL;
      this.#part.innerHTML = html.slice(0, cut.html);
      this.#begin(this.#start + cut.text, whole ? html.slice(cut.html) : "");
    } else if (whole) {
      this.#part.innerHTML = html;
      this.#restFrom(this.#source.length);
    } else if (this.#window < MOST) {
      this.#window *= 2;
    } else {
      this.#window = USUAL;
      this.#leavePlain(this.#start + size);
    }
    return !whole;
  }

  /** @param {number} end of the part that stays plain */
  #leavePlain(end) {
    if (end > this.#start) {
      this.#part.textContent = this.#source.slice(this.#start, end);
      this.#begin(end, "");
    }
  }

  /**
   * @param {number} start of the next part
   * @param {string} html its highlighted text, if any
   */
  #begin(start, html) {
    this.#part = h("span", { className: "part" });
    this.#part.innerHTML = html;
    this.code.append(this.#part);
    this.#start = start;
    this.#restFrom(html ? this.#source.length : start);
  }

  /** @param {number} from start of the text that is not highlighted */
  #restFrom(from) {
    this.#from = from;
    this.#text = document.createTextNode(this.#source.slice(from));
    this.#part.append(this.#text);
  }
}
