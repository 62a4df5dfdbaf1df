/**
 * The text of a code block, whole or still arriving, in parts: what is before the last part is
 * coloured and laid out once, so that a line more costs as much in a long block as in a short one.
 */
import { h } from "./dom.js";

/** Colouring begins again at the start of the last part, and may take this share of the time. */
const SHARE = 0.1;
const LEAST_MS = 120;
/** Characters of a part: below the first it is not divided, above the last it stays plain. */
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

export class OpenCode {
  #source = "";
  /** Where the last part begins in the source, and its text node: between them is coloured. */
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
      // Its last characters may become the closing fence; what is coloured stays for a moment.
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
   * Nothing follows.
   * @param {string} source
   * @param {() => Promise<void>} breath awaited between two parts
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

  /** Colours the last part, or the next of it if it is long. Returns whether more of it waits. */
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
      this.#goOn(this.#source.length);
    } else if (this.#window < MOST) {
      this.#window *= 2;
    } else {
      this.#window = USUAL;
      this.#leavePlain(this.#start + size);
    }
    return !whole;
  }

  /** @param {number} end of the part that stays as it is */
  #leavePlain(end) {
    if (end > this.#start) {
      this.#part.textContent = this.#source.slice(this.#start, end);
      this.#begin(end, "");
    }
  }

  /**
   * @param {number} start of the next part
   * @param {string} html its coloured text, if it is coloured
   */
  #begin(start, html) {
    this.#part = h("span", { className: "part" });
    this.#part.innerHTML = html;
    this.code.append(this.#part);
    this.#start = start;
    this.#goOn(html ? this.#source.length : start);
  }

  /** @param {number} from where the text that is not coloured begins */
  #goOn(from) {
    this.#from = from;
    this.#text = document.createTextNode(this.#source.slice(from));
    this.#part.append(this.#text);
  }
}
