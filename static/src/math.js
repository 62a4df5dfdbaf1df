/**
 * Where formulas are in Markdown: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`. Which marks are meant as
 * such is decided as most editors do it, so that prices stay prices. The formula's source stands
 * in the document until `formulas.js` has drawn it.
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 */

/** Longer ones are no formulas. */
const MOST_UNITS = 4000;
/** A line that begins a formula of its own: its mark, and what follows in the line. */
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
        // Text behind the mark that closes it: a formula within a sentence.
        if (text.includes(closer) || (at > first && text === "")) {
          return false;
        }
        inside.push(text);
        at += 1;
        if (at >= last || (state.sCount[at] < state.blkIndent && !state.isEmpty(at))) {
          // It may be half written: its source stands there until it is whole.
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
 * The formula that begins at `pos`, if one does.
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
  return formula(rest.slice(1, end), pos + end + 1, false);
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
