/** Render the parts of one answer: collapsible reasoning and tool calls, and content. */
import { AnswerBody } from "./answer-body.js";
import { h, icon } from "../lib/dom.js";
import { duration, fill, gettext } from "../lib/i18n.js";
import { Output } from "../output/output.js";

/**
 * @typedef {import("../output/output.js").Part} Part
 *
 * @typedef {object} How
 * @property {boolean} complete nothing follows
 * @property {import("../lib/wire").OutputSyntax} syntax
 * @property {number | null} reasoningMs how long the reasoning took, once it is over
 * @property {import("../markdown/citations.js").Cites} [cites] what the content may cite
 */

/** A collapsible part. Its content is rendered only while it is open. */
class Fold {
  /** @type {Part | null} */
  #part = null;
  #label = h("span");

  /** @param {"reasoning" | "call"} kind */
  constructor(kind) {
    this.kind = kind;
    this.inside = h("div", { className: "fold-inside", dir: "auto" });
    this.body = kind === "reasoning" ? new AnswerBody(this.inside) : null;
    this.inside.classList.toggle("md", this.body !== null);
    this.element = h(
      "details",
      { className: `fold ${kind}` },
      h("summary", {}, this.#label, icon("chevron")),
      this.inside,
    );
    this.element.addEventListener("toggle", () => this.#fill());
  }

  /**
   * @param {Part} part
   * @param {How} how
   */
  show(part, how) {
    this.#part = part;
    const label = part.kind === "reasoning" ? reasoningLabel(part, how) : callLabel(part);
    if (this.#label.textContent !== label) {
      this.#label.textContent = label;
    }
    this.element.classList.toggle("running", part.open);
    this.#fill();
  }

  #fill() {
    const part = this.#part;
    if (!part || !this.element.open) {
      return;
    }
    if (this.body) {
      this.body.show(part.text, !part.open);
    } else {
      this.inside.replaceChildren(h("pre", {}, h("code", {}, part.text)));
    }
  }
}

/**
 * @param {Part} part
 * @param {How} how
 */
function reasoningLabel(part, { reasoningMs }) {
  if (part.open) {
    return gettext("Thinking…");
  }
  return reasoningMs === null
    ? gettext("Reasoning")
    : fill(gettext("Thought for {time}"), { time: duration(reasoningMs) });
}

/** @param {Part} part */
function callLabel(part) {
  return part.open
    ? gettext("Calling a tool…")
    : fill(gettext("Tool call: {name}"), { name: part.name });
}

class Content {
  kind = /** @type {const} */ ("content");
  element = h("div", { className: "answer-body md", dir: "auto" });
  #body = new AnswerBody(this.element);

  /**
   * @param {Part} part
   * @param {How} how
   */
  show(part, { cites }) {
    this.#body.show(part.text, !part.open, cites);
    this.element.classList.toggle("streaming", part.open && part.text !== "");
  }
}

export class AnswerParts {
  /** @type {Output | null} */
  #output = null;
  /** @type {(Fold | Content)[]} */
  #shown = [];
  /** Whether there is neither content nor a tool call: reasoning alone is no answer. */
  empty = true;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
  }

  /**
   * @param {string} text the whole text so far, with markers
   * @param {How} how
   * @returns {string} the content, without reasoning and calls
   */
  show(text, how) {
    if (JSON.stringify(this.#output?.syntax) !== JSON.stringify(how.syntax)) {
      this.#output = new Output(how.syntax);
    }
    const parts = (this.#output?.read(text, how.complete) ?? []).filter(
      (part) => part.open || part.text !== "" || part.kind === "call",
    );
    parts.forEach((part, index) => this.#at(index, part).show(part, how));
    this.empty = parts.every(
      ({ kind, text: content }) => kind === "reasoning" || (kind === "content" && !content.trim()),
    );
    for (const left of this.#shown.splice(parts.length)) {
      left.element.remove();
    }
    return parts
      .filter(({ kind }) => kind === "content")
      .map((part) => part.text)
      .join("\n\n");
  }

  /**
   * @param {number} index
   * @param {Part} part
   */
  #at(index, { kind }) {
    const known = this.#shown[index];
    if (known?.kind === kind) {
      return known;
    }
    const made = kind === "content" ? new Content() : new Fold(kind);
    if (known) {
      known.element.replaceWith(made.element);
    } else {
      this.element.append(made.element);
    }
    this.#shown[index] = made;
    return made;
  }
}
