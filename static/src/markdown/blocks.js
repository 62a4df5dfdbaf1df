/**
 * Split streamed Markdown into final pieces and a rest that may still change.
 *
 * Only whole lines count. All blocks but the last one (of a list: all but its last item) are final,
 * since text that follows can only extend the last one. So each piece is parsed once, and the cost
 * of a frame is that of the last paragraph, however long the answer.
 *
 * @typedef {object} Piece
 * @property {"block" | "item" | "code"} kind `item` continues the list before it; `code` is the
 *   content of an open fence
 * @property {string} source
 * @property {string} [language] of `code`: the info string of the fence
 * @property {string} [inside] content of a fence that was shown as `code` before
 *
 * @typedef {{done: Piece[], live: Piece | null}} Cut
 *
 * @typedef {object} Unit a top-level block, or an item of the last list
 * @property {string} type
 * @property {number} start first line
 */

const LINE_END = /\r\n?|\n/gu;
// For lines without trailing blanks. Each pattern reads a character once.
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*(.*)$/u;

/**
 * Return the offsets of lines, followed by the length.
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

// An incomplete line that may become a marker: not shown until it is known.
const HALF_MARKER = /(?:^|\n)[ \t]*(?:[-+*_=~`>#|]+|\d{1,9}[.)]?)[ \t]*$/u;

export class Blocks {
  /** End of the final text. */
  #final = 0;
  /** End of the whole lines that were scanned. */
  #seen = 0;
  /** Whether the rest begins with an item of a list whose first items are final. */
  #inList = false;
  /**
   * `closing` is the start of the line that closes it, once there is one.
   * @type {{mark: string, size: number, language: string, from: number, scanned: number,
   *   closing: number} | null}
   */
  #fence = null;

  /** @param {import("markdown-it").MarkdownIt} parser */
  constructor(parser) {
    this.parser = parser;
  }

  /**
   * @param {string} source the text so far, which extends the text given before
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
   * Move final pieces out of the rest.
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
      // Up to the start of the next one, with blank lines and link definitions in between.
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
   * Return the top-level blocks; the last one, if it is a list, by its items.
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
   * The rest begins with a fence: scan new lines only.
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
   * Return the end of the line that closes the fence, 0 if none does.
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
