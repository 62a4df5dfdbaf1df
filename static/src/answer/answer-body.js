/**
 * Render the text of one answer. Final blocks are rendered once; only the last block is rendered
 * again, at most once per frame.
 *
 * @typedef {typeof import("../markdown/markdown.js")} Markdown
 */
import { h } from "../lib/dom.js";

/** Largest share of time for rendering the last block, however slow that is. */
const SHARE = 0.25;
/** Plain text is shown if the parser takes longer to load, in ms. */
const PLAIN_MS = 300;
/** Number of blocks of a long answer in one layout container. */
const CHUNK = 24;

/** @type {Markdown | null} */
let markdown = null;
/** @type {Promise<Markdown> | null} */
let loading = null;

/** Load the Markdown parser once. All bodies render again when it is loaded. */
export function loadMarkdown() {
  loading ??= import("../markdown/markdown.js").then((module) => {
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
      await new markdown.CodeBlock(code, language).finish(source, breath);
      await breath();
    }
  }
}

/** Yield to the browser. @returns {Promise<void>} */
function breath() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** @type {typeof import("../markdown/formulas.js") | null} */
let formulas = null;

/**
 * Render formulas synchronously once their module is loaded, to avoid flicker.
 * @param {Iterable<ChildNode>} nodes
 */
async function drawFormulas(nodes) {
  const waiting = [...nodes].flatMap((node) => matching(node, ".math:not(.drawn, .source)"));
  if (waiting.length > 0) {
    formulas ??= await import("../markdown/formulas.js");
    waiting.forEach((element) => formulas?.draw(element));
  }
}

export class AnswerBody {
  #text = "";
  #complete = false;
  #frame = 0;
  /** Earliest time at which the last block is rendered again. */
  #notBefore = 0;
  /** @type {import("../markdown/blocks.js").Blocks | null} */
  #blocks = null;
  /** @type {Record<string, any>} */
  #env = {};
  /** What the text may cite. @type {import("../markdown/citations.js").Cites | undefined} */
  #cites = undefined;
  /** @type {ChildNode[]} */
  #live = [];
  /** Container of the next blocks. @type {HTMLElement} */
  #chunk;
  /** @type {import("../markdown/code-block.js").CodeBlock | null} */
  #code = null;
  /** Whether the parser is being awaited. */
  #waiting = false;
  /** Whether final pieces may refer to link definitions that come later. */
  #committed = false;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.#chunk = element;
  }

  /**
   * @param {string} text the whole text so far
   * @param {boolean} complete nothing follows
   * @param {import("../markdown/citations.js").Cites} [cites] what it may cite
   */
  show(text, complete, cites) {
    if (text === this.#text && complete === this.#complete && cites === this.#cites) {
      return;
    }
    const continues = this.#complete && (!complete || text !== this.#text);
    const restart = continues || !text.startsWith(this.#text) || cites !== this.#cites;
    this.#cites = cites;
    this.#env.cites = cites;
    if (restart) {
      this.#reset();
    }
    this.#text = text;
    this.#complete = complete;
    if (complete || restart) {
      // Complete text needs no frame. Replaced text must not disappear for the length of one.
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
        const env = { ...this.#env, references: { ...this.#env.references } };
        this.#live = this.#put(markdown.render(live.source, env), live.kind === "item");
      }
    }
  }

  /** Wait for the parser; show plain text if that takes long. */
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
      this.#code = new markdown.CodeBlock(code, language);
      this.#beginChunk();
      this.#chunk.append(block);
      this.#live = [block];
    }
    this.#code?.show(source);
  }

  /**
   * Keep the code block that was shown of a fence when the fence closes, if it is identical.
   * @param {import("../markdown/blocks.js").Piece | undefined} piece
   * @returns {boolean} whether it was kept
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
    // From the end, so that no following sibling's style is recomputed.
    for (const node of this.#live.reverse()) {
      node.remove();
    }
    this.#live = [];
    this.#code = null;
  }

  /**
   * @param {DocumentFragment} fragment
   * @param {boolean} continues its first element is the next item of the last list
   * @returns {ChildNode[]} what was added
   */
  #put(fragment, continues) {
    if (!continues) {
      this.#beginChunk();
    }
    const [list, more] = [this.#chunk.lastElementChild, fragment.firstElementChild];
    /** @type {ChildNode[]} */
    const added = [];
    if (continues && list && more && list.tagName === more.tagName) {
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
   * Wrap blocks far above, so that layout skips them while text is added. Blocks that have been
   * rendered before are never moved: they may be selected.
   */
  #beginChunk() {
    if (this.#chunk.childElementCount >= CHUNK) {
      this.#chunk = h("div", { className: "chunk" });
      // A block that was never on screen has no remembered height: scrolling up would jump.
      this.#chunk.classList.toggle("passing", !this.#complete);
      this.element.append(this.#chunk);
    }
  }

  /** Render again with a link definition after its use, which was final: rare. */
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
    this.#env = { cites: this.#cites };
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
