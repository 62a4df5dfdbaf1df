/** Syntax highlighting. Loaded with the first code block. */
import hljs from "highlight.js/lib/common";

const TAG_OR_TEXT = /<span[^>]*>|<\/span>|\n|&[^;]+;|[^<\n&]+/gu;

/**
 * @param {string} text
 * @param {string} language of the fence
 * @returns {string | null} the escaped text with spans around it; null for an unknown language
 */
export function coloured(text, language) {
  return hljs.getLanguage(language)
    ? hljs.highlight(text, { language, ignoreIllegals: true }).value
    : null;
}

/**
 * Find where the following text can be highlighted separately: the last line outside of all spans
 * that begins neither with a blank nor with a closing bracket. (It may be inside a construct
 * without a colour; then what follows looks a little different.)
 * @param {string} html highlighted text
 * @returns {{html: number, text: number} | null} offsets in both
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
