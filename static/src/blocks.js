/**
 * Cuts Markdown that is still being written into pieces that are final and a rest that is not.
 *
 * Only whole lines decide, and of them all but the last block (of a list: all but its last
 * item) are final, since whatever follows can only go on the last one. So each piece is parsed
 * for good once, and a frame costs as much as the last paragraph, however long the answer.
 *
 * @typedef {object} Piece
 * @property {"block" | "item" | "code"} kind `item` goes on the list before it; `code` is what
 *   is inside a fence that is still open
 * @property {string} source
 * @property {string} [language] of `code`: the words behind the fence
 * @property {string} [inside] of a fence that was shown as `code` before: what is inside of it
 *
 * @typedef {{done: Piece[], live: Piece | null}} Cut
 *
 * @typedef {object} Unit a top-level block, or an item of the last list
 * @property {string} type
 * @property {number} start first line
 */

const LINE_END = /\r\n?|\n/gu;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*(.*?)[ \t]*$/u;

/**
 * Offsets at which lines begin, and at last the length.
 * @param {string} text
 */
function lineStarts(text) {
  const starts = [0];
  for (const match of text.matchAll(LINE_END)) {
    starts.push(match.index + match[0].length);
  }
  if (starts.at(-1) !== text.length) {
    starts.push(text.length);
  }
  return starts;
}

// A line that may yet become a marker: shown when it is known what it is.
const HALF_MARKER = /(?:^|\n)[ \t]*(?:[-+*_=~`>#|]+|\d{1,9}[.)]?)[ \t]*$/u;

export class Blocks {
  /** End of what is final. */
  #final = 0;
  /** End of the whole lines that were looked at. */
  #seen = 0;
  /** True when the rest begins with an item of a list whose first items are final. */
  #inList = false;
  /**
   * `closing` is where the line begins that closes it, once there is one.
   * @type {{mark: string, size: number, language: string, from: number, scanned: number,
   *   closing: number} | null}
   */
  #fence = null;

  /** @param {import("markdown-it").MarkdownIt} parser */
  constructor(parser) {
    this.parser = parser;
  }

  /**
   * @param {string} source the text so far: what was given before and more
   * @param {boolean} [complete] nothing follows
   * @returns {Cut}
   */
  cut(source, complete = false) {
    /** @type {Piece[]} */
    const done = [];
    const lines = complete ? source.length : source.lastIndexOf("\n") + 1;
    this.#advance(source, lines, done);
    if (complete) {
      if (this.#final < source.length) {
        const inside = this.#fence ? source.slice(this.#fence.from) : undefined;
        done.push({ kind: this.#kind(), source: source.slice(this.#final), inside });
      }
      this.#final = this.#seen = source.length;
      return { done, live: null };
    }
    const shown = source.length - (HALF_MARKER.exec(source.slice(lines))?.[0].length ?? 0);
    if (this.#fence) {
      const { from, language } = this.#fence;
      return { done, live: { kind: "code", source: source.slice(from, shown), language } };
    }
    const rest = source.slice(this.#final, shown);
    return { done, live: rest.trim() ? { kind: this.#kind(), source: rest } : null };
  }

  /** @returns {"item" | "block"} */
  #kind() {
    return this.#inList ? "item" : "block";
  }

  /**
   * Moves what is final out of the rest.
   * @param {string} source
   * @param {number} lines end of the whole lines
   * @param {Piece[]} done
   */
  #advance(source, lines, done) {
    for (;;) {
      if (this.#fence) {
        const end = this.#closingFence(source, lines);
        if (end === 0) {
          return;
        }
        const inside = source.slice(this.#fence.from, this.#fence.closing);
        done.push({ kind: "block", source: source.slice(this.#final, end), inside });
        this.#final = end;
        this.#fence = null;
      } else if (lines <= this.#seen) {
        return;
      }
      this.#seen = lines;
      this.#take(source, lines, done);
      if (!this.#fence) {
        return;
      }
    }
  }

  /**
   * @param {string} source
   * @param {number} lines
   * @param {Piece[]} done
   */
  #take(source, lines, done) {
    const rest = source.slice(this.#final, lines);
    const units = this.#units(rest);
    const starts = lineStarts(rest);
    let from = 0;
    for (let index = 1; index < units.length; index += 1) {
      const [unit, next] = [units[index - 1], units[index]];
      // Up to where the next one begins, so that blank lines and link definitions go along.
      done.push({ kind: this.#kind(), source: rest.slice(from, starts[next.start]) });
      from = starts[next.start];
      this.#inList = unit.type === "item" && next.type === "item";
    }
    const last = units.at(-1);
    if (last?.type === "fence") {
      if (rest.slice(from, starts[last.start]).trim()) {
        done.push({ kind: "block", source: rest.slice(from, starts[last.start]) });
      }
      from = starts[last.start];
    }
    this.#final += from;
    if (last?.type === "fence") {
      this.#openFence(source);
    }
  }

  /**
   * Top-level blocks; the last one, if it is a list, by its items.
   * @param {string} text
   * @returns {Unit[]}
   */
  #units(text) {
    /** @type {import("markdown-it").Token[]} */
    const tokens = [];
    this.parser.block.parse(text.replace(/\r\n?/gu, "\n"), this.parser, {}, tokens);
    /** @type {Unit[]} */
    const units = [];
    /** @type {Unit[]} */
    let items = [];
    for (const token of tokens) {
      if (!token.map || token.nesting < 0) {
        continue;
      }
      if (token.level === 0) {
        items = [];
        units.push({ type: token.type, start: token.map[0] });
      } else if (token.level === 1 && token.type === "list_item_open") {
        items.push({ type: "item", start: token.map[0] });
      }
    }
    if (items.length > 0) {
      units.splice(-1, 1, ...items);
    }
    return units;
  }

  /**
   * What is not final begins with a fence: only new lines are looked at from now on.
   * @param {string} source
   */
  #openFence(source) {
    const from = source.indexOf("\n", this.#final) + 1;
    const match = FENCE.exec(source.slice(this.#final, from).trimEnd());
    if (match && from > 0) {
      const [, marks, language] = match;
      const [mark, size] = [marks[0], marks.length];
      this.#fence = { mark, size, language, from, scanned: from, closing: from };
    }
  }

  /**
   * End of the line that closes the fence, 0 while none does.
   * @param {string} source
   * @param {number} lines
   */
  #closingFence(source, lines) {
    const fence = this.#fence;
    while (fence && fence.scanned < lines) {
      const end = source.indexOf("\n", fence.scanned) + 1 || lines;
      const match = FENCE.exec(source.slice(fence.scanned, end).trimEnd());
      fence.closing = fence.scanned;
      fence.scanned = end;
      if (match && match[1][0] === fence.mark && match[1].length >= fence.size && !match[2]) {
        return end;
      }
    }
    return 0;
  }
}
