/**
 * What a model's raw text says: reasoning, content and tool calls. Pure, and incremental: each
 * reading goes on where the one before ended.
 *
 * The text of an answer is as the model wrote it; `Syntax` tells how that model marks things
 * (the server's `engine/output.py` reads the same marks). Text that only looks like a call is
 * content.
 *
 * @typedef {{think_open?: string, think_close?: string, tools?: string}} Syntax
 * @typedef {object} Part
 * @property {"reasoning" | "content" | "call"} kind
 * @property {string} text of a call: its arguments as indented JSON
 * @property {string} name of the function that is called, "" while it is not known
 * @property {boolean} open more of it may come
 */

const OPENERS = /** @type {Record<string, string>} */ ({
  hermes: "<tool_call>",
  llama: "<|python_tag|>",
  mistral: "[TOOL_CALLS]",
});
const HERMES_CLOSE = "</tool_call>";
const FENCE_LINE = /^ {0,3}(?:```|~~~)/gmu;
const NAMED_CALL = /^([\w.-]+)\s*(?:\[CALL_ID\]\s*[\w-]+\s*)?(?:\[ARGS\]\s*)?(\{[\s\S]*\})$/u;
// Keys that an object may begin with which is a call.
const FIRST_KEYS = ['"name"', '"type"', '"function"'];

/**
 * Length of the longest end of `text` that is a proper beginning of `mark`.
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

/**
 * The calls in a JSON object or list; null if it holds anything else.
 * @param {any} value
 * @returns {{name: string, text: string}[] | null}
 */
function callsIn(value) {
  const calls = [];
  for (const item of Array.isArray(value) ? value : [value]) {
    const called = item?.function ?? item;
    const given = called?.arguments ?? called?.parameters;
    if (typeof called?.name !== "string" || typeof given !== "object") {
      return null;
    }
    calls.push({ name: called.name, text: JSON.stringify(given, null, 2) });
  }
  return calls.length > 0 ? calls : null;
}

/** @param {string} source */
function parseCalls(source) {
  const text = source.trim();
  const named = NAMED_CALL.exec(text);
  try {
    return callsIn(named ? { name: named[1], arguments: JSON.parse(named[2]) } : JSON.parse(text));
  } catch {
    return null;
  }
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
  /** Where the current part begins in the text. */
  #begin = 0;
  /** What is before it need not be looked at again. */
  #scanned = 0;
  /** The content part that is being read. @type {Part | null} */
  #content = null;
  /** Where the opener of the call that is being read stands. */
  #opener = 0;

  /** @param {Syntax} syntax */
  constructor(syntax) {
    this.syntax = syntax;
    this.marker = OPENERS[syntax.tools ?? ""] ?? "";
  }

  /**
   * @param {string} text the whole text so far
   * @param {boolean} complete nothing follows
   * @returns {Part[]} the same list each time; the last parts of it may have changed
   */
  read(text, complete) {
    const goesOn = this.#complete && (!complete || text !== this.#text);
    if (goesOn || !text.startsWith(this.#text)) {
      this.#parts = [];
      this.#state = "start";
      this.#begin = this.#scanned = 0;
      this.#content = null;
    }
    this.#text = text;
    this.#complete = complete;
    this.#dropPending();
    while (this.#step()) {
      // Another state looks at what follows.
    }
    if (complete) {
      for (const part of this.#parts) {
        part.open = false;
      }
    }
    return this.#parts;
  }

  // States: each returns whether another one has to look at what follows.

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
    this.#goOn(end + closer.length);
    return true;
  }

  #readContent() {
    const text = this.#text;
    if (!this.#content) {
      // Blanks around markers are nobody's.
      const rest = text.slice(this.#begin);
      this.#begin += this.#parts.length > 0 ? rest.length - rest.trimStart().length : 0;
      if (this.#begin === text.length) {
        return false;
      }
      this.#scanned = Math.max(this.#scanned, this.#begin);
      const said = this.#parts.some(({ kind }) => kind !== "reasoning");
      if (
        this.syntax.tools === "llama" &&
        !said &&
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
    this.#say(text.length - held);
    return false;
  }

  #readCall() {
    const { tools } = this.syntax;
    const marked = this.#text.startsWith(this.marker, this.#opener);
    const from = this.#opener + (marked ? this.marker.length : 0);
    const closing = tools === "hermes" ? this.#text.indexOf(HERMES_CLOSE, from) : -1;
    if (closing >= 0) {
      return this.#take(this.#text.slice(from, closing), closing + HERMES_CLOSE.length);
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
    const before = this.#text.slice(this.#begin, at);
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
    const calls = parseCalls(body);
    if (!calls) {
      return this.#noCall(end);
    }
    this.#parts.push(
      ...calls.map((call) => ({ kind: /** @type {const} */ ("call"), open: false, ...call })),
    );
    this.#goOn(end);
    return true;
  }

  /** What looked like a call up to `end` is content. @param {number} end */
  #noCall(end) {
    this.#state = "content";
    this.#scanned = end;
    this.#say(end);
    return true;
  }

  /** What is before `end` is content. @param {number} end */
  #say(end) {
    if (!this.#content && end > this.#begin) {
      this.#content = { kind: "content", text: "", name: "", open: true };
      this.#parts.push(this.#content);
    }
    if (this.#content) {
      this.#content.text = this.#text.slice(this.#begin, end);
    }
  }

  /** @param {number} at where content may begin */
  #goOn(at) {
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
