/** The features that the user may use, as the server last said. The server enforces them. */

/** @type {Set<string>} */
let allowed = new Set();

/**
 * Show the controls of these features only: an element with `data-needs` is hidden unless one of
 * the features that it names is allowed.
 * @param {string[]} names
 */
export function setFeatures(names) {
  allowed = new Set(names);
  for (const element of document.querySelectorAll("[data-needs]")) {
    const needed = /** @type {HTMLElement} */ (element).dataset.needs?.split(" ") ?? [];
    element.classList.toggle("not-allowed", !needed.some(allows));
  }
}

/** @param {string} name */
export function allows(name) {
  return allowed.has(name);
}
