/**
 * Find a passage in the pieces of text that a PDF page consists of. Pure.
 *
 * The server reads a page with another library than the page: spaces, line ends and hyphens differ.
 * So texts are compared without them, and a piece counts if it is part of the passage and near
 * other such pieces.
 */

// Spaces, hyphens, and what the server adds to mark headings, tables and emphasis.
const IGNORED = /[\s\u00ad\u2010-\u2015\-#|*_`>]+/gu;
// A piece that is shorter proves nothing by itself.
const SURE = 6;
// Short pieces between two sure ones belong to the passage.
const GAP = 6;

/** @param {string} text */
export function plain(text) {
  return text.normalize("NFKC").replace(IGNORED, "").toLowerCase();
}

/**
 * Return for each piece whether it belongs to the passage.
 * @param {string[]} pieces in reading order
 * @param {string} passage
 * @returns {boolean[]}
 */
export function inPassage(pieces, passage) {
  const whole = plain(passage);
  const sure = pieces.map((piece) => {
    const text = plain(piece);
    return text.length >= SURE && whole.includes(text);
  });
  // Lines that the passage begins or ends within.
  const edges = pieces.map(() => false);
  for (const [index, piece] of pieces.entries()) {
    const text = plain(piece);
    if (!sure[index]) {
      edges[index] =
        (sure[index + 1] && overlap(text, whole) >= SURE) ||
        (sure[index - 1] && overlap(whole, text) >= SURE);
    }
  }
  const found = sure.map((is, index) => is || Boolean(edges[index]));
  let last = -1;
  for (const [index, is] of sure.entries()) {
    if (!is) {
      continue;
    }
    if (last >= 0 && index - last <= GAP) {
      for (let between = last + 1; between < index; between += 1) {
        const text = plain(pieces[between]);
        found[between] = text === "" || whole.includes(text);
      }
    }
    last = index;
  }
  return found;
}

/**
 * Return the length of the longest end of `first` that `second` begins with.
 * @param {string} first
 * @param {string} second
 */
function overlap(first, second) {
  for (let length = Math.min(first.length, second.length); length > 0; length -= 1) {
    if (second.startsWith(first.slice(-length))) {
      return length;
    }
  }
  return 0;
}
