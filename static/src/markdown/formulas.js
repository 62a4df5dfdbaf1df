/**
 * Render formulas as MathML, which needs no additional fonts or styles and is supported by screen
 * readers. Loaded with the first formula.
 */
import DOMPurify from "dompurify";
import katex from "katex";

/** Limits: size in em, macro expansions, cached formulas. */
const LIMITS = { maxSize: 20, maxExpand: 200 };
const KEPT = 500;

const CLEAN = {
  ALLOWED_TAGS: (
    "math semantics mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle merror mpadded mphantom " +
    "menclose msub msup msubsup munder mover munderover mmultiscripts mprescripts mtable mtr mtd"
  ).split(" "),
  ALLOWED_ATTR: (
    "accent accentunder columnalign columnlines columnspacing depth display displaystyle fence " +
    "form height largeop linebreak linethickness lspace mathbackground mathcolor mathsize " +
    "mathvariant maxsize minsize movablelimits notation rowlines rowspacing rspace scriptlevel " +
    "separator stretchy symmetric voffset width"
  ).split(" "),
  // Remove the annotation with the source, which would be copied too.
  FORBID_CONTENTS: ["annotation"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

/** @type {Map<string, DocumentFragment | null>} null: no formula after all */
const drawn = new Map();

/**
 * @param {string} source
 * @param {boolean} display
 */
function make(source, display) {
  try {
    const html = katex.renderToString(source, {
      ...LIMITS,
      displayMode: display,
      output: "mathml",
      throwOnError: true,
      strict: "ignore",
      trust: false,
    });
    return DOMPurify.sanitize(html, CLEAN);
  } catch {
    return null;
  }
}

/**
 * Replace the source by MathML; a formula with errors stays as it was written.
 * @param {Element} element of class `math`
 */
export function draw(element) {
  const source = element.textContent ?? "";
  const display = element.classList.contains("display");
  const key = `${display} ${source}`;
  let fragment = drawn.get(key);
  if (fragment === undefined) {
    fragment = make(source, display);
    if (drawn.size >= KEPT) {
      drawn.delete(drawn.keys().next().value ?? "");
    }
    drawn.set(key, fragment);
  }
  element.classList.add(fragment ? "drawn" : "source");
  if (fragment) {
    element.replaceChildren(fragment.cloneNode(true));
  }
}
