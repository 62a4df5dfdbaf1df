/** What the browser remembers. Storage may be full or switched off; the page works without. */

/** @param {string} key */
export function recall(key) {
  try {
    return localStorage.getItem(`chatsite:${key}`);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string | null} value null forgets
 */
export function remember(key, value) {
  try {
    if (value === null) {
      localStorage.removeItem(`chatsite:${key}`);
    } else {
      localStorage.setItem(`chatsite:${key}`, value);
    }
  } catch {
    // Nothing to be done, and nothing that the person could do about it.
  }
}
