/**
 * The text of one answer in the document. What is final is put there once; only the last block
 * is made anew, at most once per frame.
 *
 * @typedef {typeof import("./markdown.js")} Markdown
 */
import { h } from "./dom.js";

/** The last block may take this part of the time, however slow it is to make. */
const SHARE = 0.25;
/** Text that waits longer for the parser is shown as it is. */
const PLAIN_MS = 300;
/** Blocks of a long answer that are laid out together. */
const CHUNK = 24;

/** @type {Markdown | null} */
let markdown = null;
/** @type {Promise<Markdown> | null} */
let loading = null;

/** Loads the Markdown parser once; all bodies draw themselves again when it is here. */
export function loadMarkdown() {
  loading ??= import("./markdown.js").then((module) => {
    markdown = module;
    return module;
  });
  return loading;
}

/** @param {Iterable<Element>} blocks */
async function colour(blocks) {
  for (const block of blocks) {
    const [code, language] = [block.querySelector("code"), block.getAttribute("data-language")];
    if (markdown && code && language) {
      const source = code.textContent ?? "";
      await new markdown.OpenCode(code, language).finish(source, breath);
      await breath();
    }
  }
}

/** Lets the browser draw a frame, if it is time for one. @returns {Promise<void>} */
function breath() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** @type {typeof import("./formulas.js") | null} */
let formulas = null;

/**
 * Formulas are drawn at once when their code is here, so that nothing flickers.
 * @param {Iterable<ChildNode>} nodes
 */
async function drawFormulas(nodes) {
  const waiting = [...nodes].flatMap((node) => matching(node, ".math:not(.drawn, .source)"));
  if (waiting.length > 0) {
    formulas ??= await import("./formulas.js");
    waiting.forEach((element) => formulas?.draw(element));
  }
}

