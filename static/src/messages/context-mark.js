/** Mark where the model's context begins in a conversation. */
import { firstInContext } from "../chat/context.js";
import { h } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";

const mark = h("p", { className: "seen-mark" });

/**
 * @param {HTMLElement} root of the thread; its turns name their messages (`data-message`)
 * @param {import("../chat/thread.js").Step[]} path
 */
export function markContextStart(root, path) {
  const id = firstInContext(path);
  const turn = id === null ? null : root.querySelector(`.turn[data-message="${CSS.escape(id)}"]`);
  if (!turn) {
    mark.remove();
  } else if (mark.parentElement !== turn) {
    mark.textContent = gettext("Messages above this line are no longer sent to the model.");
    turn.prepend(mark);
  }
}
