/**
 * Citation marks `[2]`, `[1, 3]` of an answer as buttons. Numbers without a passage are not shown.
 *
 * The rules are those of the server (`conversations/citation_marks.py`), which removes such numbers
 * from the saved text; both are tested on `tests/cases/citations.json`. Code, formulas, links and
 * footnotes are found by the parser's other rules.
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 *
 * @typedef {object} Cites what an answer may cite
 * @property {number} count of its passages
 * @property {Record<number, string>} labels what each number stands for: name and page
 */

// Four digits are a year.
const MARK = /^\[(\d{1,3}(?:[ \t]*[,，、;][ \t]*\d{1,3}){0,20})\]/u;
// An index in prose: `a[9] = 5`, `rows_of[9]`, `rowCount[9]`.
const INDEXED = /(?:(?<![A-Za-z0-9_])[a-z]|[A-Za-z0-9]*_\w*|\b[a-z]+[A-Z]\w*)$/u;
const USED_AS_INDEX = /^[ \t]*(?:[-+*/]?=(?!=)|\.[A-Za-z_])/u;
const NAME_CHARS = 64;
const MARK_CHARS = 130;

/** @param {MarkdownIt} parser */
export function withCitations(parser) {
  parser.inline.ruler.before("link", "citation", (state, silent) => {
    const env = /** @type {Record<string, any>} */ (state.env);
    const cites = /** @type {Cites | undefined} */ (env.cites);
    if (!cites || state.src[state.pos] !== "[") {
      return false;
    }
    const { pos, src } = state;
    const found = MARK.exec(src.slice(pos, Math.min(state.posMax, pos + MARK_CHARS)));
    if (!found || !isMark(src, pos, pos + found[0].length)) {
      return false;
    }
    const numbers = found[1].split(/\D+/u).map(Number);
    const shown = numbers.filter((one) => one >= 1 && one <= cites.count);
    const others = numbers.filter((one) => !shown.includes(one));
    // A reference that the text defines itself: "[9]: https://…".
    if (others.some((one) => env.references?.[String(one)])) {
      return false;
    }
    if (!silent) {
      if (shown.length > 0) {
        state.push("citation", "", 0).meta = { numbers: shown };
      } else {
        state.pending = state.pending.replace(/[ \t]+$/u, "");
      }
    }
    state.pos += found[0].length;
    return true;
  });

  parser.renderer.rules.citation = (tokens, index) => {
    const numbers = /** @type {number[]} */ (tokens[index].meta?.numbers);
    return numbers.map((one) => `<span class="cite" data-cite="${one}"></span>`).join("");
  };
}

/**
 * @param {string} text
 * @param {number} start
 * @param {number} end
 */
function isMark(text, start, end) {
  const before = text.slice(Math.max(0, start - NAME_CHARS), start);
  if (/[!\\[]$/u.test(before) || text[end] === "(") {
    return false;
  }
  const indexes = /[\p{L}\p{N}]$/u.test(before) && USED_AS_INDEX.test(text.slice(end, end + 20));
  return !indexes && !INDEXED.test(before);
}

/**
 * Turn the marks of a rendered piece into buttons, which the view handles.
 * @param {DocumentFragment} fragment
 * @param {Cites | undefined} cites
 */
export function linkCitations(fragment, cites) {
  for (const mark of fragment.querySelectorAll("span.cite")) {
    const number = Number(mark.getAttribute("data-cite"));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cite";
    button.textContent = String(number);
    button.setAttribute("data-cite", String(number));
    button.setAttribute("aria-label", cites?.labels[number] ?? String(number));
    mark.replaceWith(button);
  }
}
