/**
 * Emphasis beside Chinese, Japanese and Korean text, which has no spaces: `**注意：**请看`. By
 * CommonMark's rule, marks between punctuation and a letter can't close. Here they can if one of
 * both is CJK, as in the proposed amendment of the specification
 * (commonmark-spec#650).
 *
 * @typedef {import("markdown-it").MarkdownIt} MarkdownIt
 */

const CJK =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\p{sc=Bopomofo}\u3001-\u303f\uff00-\uffef]/u;

/** @param {MarkdownIt} parser */
export function withCjkEmphasis(parser) {
  const { isWhiteSpace } = parser.utils;
  parser.inline.State = class extends parser.inline.State {
    /**
     * @param {number} start
     * @param {boolean} canSplitWord
     */
    scanDelims(start, canSplitWord) {
      const found = super.scanDelims(start, canSplitWord);
      const before = lastCharacter(this.src.slice(Math.max(0, start - 4), start));
      const after = this.src.codePointAt(start + found.length) ?? SPACE;
      const inside = start + found.length < this.posMax;
      if (!canSplitWord || !inside || isWhiteSpace(before) || isWhiteSpace(after)) {
        return found;
      }
      const beside = [before, after].some((code) => CJK.test(String.fromCodePoint(code)));
      return beside ? { ...found, can_open: true, can_close: true } : found;
    }
  };
}

const SPACE = 0x20;

/**
 * Return the code point of the last character, without a following variation selector.
 * @param {string} text
 */
function lastCharacter(text) {
  const last = [...text.replace(/[\ufe00-\ufe0e]|[\u{e0100}-\u{e01ef}]/gu, "")].at(-1);
  return last?.codePointAt(0) ?? SPACE;
}
