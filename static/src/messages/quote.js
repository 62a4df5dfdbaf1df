/** A button beside selected text that quotes it in the message box. */
import { byId, h, icon } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";

/** Distance between selection and button, in pixels. */
const GAP = 8;

export class Quote {
  #button;

  /**
   * @param {HTMLElement} thread
   * @param {(text: string) => void} onQuote
   */
  constructor(thread, onQuote) {
    this.thread = thread;
    this.#button = h(
      "button",
      { type: "button", className: "button quote", hidden: true },
      icon("quote"),
      gettext("Quote"),
    );
    this.quote = () => {
      const text = this.selected();
      if (text) {
        document.getSelection()?.removeAllRanges();
        this.#button.hidden = true;
        onQuote(text);
      }
    };
    this.#button.onclick = this.quote;
    // Keep the selection when the button is pressed.
    this.#button.onpointerdown = (event) => event.preventDefault();
    byId("main").append(this.#button);
    for (const event of ["pointerup", "keyup"]) {
      document.addEventListener(event, () => setTimeout(() => this.#place()));
    }
    document.addEventListener("selectionchange", () => {
      if (!this.selected()) {
        this.#button.hidden = true;
      }
    });
    byId("scroll").addEventListener("scroll", () => this.#button.hidden || this.#place(), {
      passive: true,
    });
  }

  /** Return the selected text, "" unless it is within one message. */
  selected() {
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed || selection.rangeCount === 0) {
      return "";
    }
    const range = selection.getRangeAt(0);
    const { startContainer: start } = range;
    const element = start instanceof Element ? start : start.parentElement;
    const message = element?.closest(".md, .bubble");
    if (!message || !this.thread.contains(message)) {
      return "";
    }
    // The selection of a whole paragraph ends at the start of the next element.
    const beyond = document.createRange();
    beyond.selectNodeContents(message);
    beyond.collapse(false);
    if (range.comparePoint(beyond.startContainer, beyond.startOffset) === 0) {
      beyond.setEnd(range.endContainer, range.endOffset);
    }
    return beyond.toString().trim() === "" ? selection.toString().trim() : "";
  }

  #place() {
    if (!this.selected()) {
      return;
    }
    const box = document.getSelection()?.getRangeAt(0).getBoundingClientRect();
    if (!box) {
      return;
    }
    const view = byId("scroll").getBoundingClientRect();
    this.#button.hidden = box.bottom < view.top || box.top > view.bottom;
    const size = this.#button.getBoundingClientRect();
    const above = box.top - size.height - GAP;
    const left = Math.min(box.left, innerWidth - size.width - GAP);
    this.#button.style.top = `${above > GAP ? above : box.bottom + GAP}px`;
    this.#button.style.left = `${Math.max(GAP, left)}px`;
  }
}
