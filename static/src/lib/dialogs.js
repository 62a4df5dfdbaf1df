/** Confirmation and prompt dialogs, and menus. */
import { attempt, byId, h, icon } from "./dom.js";

/**
 * Ask for confirmation in the page's dialog. The focus returns to where it was.
 * @param {string} title
 * @param {string} text
 * @param {string} action label of the button that does it
 * @param {"danger" | "primary"} [kind] of that button
 * @returns {Promise<boolean>}
 */
export function confirm(title, text, action, kind = "danger") {
  /** @type {HTMLDialogElement} */
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-action").textContent = action;
  byId("confirm-action").className = `button ${kind}`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/**
 * Ask for a name until the server accepts it or the user cancels.
 * @param {string} title
 * @param {string} label
 * @param {string} value
 * @param {(value: string) => Promise<unknown>} take rejects if the server refuses the name
 * @param {number} [limit] in characters
 * @returns {Promise<void>}
 */
export function ask(title, label, value, take, limit = 60) {
  /** @type {HTMLDialogElement} */
  const dialog = byId("ask");
  /** @type {HTMLInputElement} */
  const input = byId("ask-value");
  const problem = byId("ask-problem");
  byId("ask-title").textContent = title;
  byId("ask-label").textContent = label;
  input.maxLength = limit;
  input.value = value;
  problem.hidden = true;
  byId("ask-cancel").onclick = () => dialog.close();
  byId("ask-form").onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const wanted = input.value.trim();
    if (wanted && (await attempt(problem, take(wanted)))) {
      dialog.close();
    }
  };
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(), { once: true });
  });
}

/**
 * Open a menu below a button. Arrow keys move, Escape or a click elsewhere closes.
 * @param {HTMLElement} anchor
 * @param {{icon: string, label: string, danger?: boolean, run: () => void}[]} items
 * @param {() => void} onClose called if the focus has no element to return to
 */
export function openMenu(anchor, items, onClose) {
  const menu = h("div", { className: "menu", role: "menu", popover: "auto" });
  for (const { icon: name, label, danger, run } of items) {
    const item = h(
      "button",
      { type: "button", role: "menuitem", className: danger ? "danger" : "" },
      icon(name),
      label,
    );
    item.onclick = () => {
      menu.hidePopover();
      run();
    };
    menu.append(item);
  }
  menu.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = [...menu.querySelectorAll("button")];
    if (step) {
      event.preventDefault();
      const at = all.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
      all.at((at + step) % all.length)?.focus();
    } else if (event.key === "Tab") {
      menu.hidePopover();
    }
  });
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState === "closed") {
      anchor.setAttribute("aria-expanded", "false");
      menu.remove();
      if (document.activeElement === document.body) {
        onClose();
      }
    }
  });
  // Not beside its button, which may be rendered again meanwhile.
  (anchor.closest("aside, main") ?? document.body).append(menu);
  menu.showPopover();
  const [box, size] = [anchor.getBoundingClientRect(), menu.getBoundingClientRect()];
  const below = box.bottom + 4 + size.height < innerHeight;
  menu.style.top = `${below ? box.bottom + 4 : box.top - size.height - 4}px`;
  menu.style.left = `${Math.max(8, Math.min(box.left, innerWidth - size.width - 8))}px`;
  anchor.setAttribute("aria-expanded", "true");
  menu.querySelector("button")?.focus();
}
