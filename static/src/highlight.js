/** Colours for code. Loaded with the first code block. */
import hljs from "highlight.js/lib/common";

/** Longer ones stay plain: colouring them would be felt. */
const MOST_UNITS = 60_000;

/**
 * @param {Element} code element whose text is coloured
 * @param {string} language as the fence says; an unknown one leaves it plain
 * @returns {boolean} whether it is coloured now
 */
export function highlight(code, language) {
  const text = code.textContent ?? "";
  if (!hljs.getLanguage(language) || text.length > MOST_UNITS) {
    return false;
  }
  // The result is the escaped text with spans around it.
  code.innerHTML = hljs.highlight(text, { language, ignoreIllegals: true }).value;
  return true;
}
