/** What was just done, with a way back. */
import { byId, h } from "./dom.js";
import { gettext } from "./i18n.js";

const SHOWN_MS = 12_000;

export class Toast {
  #element = byId("toast");
  /** @type {any} */
  #timer = null;

  constructor() {
    // Whoever is on their way to the button is not hurried.
    for (const name of ["pointerenter", "focusin"]) {
      this.#element.addEventListener(name, () => clearTimeout(this.#timer));
    }
    for (const name of ["pointerleave", "focusout"]) {
      this.#element.addEventListener(name, () => this.#wait());
    }
  }

  /**
   * @param {string} text
   * @param {(() => void) | null} [undo]
   */
  show(text, undo = null) {
    const button = h(
      "button",
      {
        type: "button",
        className: "button",
        onclick: () => {
          this.hide();
          undo?.();
        },
      },
      gettext("Undo"),
    );
    this.#element.replaceChildren(h("span", {}, text), undo ? button : "");
    this.#element.hidden = false;
    this.#wait();
  }

  hide() {
    clearTimeout(this.#timer);
    this.#element.hidden = true;
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.hide(), SHOWN_MS);
  }
}
