/**
 * Preferences and drafts in `localStorage`, which may be full or disabled. What belongs to a
 * temporary chat is in `sessionStorage`, which ends with the tab.
 */

/** Begins the ids and keys of temporary chats. */
export const TEMPORARY = "temporary~";

/** @param {string} id of a conversation, a message or a stored entry */
export function isTemporary(id) {
  return id.includes(TEMPORARY);
}

/** @param {string} key */
function storageOf(key) {
  return isTemporary(key) ? sessionStorage : localStorage;
}

/** @param {string} key */
export function recall(key) {
  try {
    return storageOf(key).getItem(`chatsite:${key}`);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string | null} value null removes the entry
 * @returns {boolean} whether it is stored
 */
export function remember(key, value) {
  try {
    if (value === null) {
      storageOf(key).removeItem(`chatsite:${key}`);
    } else {
      storageOf(key).setItem(`chatsite:${key}`, value);
    }
    return true;
  } catch {
    // The preference is lost; there is nothing to do about it.
    return false;
  }
}

/** Remove all entries of the tab whose key contains a text. @param {string} part */
export function forgetAll(part) {
  try {
    for (const key of Object.keys(sessionStorage)) {
      if (key.startsWith("chatsite:") && key.includes(part)) {
        sessionStorage.removeItem(key);
      }
    }
  } catch {
    // Without storage there is nothing to remove.
  }
}
