/** A toast that confirms an action and offers to undo it. */
import { byId, h } from "./dom.js";
import { gettext } from "./i18n.js";

const SHOWN_MS = 12_000;
/** Distance to the composer, in pixels. */
const GAP = 12;

export class Toast {
  #element = byId("toast");
  /** @type {any} */
  #timer = null;

  constructor() {
    // Stay while the button is hovered or focused.
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
    this.#place();
    this.#wait();
  }

  /** Place the toast above the composer, or below it if that is in the middle of the page. */
  #place() {
    const { top } = byId("composer").getBoundingClientRect();
    const low = top > innerHeight / 2;
    this.#element.style.insetBlockEnd = low ? `${innerHeight - top + GAP}px` : "";
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
