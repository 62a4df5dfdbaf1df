/**
 * Parse a model's raw text into reasoning, content and tool calls. Pure and incremental: each call
 * continues where the one before ended.
 *
 * The text of an answer is as the model wrote it; `Syntax` has that model's markers (the server's
 * `engine/prompting/output.py` parses the same). Text that only resembles a call is content.
 *
 * @typedef {import("../lib/wire").OutputSyntax} Syntax
 * @typedef {object} Part
 * @property {"reasoning" | "content" | "call"} kind
 * @property {string} text for a call: its arguments as indented JSON
 * @property {string} name of the function that is called, "" while it is not known
 * @property {boolean} open whether more may follow
 */

import { readCalls } from "./tool-calls.js";
import { Harmony } from "./harmony.js";

const OPENERS = /** @type {Record<string, string>} */ ({
  hermes: "<tool_call>",
  llama: "<|python_tag|>",
  mistral: "[TOOL_CALLS]",
});
const CLOSERS = /** @type {Record<string, string>} */ ({ hermes: "</tool_call>" });
const FENCE_LINE = /^ {0,3}(?:```|~~~)/gmu;
// First keys of an object that is a call.
const FIRST_KEYS = ['"name"', '"type"', '"function"'];

/**
 * Return the length of the longest suffix of `text` that is a proper prefix of `mark`.
 * @param {string} text
 * @param {string} mark
 */
function overlap(text, mark) {
  for (let size = Math.min(text.length, mark.length - 1); size > 0; size -= 1) {
    if (text.endsWith(mark.slice(0, size))) {
      return size;
    }
  }
  return 0;
}

/** @param {string} text that begins with a brace */
function mayCall(text) {
  const key = text.slice(1).trimStart();
  return FIRST_KEYS.some((first) => key.startsWith(first) || first.startsWith(key));
}

export class Output {
  /** @type {Part[]} */
  #parts = [];
  /** @type {"start" | "reasoning" | "content" | "call"} */
  #state = "start";
  #text = "";
  #complete = false;
  /** Start of the current part in the text. */
  #begin = 0;
  /** Text before this offset is not scanned again. */
  #scanned = 0;
  /** The current content part. @type {Part | null} */
  #content = null;
  /** Offset of the marker that opened the current call. */
  #opener = 0;
  /** Markers that may still open the final answer, and that close it. */
  #unopened = "";
  #enclosed = "";
  /** @type {Harmony | null} */
  #harmony = null;

  /** @param {Syntax} syntax */
  constructor(syntax) {
    this.syntax = syntax;
    const marked = syntax.tools === "marked";
    this.marker = (marked ? syntax.call_open : OPENERS[syntax.tools ?? ""]) ?? "";
    this.closer = (marked ? syntax.call_close : CLOSERS[syntax.tools ?? ""]) ?? "";
    this.#reset();
  }

  /**
   * @param {string} text the whole text so far
   * @param {boolean} complete nothing follows
   * @returns {Part[]} the same list each time; the last parts of it may have changed
   */
  read(text, complete) {
    const continues = this.#complete && (!complete || text !== this.#text);
    if (continues || !text.startsWith(this.#text)) {
      this.#reset();
    }
    this.#text = text;
    this.#complete = complete;
    if (this.#harmony) {
      return this.#harmony.read(text, complete);
    }
    this.#dropPending();
    while (this.#step()) {
      // Another state parses what follows.
    }
    if (complete) {
      for (const part of this.#parts) {
        part.open = false;
      }
    }
    return this.#parts;
  }

  #reset() {
    const { answer_open: open = "", answer_close: close = "", tools } = this.syntax;
    this.#parts = [];
    this.#state = "start";
    this.#begin = this.#scanned = 0;
    this.#content = null;
    this.#unopened = open;
    this.#enclosed = open ? "" : close;
    this.#harmony = tools === "harmony" ? new Harmony() : null;
  }

  // States: each returns whether another state has to parse what follows.

  #step() {
    switch (this.#state) {
      case "start":
        return this.#readStart();
      case "reasoning":
        return this.#readReasoning();
      case "content":
        return this.#readContent();
      default:
        return this.#readCall();
    }
  }

  #readStart() {
    const opener = this.syntax.think_open ?? "";
    const text = this.#text.trimStart();
    if (opener && text.startsWith(opener)) {
      this.#begin = this.#scanned = this.#text.length - text.length + opener.length;
      this.#parts.push({ kind: "reasoning", text: "", name: "", open: true });
      this.#state = "reasoning";
      return true;
    }
    if (opener.startsWith(text) && !this.#complete) {
      return false;
    }
    this.#state = "content";
    return true;
  }

  #readReasoning() {
    const closer = this.syntax.think_close ?? "";
    const part = this.#parts[0];
    const end = this.#text.indexOf(closer, this.#scanned);
    if (end < 0) {
      const certain = this.#text.length - (this.#complete ? 0 : overlap(this.#text, closer));
      part.text = this.#text.slice(this.#begin, certain).trim();
      this.#scanned = Math.max(this.#begin, this.#text.length - closer.length);
      return false;
    }
    part.text = this.#text.slice(this.#begin, end).trim();
    part.open = false;
    this.#advanceTo(end + closer.length);
    return true;
  }

  #readContent() {
    const text = this.#text;
    if (!this.#content) {
      // Blanks around markers belong to no part.
      const rest = text.slice(this.#begin);
      const marked = this.#parts.length > 0 || (this.#enclosed !== "" && !this.#unopened);
      this.#begin += marked ? rest.length - rest.trimStart().length : 0;
      if (this.#begin === text.length) {
        return false;
      }
      this.#scanned = Math.max(this.#scanned, this.#begin);
      if (this.#unopened && !this.#open()) {
        return false;
      }
      const answered = this.#parts.some(({ kind }) => kind !== "reasoning");
      if (
        this.syntax.tools === "llama" &&
        !answered &&
        text.slice(this.#begin).trimStart()[0] === "{"
      ) {
        return this.#beginCall(this.#begin);
      }
    }
    const found = this.marker ? text.indexOf(this.marker, this.#scanned) : -1;
    if (found >= 0) {
      return this.#beginCall(found);
    }
    const held = this.marker && !this.#complete ? overlap(text, this.marker) : 0;
    this.#scanned = Math.max(this.#begin, text.length - held);
    this.#say(this.#closing(text.length - held));
    return false;
  }

  /** Return whether it is known if the answer is enclosed in markers; skip the opening one. */
  #open() {
    const rest = this.#text.slice(this.#begin);
    const text = rest.trimStart();
    if (text.startsWith(this.#unopened)) {
      const inside = text.slice(this.#unopened.length).trimStart();
      this.#begin += rest.length - inside.length;
      this.#scanned = Math.max(this.#scanned, this.#begin);
      this.#enclosed = this.syntax.answer_close ?? "";
    } else if (this.#unopened.startsWith(text) && !this.#complete) {
      return false;
    }
    this.#unopened = "";
    return true;
  }

  /**
   * Return `end`, or the offset of an earlier marker that closes the answer.
   * @param {number} end
   */
  #closing(end) {
    const text = this.#text.slice(this.#begin, end);
    if (!this.#enclosed || !text) {
      return end;
    }
    if (text.trimEnd().endsWith(this.#enclosed)) {
      return this.#begin + text.slice(0, text.lastIndexOf(this.#enclosed)).trimEnd().length;
    }
    return end - (this.#complete ? 0 : overlap(text, this.#enclosed));
  }

  #readCall() {
    const marked = this.#text.startsWith(this.marker, this.#opener);
    const from = this.#opener + (marked ? this.marker.length : 0);
    const closing = this.closer ? this.#text.indexOf(this.closer, from) : -1;
    if (closing >= 0) {
      return this.#take(this.#text.slice(from, closing), closing + this.closer.length);
    }
    if (this.#complete) {
      return this.#take(this.#text.slice(from), this.#text.length);
    }
    if (!marked && !mayCall(this.#text.slice(from).trimStart())) {
      return this.#noCall(this.#text.length);
    }
    this.#parts.push({ kind: "call", text: "", name: "", open: true });
    return false;
  }

  // Calls.

  /** @param {number} at */
  #beginCall(at) {
    const before = this.#text.slice(this.#begin, this.#closing(at));
    this.#say(this.#begin + before.trimEnd().length);
    const quoted = (before.match(FENCE_LINE)?.length ?? 0) % 2 === 1;
    if (quoted || /\S[ \t]*$/u.test(before.slice(before.lastIndexOf("\n") + 1))) {
      return this.#noCall(at + this.marker.length);
    }
    this.#opener = at;
    this.#state = "call";
    return true;
  }

  /**
   * @param {string} body
   * @param {number} end
   */
  #take(body, end) {
    const calls = readCalls(body);
    if (!calls) {
      return this.#noCall(end);
    }
    this.#parts.push(
      ...calls.map((call) => ({ kind: /** @type {const} */ ("call"), open: false, ...call })),
    );
    this.#advanceTo(end);
    return true;
  }

  /** Treat what looked like a call up to `end` as content. @param {number} end */
  #noCall(end) {
    this.#state = "content";
    this.#scanned = end;
    this.#say(end);
    return true;
  }

  /** Add the text before `end` as content. @param {number} end */
  #say(end) {
    if (!this.#content && end > this.#begin) {
      this.#content = { kind: "content", text: "", name: "", open: true };
      this.#parts.push(this.#content);
    }
    if (this.#content) {
      this.#content.text = this.#text.slice(this.#begin, end);
    }
  }

  /** @param {number} at offset at which content may begin */
  #advanceTo(at) {
    if (this.#content) {
      this.#content.open = false;
    }
    this.#content = null;
    this.#state = "content";
    this.#begin = this.#scanned = at;
  }

  #dropPending() {
    if (this.#parts.at(-1)?.kind === "call" && this.#parts.at(-1)?.open) {
      this.#parts.pop();
    }
  }
}
