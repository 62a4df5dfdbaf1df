/**
 * Find formulas in Markdown: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`. The rules are those of most
 * editors, so that prices stay prices. The document has the source until `formulas.js` renders it.
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 */

/** Longest formula in characters. */
const MOST_UNITS = 4000;
/** First line of a display formula: its mark, and the rest of the line. */
const BLOCK = /^(\$\$|\\\[)(.*)$/u;
const CLOSERS = /** @type {Record<string, string>} */ ({ $$: "$$", "\\[": "\\]" });

/** @param {MarkdownIt} parser */
export function withMath(parser) {
  const escape = parser.utils.escapeHtml;

  parser.inline.ruler.before("escape", "math", (state, silent) => {
    const found = inlineMath(state.src, state.pos, state.posMax);
    if (!found) {
      return false;
    }
    if (!silent) {
      const token = state.push("math", "", 0);
      token.content = found.source;
      token.markup = found.display ? "$$" : "$";
    }
    state.pos = found.end;
    return true;
  });

  parser.block.ruler.before(
    "fence",
    "math_block",
    (state, first, last, silent) => {
      if (state.sCount[first] - state.blkIndent >= 4) {
        return false;
      }
      const line = (/** @type {number} */ at) =>
        state.src.slice(state.bMarks[at] + state.tShift[at], state.eMarks[at]).trimEnd();
      const opened = BLOCK.exec(line(first));
      if (!opened) {
        return false;
      }
      const closer = CLOSERS[opened[1]];
      const inside = [];
      let at = first;
      let whole = false;
      for (let text = opened[2]; ; text = line(at)) {
        if (text.endsWith(closer)) {
          inside.push(text.slice(0, -closer.length));
          whole = true;
          at += 1;
          break;
        }
        // Text after the closing mark: an inline formula.
        if (text.includes(closer) || (at > first && text === "")) {
          return false;
        }
        inside.push(text);
        at += 1;
        if (at >= last || (state.sCount[at] < state.blkIndent && !state.isEmpty(at))) {
          // It may be incomplete: show the source until it is complete.
          break;
        }
      }
      const source = inside.join("\n").trim();
      if (source.length > MOST_UNITS) {
        return false;
      }
      if (!silent) {
        const token = state.push("math_block", "", 0);
        token.content = source;
        token.markup = whole ? opened[1] : "";
        token.map = [first, at];
        state.line = at;
      }
      return true;
    },
    { alt: ["paragraph", "reference", "blockquote", "list"] },
  );

  parser.renderer.rules.math = (tokens, index) => {
    const { content, markup } = tokens[index];
    const kind = markup === "$$" ? "math display" : "math";
    return `<span class="${kind}">${escape(content)}</span>`;
  };
  parser.renderer.rules.math_block = (tokens, index) => {
    const { content, markup } = tokens[index];
    const kind = markup ? "math display" : "math display source";
    return `<div class="${kind}">${escape(content)}</div>\n`;
  };
}

/**
 * Return the formula that begins at `pos`, if any.
 * @param {string} text
 * @param {number} pos
 * @param {number} max
 */
function inlineMath(text, pos, max) {
  const rest = text.slice(pos, Math.min(max, pos + MOST_UNITS));
  const two = rest.slice(0, 2);
  const closer = two === "\\(" ? "\\)" : CLOSERS[two];
  if (closer) {
    const end = rest.indexOf(closer, 2);
    return end < 0 ? null : formula(rest.slice(2, end), pos + end + 2, two !== "\\(");
  }
  if (two[0] !== "$" || /\s/u.test(two[1] ?? " ") || /[\w\\]/u.test(text[pos - 1] ?? "")) {
    return null;
  }
  let end = rest.indexOf("$", 1);
  while (end > 0 && rest[end - 1] === "\\") {
    end = rest.indexOf("$", end + 1);
  }
  if (end < 0 || /\s/u.test(rest[end - 1]) || /\d/u.test(rest[end + 1] ?? "")) {
    return null;
  }
  const source = rest.slice(1, end);
  return isPrice(source) ? null : formula(source, pos + end + 1, false);
}

/**
 * Return whether it is text between two prices: "5) vs (5". It begins with a number, and continues
 * as a sentence or closes a bracket that was opened before.
 * @param {string} source
 */
function isPrice(source) {
  if (!/^[\d.,]/u.test(source)) {
    return false;
  }
  const plain = source.replace(/\\[a-z]+\s*(\{[^}]*\})?/giu, "").replace(/\\./gu, "");
  return /[\s(](?!mod\s)\p{L}{2,}[\s,.;:]/u.test(plain) || /^[^([{"“]*[)"”]/u.test(plain);
}

/**
 * @param {string} source
 * @param {number} end
 * @param {boolean} display
 */
function formula(source, end, display) {
  const trimmed = source.trim();
  return trimmed ? { source: trimmed, end, display } : null;
}