export class AnswerBody {
  #text = "";
  #complete = false;
  #frame = 0;
  /** No earlier than this is the last block made again. */
  #notBefore = 0;
  /** @type {import("./blocks.js").Blocks | null} */
  #blocks = null;
  /** @type {Record<string, any>} */
  #env = {};
  /** @type {ChildNode[]} */
  #live = [];
  /** Where blocks are put. @type {HTMLElement} */
  #chunk;
  /** @type {import("./open-code.js").OpenCode | null} */
  #code = null;
  /** Whether it waits for the parser. */
  #waiting = false;
  /** Whether pieces with a reference to a later definition may be final. */
  #committed = false;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.#chunk = element;
  }

  /**
   * @param {string} text the whole text so far
   * @param {boolean} complete nothing follows
   */
  show(text, complete) {
    if (text === this.#text && complete === this.#complete) {
      return;
    }
    const goesOn = this.#complete && (!complete || text !== this.#text);
    const anew = goesOn || !text.startsWith(this.#text);
    if (anew) {
      this.#reset();
    }
    this.#text = text;
    this.#complete = complete;
    if (complete || anew) {
      // Whatever is whole needs no frame to wait for; nor may what was shown go away for one.
      this.#draw();
    } else {
      this.#frame ||= requestAnimationFrame((now) => this.#tick(now));
    }
  }

  /** @param {number} now */
  #tick(now) {
    if (now < this.#notBefore) {
      this.#frame = requestAnimationFrame((later) => this.#tick(later));
      return;
    }
    this.#draw();
    this.#notBefore = now + (performance.now() - now) / SHARE;
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!markdown) {
      this.#drawLater();
      return;
    }
    this.#blocks ??= new markdown.Blocks(markdown.parser);
    const { done, live } = this.#blocks.cut(this.#text, this.#complete);
    if (this.#keepCode(done[0])) {
      done.shift();
    }
    if (done.length > 0) {
      this.#dropLive();
      const before = Object.keys(this.#env.references ?? {}).length;
      for (const piece of done) {
        const nodes = this.#put(markdown.render(piece.source, this.#env), piece.kind === "item");
        colour(nodes.flatMap((node) => matching(node, "div.code")));
      }
      if (this.#committed && Object.keys(this.#env.references ?? {}).length > before) {
        this.#drawWithLateDefinitions();
        return;
      }
      this.#committed = true;
    }
    if (live?.kind === "code") {
      this.#showCode(live.source, markdown.languageOf(live.language ?? ""));
    } else {
      this.#dropLive();
      if (live) {
        const env = { references: { ...this.#env.references } };
        this.#live = this.#put(markdown.render(live.source, env), live.kind === "item");
      }
    }
  }

  /** Until the parser is here; as plain text where that takes long. */
  async #drawLater() {
    if (!this.#waiting) {
      this.#waiting = true;
      setTimeout(() => this.#drawPlain(), PLAIN_MS);
      await loadMarkdown();
      this.element.classList.remove("plain");
      this.element.replaceChildren();
      this.#draw();
    } else if (this.element.classList.contains("plain")) {
      this.#drawPlain();
    }
  }

  #drawPlain() {
    if (!markdown) {
      this.element.classList.add("plain");
      this.element.textContent = this.#text;
    }
  }

  /**
   * @param {string} source
   * @param {string} language
   */
  #showCode(source, language) {
    if (!this.#code && markdown) {
      this.#dropLive();
      const { block, code } = markdown.codeBlock(language);
      this.#code = new markdown.OpenCode(code, language);
      this.#beginChunk();
      this.#chunk.append(block);
      this.#live = [block];
    }
    this.#code?.show(source);
  }

  /**
   * What was shown of a fence stays when it is closed, if it is what would be drawn.
   * @param {import("./blocks.js").Piece | undefined} piece
   * @returns {boolean} whether it does
   */
  #keepCode(piece) {
    const { inside, source } = piece ?? {};
    if (!this.#code || inside === undefined || !/^[`~][^\r]*$/u.test(source ?? "")) {
      return false;
    }
    this.#code.finish(inside, breath);
    this.#live = [];
    this.#code = null;
    return true;
  }

  #dropLive() {
    // From the end: nothing stands behind what goes, whose style would be looked at again.
    for (const node of this.#live.reverse()) {
      node.remove();
    }
    this.#live = [];
    this.#code = null;
  }

  /**
   * @param {DocumentFragment} fragment
   * @param {boolean} goesOn its first element is the next item of the last list
   * @returns {ChildNode[]} what was added
   */
  #put(fragment, goesOn) {
    if (!goesOn) {
      this.#beginChunk();
    }
    const [list, more] = [this.#chunk.lastElementChild, fragment.firstElementChild];
    /** @type {ChildNode[]} */
    const added = [];
    if (goesOn && list && more && list.tagName === more.tagName) {
      added.push(...more.childNodes);
      list.append(...more.childNodes);
      more.remove();
    }
    added.push(...fragment.childNodes);
    drawFormulas(added);
    this.#chunk.append(fragment);
    return added;
  }

  /**
   * What is far above need not be looked at while text is added below. Blocks that have been drawn
   * before are never moved: somebody may have selected them.
   */
  #beginChunk() {
    if (this.#chunk.childElementCount >= CHUNK) {
      this.#chunk = h("div", { className: "chunk" });
      // One that was never on the screen has no height yet, which would be felt on the way up.
      this.#chunk.classList.toggle("passing", !this.#complete);
      this.element.append(this.#chunk);
    }
  }

  /** A link was defined behind its use, which is final already: rare, and once per definition. */
  #drawWithLateDefinitions() {
    const references = this.#env.references;
    const [text, complete] = [this.#text, this.#complete];
    this.#reset();
    this.#env.references = references;
    this.#text = text;
    this.#complete = complete;
    this.#draw();
  }

  #reset() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#blocks = null;
    this.#env = {};
    this.#live = [];
    this.#code = null;
    this.#committed = false;
    this.#chunk = this.element;
    this.element.replaceChildren();
  }
}

/**
 * @param {ChildNode} node
 * @param {string} selector
 */
function matching(node, selector) {
  if (!(node instanceof Element)) {
    return [];
  }
  const inside = [...node.querySelectorAll(selector)];
  return node.matches(selector) ? [node, ...inside] : inside;
}
