/** The mark in a conversation on what the model no longer sees. */
import { firstSeen } from "./context.js";
import { h } from "./dom.js";
import { gettext } from "./i18n.js";

const mark = h("p", { className: "seen-mark" });

/**
 * @param {HTMLElement} root of the thread; its turns name their messages (`data-message`)
 * @param {import("./thread.js").Step[]} path
 */
export function markSeen(root, path) {
  const id = firstSeen(path);
  const turn = id === null ? null : root.querySelector(`.turn[data-message="${CSS.escape(id)}"]`);
  if (!turn) {
    mark.remove();
  } else if (mark.parentElement !== turn) {
    mark.textContent = gettext("The model no longer sees what is above.");
    turn.prepend(mark);
  }
}
