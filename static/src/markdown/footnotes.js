/**
 * Footnotes: `[^1]` in the text, `[^1]: note` in a paragraph of its own. Notes stay where they
 * were written, usually at the end, so nothing moves while an answer is streamed.
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 */
import { h } from "../lib/dom.js";
import { fill, gettext } from "../lib/i18n.js";

const LABEL = /^\[\^([^\s\]^]{1,64})\]/u;
const DEFINITION = /^\[\^([^\s\]^]{1,64})\]:[ \t]*/u;

/** @param {MarkdownIt} parser */
export function withFootnotes(parser) {
  const escape = parser.utils.escapeHtml;

  parser.inline.ruler.before("link", "footnote_ref", (state, silent) => {
    const found = LABEL.exec(state.src.slice(state.pos, Math.min(state.posMax, state.pos + 70)));
    if (!found) {
      return false;
    }
    if (!silent) {
      state.push("footnote_ref", "", 0).info = found[1];
    }
    state.pos += found[0].length;
    return true;
  });

  parser.block.ruler.before(
    "reference",
    "footnote",
    (state, first, last, silent) => {
      const start = state.bMarks[first] + state.tShift[first];
      const found = DEFINITION.exec(state.src.slice(start, state.eMarks[first]));
      if (!found || state.sCount[first] - state.blkIndent >= 4) {
        return false;
      }
      if (silent) {
        return true;
      }
      const lines = [state.src.slice(start + found[0].length, state.eMarks[first])];
      let at = first + 1;
      for (; at < last && !state.isEmpty(at); at += 1) {
        const line = state.src.slice(state.bMarks[at] + state.tShift[at], state.eMarks[at]);
        if (DEFINITION.test(line) || state.sCount[at] < state.blkIndent) {
          break;
        }
        lines.push(line);
      }
      const open = state.push("footnote_open", "div", 1);
      open.info = found[1];
      open.map = [first, at];
      const inline = state.push("inline", "", 0);
      inline.content = lines.join("\n").trim();
      inline.map = [first, at];
      inline.children = [];
      state.push("footnote_close", "div", -1);
      state.line = at;
      return true;
    },
    { alt: ["paragraph", "reference"] },
  );

  const { rules } = parser.renderer;
  rules.footnote_ref = (tokens, index) => {
    const label = escape(tokens[index].info);
    return `<sup class="footnote-ref" data-note="${label}">${label}</sup>`;
  };
  rules.footnote_open = (tokens, index) => {
    const label = escape(tokens[index].info);
    return `<div class="footnote" dir="auto" data-note="${label}"><sup>${label}</sup> `;
  };
  rules.footnote_close = () => "</div>\n";
}

/**
 * Link marks to their notes and back.
 * @param {DocumentFragment} fragment
 */
export function linkFootnotes(fragment) {
  for (const mark of fragment.querySelectorAll("sup.footnote-ref")) {
    const label = mark.getAttribute("data-note") ?? "";
    const link = h("button", { type: "button", className: "note-link" }, label);
    link.ariaLabel = fill(gettext("Footnote {label}"), { label });
    link.onclick = () => goTo(mark, "div.footnote", label);
    mark.replaceChildren(link);
  }
  for (const note of fragment.querySelectorAll("div.footnote")) {
    const label = note.getAttribute("data-note") ?? "";
    const back = h("button", { type: "button", className: "note-link" }, "\u21a9");
    back.ariaLabel = fill(gettext("Back to footnote {label} in the text"), { label });
    back.onclick = () => goTo(note, "sup.footnote-ref", label);
    note.setAttribute("tabindex", "-1");
    note.append(" ", back);
  }
}

/**
 * @param {Element} from
 * @param {string} selector
 * @param {string} label
 */
function goTo(from, selector, label) {
  const text = from.closest(".md");
  const found = [...(text?.querySelectorAll(selector) ?? [])].find(
    (element) => element.getAttribute("data-note") === label,
  );
  const target = found?.matches("sup") ? found.querySelector("button") : found;
  if (target instanceof HTMLElement) {
    target.scrollIntoView({ block: "nearest" });
    target.focus({ preventScroll: true });
  }
}
