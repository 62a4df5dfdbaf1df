/** Colours for code. Loaded with the first code block. */
import hljs from "highlight.js/lib/common";

const TAG_OR_TEXT = /<span[^>]*>|<\/span>|\n|&[^;]+;|[^<\n&]+/gu;

/**
 * @param {string} text
 * @param {string} language as the fence says
 * @returns {string | null} the escaped text with spans around it; null for an unknown language
 */
export function coloured(text, language) {
  return hljs.getLanguage(language)
    ? hljs.highlight(text, { language, ignoreIllegals: true }).value
    : null;
}

/**
 * Where what follows can be coloured by itself: at the last line outside of all spans that begins
 * neither with a blank nor with a closing bracket. (It may be within something that has no colour
 * of its own; then what follows looks a little different.)
 * @param {string} html coloured text
 * @returns {{html: number, text: number} | null} how much is before it
 */
export function lastCut(html) {
  let [depth, text] = [0, 0];
  /** @type {{html: number, text: number} | null} */
  let cut = null;
  /** @type {{html: number, text: number} | null} */
  let line = null;
  for (const { 0: token, index } of html.matchAll(TAG_OR_TEXT)) {
    if (token.startsWith("<span")) {
      depth += 1;
    } else if (token === "</span>") {
      depth -= 1;
    } else {
      if (line && !/^[\s)\]}]/u.test(token)) {
        cut = line;
      }
      text += token.startsWith("&") ? 1 : token.length;
      line = token === "\n" && depth === 0 ? { html: index + 1, text } : null;
    }
  }
  return cut;
}
