/** Drag and drop of conversations: into a folder, out of a folder, into the archive. */
import { ARCHIVE, MAIN } from "../chat/conversations.js";

/** @typedef {import("../lib/wire").Conversation} Conversation */

// Only drags that started in this list: a link dragged from elsewhere is no conversation.
const KIND = "application/x-chatsite-conversations";

export class Dragging {
  /** @type {Conversation[]} */
  #items = [];
  /** @type {Element | null} */
  #target = null;

  /**
   * @param {HTMLElement} list rows have `data-id`, drop targets `data-folder` or `data-view`
   * @param {object} options
   * @param {(id: string) => Conversation[]} options.taken conversations that are dragged with a row
   * @param {(items: Conversation[], view: string) => void} options.onDrop
   */
  constructor(list, { taken, onDrop }) {
    this.taken = taken;
    this.onDrop = onDrop;
    list.addEventListener("dragstart", (event) => this.#begin(event));
    list.addEventListener("dragover", (event) => this.#over(event));
    list.addEventListener("dragleave", (event) => this.#leave(event));
    list.addEventListener("drop", (event) => this.#drop(event));
    list.addEventListener("dragend", () => this.#end());
  }

  /** @param {DragEvent} event */
  #begin(event) {
    const row = /** @type {Element} */ (event.target).closest("li[data-id]");
    if (row && event.dataTransfer) {
      this.#items = this.taken(row.getAttribute("data-id") ?? "");
      event.dataTransfer.setData(KIND, "");
      event.dataTransfer.effectAllowed = "copyMove";
    }
  }

  /** @param {DragEvent} event @returns {Element | null} drop target */
  #place({ target, dataTransfer }) {
    if (!dataTransfer?.types.includes(KIND) || !(target instanceof Element)) {
      return null;
    }
    const place = target.closest("[data-folder]") ?? target.closest(".view-heading");
    return place && this.#items.some((item) => !isIn(item, viewOf(place))) ? place : null;
  }

  /** @param {DragEvent} event */
  #over(event) {
    const place = this.#place(event);
    if (place && event.dataTransfer) {
      event.preventDefault();
      event.dataTransfer.dropEffect = "move";
    }
    this.#mark(place);
  }

  /** @param {DragEvent} event */
  #leave(event) {
    if (!this.#target?.contains(/** @type {Node | null} */ (event.relatedTarget))) {
      this.#mark(null);
    }
  }

  /** @param {DragEvent} event */
  #drop(event) {
    const place = this.#place(event);
    if (place) {
      event.preventDefault();
      this.onDrop(this.#items, viewOf(place));
    }
    this.#end();
  }

  #end() {
    this.#items = [];
    this.#mark(null);
  }

  /** @param {Element | null} place */
  #mark(place) {
    if (place !== this.#target) {
      this.#target?.classList.remove("target");
      place?.classList.add("target");
      this.#target = place;
    }
  }
}

/** @param {Element} place */
function viewOf(place) {
  return place.getAttribute("data-folder") ?? MAIN;
}

/**
 * @param {Conversation} item
 * @param {string} view
 */
function isIn(item, view) {
  if (view === ARCHIVE || item.archived) {
    return view === ARCHIVE && item.archived;
  }
  return item.folder === (view === MAIN ? null : view);
}
